"""Invalidations: what may not be served any more, and how each worker of each node comes to know it.

`policy` has the three values and the rules of blocks: how many may hold, and how they are prolonged and lifted; how
long one lasts is said where it is made, in `app`. `invalidators` has the contract for applying them, and its
implementation for a process without a folder. `block_table` keeps blocks in RAM, and `blocklist` is what a worker knows
of its folder's blocks. What a folder keeps is in `cache.disk` (`invalidations` over `invalidations_table` and
`blocks_table`); the log between nodes, its follower, the lease and the policy for an outage are in `cache.redis`. Which
media a client may invalidate is decided in `web.admin`.

An invalidation is an `Erase`, a `Block` or a `Lift` of a reach: a prefix of keys. `Engine` builds the value, and every
invalidation goes through `Invalidator.apply`. A folder applies it itself. With a shared tier it is written to the log,
and every node applies it as it follows the log.

Epoch
-----

1. A folder numbers its invalidations. A number is larger than all before it, and at least the time in microseconds, so
   that the numbers of an index that was lost are not used again. The last one is the epoch.
2. An invalidation is committed to the index, then its number is published in a file that every worker has mapped. When
   `apply` returns, each worker of the folder sees another epoch.
3. A fill notes the epoch before it asks its origin, and what it stores keeps that number. What a worker holds in RAM
   also has the epoch of its last look-up. While that equals the current epoch nothing was invalidated; otherwise the
   folder is asked once, and the number is brought up to date.

Erase
-----

4. A stored response, or a fill, is erased if an erasure of a larger number covers its key. That holds from the commit;
   the bytes are freed afterwards, and the erasure does not depend on finding them.
5. An erasure beats what began before it: a fill that stores, a 304 that freshens, a body that was opened. Each checks
   again after its last wait, before it acts.

Block and lift
--------------

6. A block holds within its reach up to its end. Under `revoked` no link opens a media, and none is minted; under `gone`
   the media is neither served nor fetched. A media may be under several blocks, of wider and narrower reach.
7. A block also erases, in the same transaction. The exception is a `gone` that holds already: nothing was stored since.
8. A lift ends the blocks of one kind whose reach lies within its own; a block of wider reach stays. It erases as well,
   because a reader that was let in just before the block may have had the media fetched since.
9. How a block is prolonged, bounded and lifted is said once, in `policy`.

Log and run
-----------

10. With a shared tier an invalidation is first written to the log in Redis, in one step with the table of the blocks
    that hold. If Redis is known to be away, nothing is changed anywhere, and the client is told so.
11. A number of the log is not an epoch: each folder gives its own number to what it applies.
12. A run is one life of the log. Another one begins if the log is missing or damaged, or if Redis is another process,
    which may have lost the end of the log. Numbers of two runs are not compared, and what Redis stores under one run is
    not found under the next.
13. A new run starts empty, and each node that joins it writes the blocks that the node knows. For the first 2.5 s
    nothing else is written, so that every node that followed the old run can join.

Follow
------

14. Every worker follows the log for itself: it asks twice a second, and at once when it is told of a change. It applies
    invalidations in their order. Workers of one folder apply the same one several times, which does no harm.
15. The worker that writes waits, at most 2.5 s, until every live worker has followed to that place. A worker that has
    said nothing for so long is not waited for: it is disconnected, or it has stalled and notices that itself after
    1.5 s.
16. A checkpoint in the folder says how far the folder has followed, so that a start goes on from there.

Lease
-----

17. A lease lets one node fetch a media while the others wait for what it shares. It saves work and excludes nobody:
    when it ends, or Redis is away, each node fetches for itself.
18. A lease notes the number of the log at which it was taken. An erasure after that number ends the wait of the
    others, since what the holder fetches will not be kept.

What is not certain
-------------------

A doubt about a stored response costs a validation at its origin; a doubt about a block refuses whatever the block may
cover.

- Was this erased? Old erasures are forgotten, and an index may be lost: anything older counts as erased.
  If the folder cannot be read, the answer is yes as well.
- Is this blocked? A worker answers from RAM while the epoch is the one of its last reading. Once there is another one
  it reads what is new; if it cannot, links are refused and nothing is stored.
- A gap in the log, an invalidation that cannot be read, or one that the folder cannot take: everything that is stored
  here is validated before it is reused, and the blocks are compared with those of Redis. A block that the folder
  cannot take holds in RAM.
- No word from Redis: after 9 s a worker does not know what it may have missed. `redis.outage` says how far what is
  stored is used then. Blocks that are known stay in force, and no invalidation is accepted.
- A lift may be followed late, after the same block was given again. So a lift names the latest end that it removes; a
  block that was given again ends later, and stays.
- Was it written? If Redis goes away before it answers, the client is told that the invalidation failed, and it may hold
  all the same. To ask for it again does no harm.
- Two nodes may fetch a media at once, lease or not; either body is a good one.
"""
