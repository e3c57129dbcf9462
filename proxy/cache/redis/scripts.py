"""The scripts of Redis: what it does in one step, in its own language.

A log belongs to one run of one Redis process. If the log is not there, or the process is another one that may have lost
the end of it, a new run begins, and what was stored under the run before is not found any more.
"""

from __future__ import annotations

from typing import Final

from proxy.cache import bounds
from proxy.cache.entry import MAX_ENCODED
from proxy.cache.invalidation.policy import FARTHEST

LONGEST_STORED: Final = MAX_ENCODED + 64
"""The most bytes of the metadata of a stored response with its deadline and number; what is longer is not read."""

# Both begin with the keys LOG, INVALIDATIONS, ERASED, NODES, BLOCK_ENDS, BLOCK_NAMES and the argument of a new run's
# name. Keys of another type than ours, and numbers that no log of ours has, are a fault's or another program's: a new
# run begins in their place, and each node gives it the blocks that it knows. A server that is full refuses what would
# take memory, unless the script has removed something before: the log is read and written even then.
_BEGIN: Final = """
local kinds, whole = {'hash', 'zset', 'zset', 'hash', 'zset', 'zset'}, true
for i, name in ipairs(KEYS) do
  local kind = redis.call('TYPE', name)['ok']
  if kind ~= kinds[i] and kind ~= 'none' then
    redis.call('DEL', name)
    whole = false
  end
end
redis.call('HDEL', KEYS[1], '')
-- Names are in lexical order, and found by it, only while each has the score 0.
for _, ends in ipairs({{'-inf', '(0'}, {'(0', '+inf'}}) do
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], ends[1], ends[2], 'LIMIT', 0, 100)) do
    redis.call('ZADD', KEYS[6], 0, name)
  end
end
local function natural(text, most)
  local value = tonumber(text)
  if value and value >= 0 and value <= most and value == math.floor(value) then return value end
end
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local known = redis.call('HMGET', KEYS[1], 'run', 'server', 'number', 'floor', 'began', 'forgotten')
local run, number, began = known[1], natural(known[3], LAST), tonumber(known[5])
local floor, forgotten = natural(known[4], number or 0), natural(known[6], number or 0)
local time = redis.call('TIME')
local present = time[1] + time[2] / 1000000
for i = 2, 3 do
  local last = redis.call('ZRANGE', KEYS[i], -1, -1, 'WITHSCORES')[2]
  if last and not (number and tonumber(last) <= number) then whole = false end
end
if began and not (began >= 0 and began <= present) then
  began = present
  redis.call('HSET', KEYS[1], 'began', string.format('%.3f', present))
end
if not run or #run > 64 or not string.match(run, '^%w+$') or known[2] ~= server then whole = false end
if not whole or not number or not floor or not forgotten then
  run, number, floor, began = ARGV[1], 0, 0, present
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
  redis.call('HSET', KEYS[1], 'run', run, 'server', server, 'number', 0, 'floor', 0, 'forgotten', 0,
    'began', string.format('%.3f', present))
end
""".replace("LAST", str(bounds.LAST_LOGGED - 1))

EXCHANGE: Final = (
    _BEGIN
    + """
-- ARGV: the node, the run and number that it has followed to, how many members of the log it takes, and the longest
-- one that can be read: in place of a longer one an empty text is sent.
redis.call('HSET', KEYS[4], ARGV[2], ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. string.format('%.3f', present))
local changes = {}
if run == ARGV[3] then
  changes = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[4], '+inf', 'LIMIT', 0, ARGV[5])
  for i, change in ipairs(changes) do
    if #change > tonumber(ARGV[6]) then changes[i] = '' end
  end
end
return {run, number, floor, changes}
"""
)

WRITE: Final = (
    _BEGIN
    + """
-- ARGV: the action, the prefix, a kind of block, an end ('' for none), now, the record, the channel, how many members
-- of the log and erased prefixes are kept, how many blocks may hold, and how old a run has to be. Blocks are decided on
-- as `invalidation.policy` says. Of a block too many nothing is written: returns {}. In a young run some of those who
-- followed the last one have not said yet which blocks hold: returns 0 and the seconds to wait.
local action, prefix, name, till, now = ARGV[2], ARGV[3], ARGV[4] .. '/' .. ARGV[3], ARGV[5], tonumber(ARGV[6])
local change, wait = ARGV[7], tonumber(ARGV[12]) - (present - (began or 0))
if action ~= 'restore' and wait > 0 then return {0, string.format('%.3f', wait)} end
if action == 'judge' or action == 'restore' then
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', KEYS[5], old)
    redis.call('ZREM', KEYS[6], old)
  end
  local before = tonumber(redis.call('ZSCORE', KEYS[5], name) or '-inf')
  if action == 'restore' and before >= tonumber(till) then return {run, number} end
  if before <= now and tonumber(till) > now then
    if redis.call('ZCOUNT', KEYS[5], '(' .. ARGV[6], '+inf') >= tonumber(ARGV[11]) then return {} end
  end
  if before < tonumber(till) and tonumber(till) > now then
    redis.call('ZADD', KEYS[5], till, name)
    redis.call('ZADD', KEYS[6], 0, name)
  end
elseif action == 'lift' then
  local last
  for _, held in ipairs(redis.call('ZRANGEBYLEX', KEYS[6], '[' .. name, '(' .. name .. '\\255')) do
    local ends = tonumber(redis.call('ZSCORE', KEYS[5], held) or '0')
    if till == '' or ends <= tonumber(till) then
      -- A block whose end is lost here has one in the other nodes.
      last = math.max(last or 0, redis.call('ZREM', KEYS[5], held) == 1 and ends or math.huge)
      redis.call('ZREM', KEYS[6], held)
    end
  end
  -- A worker that comes late applies this after another one of its folder has heard that the same was blocked again,
  -- which ends later. So the record says up to where it lifts, in place of the nil (MessagePack's 0xc0) at its end.
  if till == '' and last and last <= FARTHEST then
    change = string.sub(change, 1, -2) .. '\\203' .. struct.pack('>d', last)
  end
end
number = number + 1
redis.call('ZADD', KEYS[2], number, number .. ' ' .. change)
redis.call('ZADD', KEYS[3], number, prefix)
local over = redis.call('ZRANGE', KEYS[2], 0, -(tonumber(ARGV[9]) + 1), 'WITHSCORES')
if #over > 0 then
  floor = tonumber(over[#over])
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', floor)
end
over = redis.call('ZRANGE', KEYS[3], 0, -(tonumber(ARGV[10]) + 1), 'WITHSCORES')
if #over > 0 then
  redis.call('HSET', KEYS[1], 'forgotten', over[#over])
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', over[#over])
end
redis.call('HSET', KEYS[1], 'number', number, 'floor', floor)
redis.call('PUBLISH', ARGV[8], number)
return {run, number}
""".replace("FARTHEST", f"{FARTHEST:.0f}")
)

BEHIND: Final = """
-- KEYS: NODES. ARGV: a run and number, the seconds after which a silent node counts no more, and is forgotten.
local time = redis.call('TIME')
local now, behind = time[1] + time[2] / 1000000, 0
local nodes = redis.call('HGETALL', KEYS[1])
for i = 1, #nodes, 2 do
  local run, number, seen = string.match(nodes[i + 1], '^(%S*) (%S+) (%S+)$')
  local silent = now - (tonumber(seen) or 0)
  if not (silent >= -tonumber(ARGV[4]) and silent <= tonumber(ARGV[4])) then
    redis.call('HDEL', KEYS[1], nodes[i])
  elseif silent <= tonumber(ARGV[3]) and (run ~= ARGV[1] or (tonumber(number) or -1) < tonumber(ARGV[2])) then
    behind = behind + 1
  end
end
return behind
"""

ROOM: Final = """
-- KEYS: BLOCK_ENDS. ARGV: now, and names of blocks. Returns how many hold, and how many of the named ones do not.
local more = 0
for i = 2, #ARGV do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or '-inf') <= tonumber(ARGV[1]) then more = more + 1 end
end
return {redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[1], '+inf'), more}
"""

BLOCKS: Final = """
-- KEYS: BLOCK_ENDS, BLOCK_NAMES. ARGV: the name after which to begin, how many, and how long the name of a block
-- can be: one that is longer goes. Names and ends in turn.
local found = {}
local names = redis.call('ZRANGEBYLEX', KEYS[2], '(' .. ARGV[1], '+', 'LIMIT', 0, ARGV[2])
for i, name in ipairs(names) do
  if #name > tonumber(ARGV[3]) then
    redis.call('ZREM', KEYS[1], name)
    redis.call('ZREM', KEYS[2], name)
    names[i] = ''
  end
end
for _, name in ipairs(names) do
  found[#found + 1] = name
  found[#found + 1] = redis.call('ZSCORE', KEYS[1], name) or '0'
end
return found
"""

# The keys LOG, ERASED, and the arguments of a run and of all prefixes that cover a key, their number first: `last` is
# the number of the last erasure that covers or may have covered it; nil if the run is over.
_LAST: Final = """
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local known = redis.call('HMGET', KEYS[1], 'run', 'server', 'forgotten', 'number')
local last = nil
if known[1] == ARGV[1] and known[2] == server then
  last = tonumber(known[3])
  for i = 3, tonumber(ARGV[2]) + 2 do
    last = math.max(last, tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or '0'))
  end
end
local rest = tonumber(ARGV[2]) + 2
"""

_STORED: Final = """
local function stored(name)
  if redis.call('TYPE', name)['ok'] ~= 'string' then return false end
  local length = redis.call('STRLEN', name)
  return length > 8 and length <= LONGEST and redis.call('GET', name)
end
""".replace("LONGEST", str(LONGEST_STORED))

FETCH: Final = (
    _STORED
    + _LAST
    + """
-- KEYS: the metadata. Returns it, `last`, and the number of the last invalidation.
if not last then return {} end
local value = stored(KEYS[3])
if not value then return {} end
return {value, last, tonumber(known[4]) or 0}
"""
)

SAVE: Final = (
    _STORED
    + _LAST
    + """
-- KEYS: the metadata, the index. ARGV: the key, the number at the beginning of the fill, the value, its time to live in
-- ms ('' for none), now, which value it replaces ('any' or 'this'), and that value without its deadline.
-- Returns whether it is done, and the value that it has replaced.
local key, number, value, life = ARGV[rest + 1], tonumber(ARGV[rest + 2]), ARGV[rest + 3], ARGV[rest + 4]
local now, over, expected = tonumber(ARGV[rest + 5]), ARGV[rest + 6], ARGV[rest + 7]
if not last or number < last then return {0} end
if redis.call('TYPE', KEYS[4])['ok'] ~= 'zset' then redis.call('DEL', KEYS[4]) end
local old = stored(KEYS[3])
local live = old and struct.unpack('>d', old) > now
if over == 'this' and not (live and string.sub(old, 9) == expected) then return {0} end
if life == '' then
  redis.call('SET', KEYS[3], value)
  redis.call('ZADD', KEYS[4], 0, key)
  redis.call('PERSIST', KEYS[4])
else
  redis.call('SET', KEYS[3], value, 'PX', life)
  local left = redis.call('PTTL', KEYS[4])
  redis.call('ZADD', KEYS[4], 0, key)
  if left ~= -1 and left < tonumber(life) then redis.call('PEXPIRE', KEYS[4], life) end
end
-- The index forgets what has ended by itself: with each value that comes, two of its keys are looked at.
local stem = string.sub(KEYS[3], 1, #KEYS[3] - #key)
for _, other in ipairs(redis.call('ZRANDMEMBER', KEYS[4], 2)) do
  if redis.call('EXISTS', stem .. other) == 0 then redis.call('ZREM', KEYS[4], other) end
end
return {1, old}
"""
)

DROP: Final = (
    _STORED
    + """
-- KEYS: the metadata, the index. ARGV: the key, and the value without its deadline that is dropped ('' for any).
local old = stored(KEYS[1])
if ARGV[2] ~= '' and (not old or string.sub(old, 9) ~= ARGV[2]) then return false end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return old
"""
)

TAKE_LEASE: Final = (
    _LAST
    + """
-- KEYS: the lease. ARGV: a token, and the time to live in ms. Returns the holder's token. If the key was erased after a
-- lease was taken, what its holder fetches is not found, so that no node waits for it. A value that is not a lease of
-- ours, or would last longer than one does, has no holder.
local token, number, life = ARGV[rest + 1], tonumber(known[4]) or 0, tonumber(ARGV[rest + 2])
local left, value = redis.call('PTTL', KEYS[3]), ''
if left > 0 and left <= life and redis.call('TYPE', KEYS[3])['ok'] == 'string' then
  value = redis.call('GETRANGE', KEYS[3], 0, 99)
end
local held, since = string.match(value, '^(%S+) (%d+)$')
if held and (not last or tonumber(since) >= last) then return held end
redis.call('SET', KEYS[3], token .. ' ' .. number, 'PX', ARGV[rest + 2])
return token
"""
)

CHANGE_LEASE: Final = """
-- KEYS: the lease. ARGV: the token, what takes its place, and the time to live in ms (0 to let it go).
local held, since = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%d+)$')
if held ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. since, 'PX', ARGV[3])
end
return 1
"""

LET_LIVE: Final = """
-- KEYS: chunks. ARGV: the ms after which they end. Returns how many are there.
local there = 0
for _, name in ipairs(KEYS) do there = there + redis.call('PEXPIRE', name, ARGV[1]) end
return there
"""
