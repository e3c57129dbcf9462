"""The bounds of what Redis answers: one beyond costs a fetch or a look more, and refuses nothing for ever."""

from __future__ import annotations

import dataclasses
import math
import struct
from pathlib import Path

import msgspec
import pytest

from proxy.cache import bounds
from proxy.cache.entry import Entry
from proxy.cache.invalidation.policy import Block, Erase
from proxy.cache.redis.checkpoint import Checkpoint, CheckpointFile
from proxy.cache.redis.keys import (
    BLOCK_ENDS,
    BLOCK_NAMES,
    ERASED,
    INVALIDATIONS,
    LOG,
    NODES,
    chunk_name,
    index_name,
    lease_name,
    metadata_name,
)
from proxy.cache.redis.lease import LEASE_SECONDS
from proxy.cache.redis.log import Position
from proxy.cache.redis.metadata import _decode
from proxy.cache.redis.records import Record, decode_member, encode, named_block
from proxy.erasure import BlockKind, Reach
from tests.redis_server import RedisServer
from tests.unit.cache.extremes import NUMBERS, VALUES, little_memory, within_bounds
from tests.unit.cache.redis.nodes import Node, Nodes, until
from tests.unit.cache.redis.test_sharing import SMALL
from tests.unit.cache.rigs import fetch, settled
from tests.unit.cache.scripted import REF

FIELDS = [field.name for field in msgspec.structs.fields(Entry)]
redis = pytest.mark.system("redis-server")
WRONG = {
    "string": ("SET", "x"),
    "list": ("RPUSH", "x"),
    "set": ("SADD", "x"),
    "hash": ("HSET", "x", "x"),
    "zset": ("ZADD", 1, "x"),
    "stream": ("XADD", "*", "x", "x"),
}


# --- forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [field.name for field in msgspec.structs.fields(Record)])
def test_no_field_of_a_change_is_decoded_out_of_bounds(field: str) -> None:
    names = [field.name for field in msgspec.structs.fields(Record)]
    for invalidation in (Block(BlockKind.GONE, "a/", 5.0), Erase("a/")):
        for value in VALUES:
            parts: list[object] = msgspec.msgpack.decode(encode(Record.of(invalidation)))
            parts[names.index(field)] = value
            found = decode_member(b"1 " + msgspec.msgpack.encode(parts))
            assert found is None or all(within_bounds(part) for part in msgspec.structs.astuple(Record.of(found[1]))), (
                value
            )


@pytest.mark.parametrize("number", [b"-1", b"1e3", b"", b"9" * 5_000, "²".encode(), b"99999999999999999999"])
def test_the_number_of_a_change_has_a_bound(number: bytes) -> None:
    assert decode_member(number + b" " + encode(Record.of(Erase("a/")))) is None


@pytest.mark.parametrize("until", [math.inf, -math.inf, math.nan, -1.0, 1e300])
def test_a_block_s_end_has_a_bound(until: float) -> None:
    found = named_block(b"1/a/", until)
    assert found is None or within_bounds(found.until)


@pytest.mark.parametrize("name", ["²/a".encode(), b"\xff/a", b"1/\xff", b"", b"1", b"9/a", b"1/" + b"a" * 5_000])
def test_a_name_that_is_no_block_s_is_none(name: bytes) -> None:
    assert named_block(name, 1.0) is None


@pytest.mark.parametrize("field", ["run", "number", "line"])
async def test_no_field_of_a_standpoint_is_read_out_of_bounds(tmp_path: Path, field: str) -> None:
    fields = {one.name for kind in (Checkpoint, Position) for one in dataclasses.fields(kind)}
    assert fields == {"position", "run", "number", "line"}
    file = CheckpointFile(tmp_path)
    for value in VALUES:
        written: dict[str, object] = {"position": {"run": "run", "number": 1}, "line": 1}
        position = written["position"]
        assert isinstance(position, dict)
        (written if field in written else position)[field] = value
        try:
            encoded = msgspec.json.encode(written)
        except UnicodeDecodeError:
            continue
        (tmp_path / "shared").write_bytes(encoded)
        found = await file.read()
        assert found is None or (
            within_bounds(found.line)
            and bounds.is_count(found.position.number, bounds.LAST_LOGGED)
            and bounds.is_text(found.position.run)
        ), value


@redis
async def test_a_standpoint_that_doubts_everything_is_another_folder_s(
    redis_server: RedisServer, nodes: Nodes, tmp_path: Path
) -> None:
    one = await nodes.start(redis_server.url, name="one")
    await fetch(one.engine)
    await settled(one.engine)
    position = one.shared.follower.position
    assert position is not None
    await one.stop()
    await CheckpointFile(tmp_path / "one").write(Checkpoint(position, 2**61))
    again = await nodes.start(redis_server.url, name="one")
    await until(lambda: again.shared.follower.current)
    await fetch(again.engine)
    await settled(again.engine)
    assert (await fetch(again.engine))[1].startswith("media-gateway; hit; ")


# --- what is stored -------------------------------------------------------------------------------------------


async def fetched(node: Node) -> tuple[bytes, str]:
    """Return what a reader gets of a node that has nothing of its own."""
    await node.tiers.memory.clear()
    answer = await fetch(node.engine)
    await settled(node.engine)
    return answer


async def damaged_and_healed(redis_server: RedisServer, one: Node, other: Node, stored: bytes) -> None:
    """Put something else in a stored response's place: it costs a fetch, and then a sound one is shared again."""
    await redis_server.command("SET", metadata_name(one.shared.backend.run, str(REF)), stored)
    assert (await fetched(one))[0] == SMALL, stored
    assert await fetched(other) == (SMALL, "media-gateway; hit; ttl=100; detail=shared"), stored


@redis
@pytest.mark.parametrize("field", [*FIELDS, "number", "deadline"])
async def test_metadata_out_of_bounds_cost_one_fetch(redis_server: RedisServer, nodes: Nodes, field: str) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    other = await nodes.start(redis_server.url, disk=False)
    await fetched(one)
    stored = await redis_server.command("GET", metadata_name(one.shared.backend.run, str(REF)))
    assert isinstance(stored, bytes)
    with little_memory():
        for value in VALUES:
            deadline, (number, encoded) = stored[:8], msgspec.msgpack.decode(stored[8:])
            match field:
                case "deadline":
                    if not isinstance(value, int | float):
                        continue
                    deadline = struct.pack(">d", float(value))
                case "number":
                    number = value
                case _:
                    parts: list[object] = msgspec.msgpack.decode(encoded)
                    parts[FIELDS.index(field)] = value
                    encoded = msgspec.msgpack.encode(parts)
            altered = deadline + msgspec.msgpack.encode([number, encoded])
            found = _decode(altered)
            assert found is None or all(within_bounds(part) for part in msgspec.structs.astuple(found[0].entry)), value
            await damaged_and_healed(redis_server, one, other, altered)


@redis
@pytest.mark.parametrize("stored", [b"", b"x", bytes(8), bytes(9), b"x" * 5_000_000], ids=len)
async def test_what_is_no_metadata_costs_one_fetch(redis_server: RedisServer, nodes: Nodes, stored: bytes) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    other = await nodes.start(redis_server.url, disk=False)
    await fetched(one)
    await damaged_and_healed(redis_server, one, other, stored)


@redis
async def test_a_response_numbered_after_the_log_is_not_used(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    other = await nodes.start(redis_server.url, disk=False)
    await fetched(one)
    name = metadata_name(one.shared.backend.run, str(REF))
    stored = await redis_server.command("GET", name)
    assert isinstance(stored, bytes)
    _, encoded = msgspec.msgpack.decode(stored[8:])
    forged = stored[:8] + msgspec.msgpack.encode([1_000, encoded])
    await redis_server.command("SET", name, forged)
    # It would outlive every erasure up to that number.
    await one.engine.erase(Reach.of(REF))
    await redis_server.command("SET", name, forged)
    assert "detail=shared" not in (await fetched(other))[1]


@redis
async def test_an_endless_body_is_removed_as_far_as_it_exists(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    await fetched(one)
    run = one.shared.backend.run
    stored = await redis_server.command("GET", metadata_name(run, str(REF)))
    assert isinstance(stored, bytes)
    number, encoded = msgspec.msgpack.decode(stored[8:])
    parts: list[object] = msgspec.msgpack.decode(encoded)
    generation = parts[FIELDS.index("generation")]
    parts[FIELDS.index("length")] = bounds.LONGEST_BODY
    forged = stored[:8] + msgspec.msgpack.encode([number, msgspec.msgpack.encode(parts)])
    await redis_server.command("SET", metadata_name(run, str(REF)), forged)
    await redis_server.command("CONFIG", "RESETSTAT")
    with little_memory():
        await one.engine.erase(Reach.of(REF))
    calls = await redis_server.command("INFO", "commandstats")
    assert isinstance(calls, dict)
    life = await redis_server.command("PTTL", chunk_name(run, str(generation), 0))
    assert isinstance(life, int)
    assert 0 < life <= 30_000
    # Two batches: of the second none is there.
    assert 512 <= calls["cmdstat_pexpire"]["calls"] <= 520


@redis
async def test_a_chunk_is_read_no_further_than_its_entry_says(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    other = await nodes.start(redis_server.url, disk=False)
    await fetched(one)
    names = await redis_server.command("KEYS", "media-gateway:*:chunk:*")
    assert isinstance(names, list)
    await redis_server.command("SETRANGE", names[0], 20_000_000, b"x")
    await redis_server.command("CONFIG", "RESETSTAT")
    assert await fetched(other) == (SMALL, "media-gateway; hit; ttl=100; detail=shared")
    sent = await redis_server.command("INFO", "stats")
    assert isinstance(sent, dict)
    assert sent["total_net_output_bytes"] < 1_000_000


@redis
async def test_an_index_of_names_that_are_no_text_is_emptied(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    await fetched(one)
    name = index_name(one.shared.backend.run)
    await redis_server.command("ZADD", name, 0, b"\xff\xfe", 0, b"", 0, b"x" * 5_000)
    await one.engine.erase(Reach.of(None))
    assert await redis_server.command("EXISTS", name) == 0


# --- keys of another type, and logs that count wrongly --------------------------------------------------------


async def heard(one: Node, other: Node) -> None:
    """Wait until both have asked twice what is new, and agree on the run of the log."""
    for _ in range(2):
        for node in (one, other):
            await node.shared.follower._turned(10)
    await until(lambda: one.shared.follower.current and other.shared.follower.current)
    await until(lambda: one.shared.backend.run == other.shared.backend.run)


async def works(one: Node, other: Node) -> None:
    """Check that reading, sharing, revoking, lifting and erasing work, soon."""
    await heard(one, other)
    assert await one.engine.block_kinds(REF) is BlockKind.NONE
    await one.engine.revoke(Reach.of(REF), 1_000)
    assert await other.engine.block_kinds(REF) is BlockKind.REVOKED
    await other.engine.lift_revocation(Reach.of(REF))
    assert await one.engine.block_kinds(REF) is BlockKind.NONE
    await one.engine.erase(Reach.of(REF))
    assert (await fetched(one))[0] == SMALL
    assert await fetched(other) == (SMALL, "media-gateway; hit; ttl=100; detail=shared")


async def put_wrong(redis_server: RedisServer, key: str | bytes, kind: str) -> None:
    """Put a value of another type in the place of a key, in one step: a gateway may write its own at any time."""
    command, *arguments = WRONG[kind]
    script = "redis.call('DEL', KEYS[1]) return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"
    await redis_server.command("EVAL", script, 1, key, command, *arguments)


@redis
@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("key", [LOG, INVALIDATIONS, ERASED, NODES, BLOCK_ENDS, BLOCK_NAMES])
async def test_a_key_of_the_log_of_another_type_is_healed(
    redis_server: RedisServer, nodes: Nodes, key: str, kind: str
) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    other = await nodes.start(redis_server.url, disk=False)
    held = Reach.of(REF.account)
    await one.engine.revoke(held, 1_000)
    await put_wrong(redis_server, key, kind)
    await heard(one, other)
    # What was revoked stays so: the nodes know it.
    assert await other.engine.block_kinds(REF) is BlockKind.REVOKED
    await one.engine.lift_revocation(held)
    await works(one, other)


@redis
@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("which", ["metadata", "index", "chunk", "lease"])
async def test_a_stored_key_of_another_type_is_healed(
    redis_server: RedisServer, nodes: Nodes, which: str, kind: str
) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    other = await nodes.start(redis_server.url, disk=False)
    await fetched(one)
    run = one.shared.backend.run
    chunks = await redis_server.command("KEYS", "media-gateway:*:chunk:*")
    assert isinstance(chunks, list)
    name = {
        "metadata": metadata_name(run, str(REF)),
        "index": index_name(run),
        "chunk": chunks[0],
        "lease": lease_name(run, str(REF)),
    }[which]
    await put_wrong(redis_server, name, kind)
    assert (await fetched(other))[0] == SMALL
    await works(one, other)


@redis
@pytest.mark.parametrize("field", ["run", "server", "number", "floor", "forgotten", "began"])
async def test_no_field_of_the_log_refuses_for_ever(redis_server: RedisServer, nodes: Nodes, field: str) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    other = await nodes.start(redis_server.url, disk=False)
    for value in (*NUMBERS, "nan", "text", "", b"\xff", "9" * 400):
        await redis_server.command("HSET", LOG, field, str(value) if isinstance(value, float) else value)
        await works(one, other)


@redis
async def test_no_member_of_the_log_refuses_for_ever(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    other = await nodes.start(redis_server.url, disk=False)
    for member in (b"\xff", b"", b"1 x", b"9" * 5_000 + b" x", "² x".encode(), b"nan nan nan", b"a b inf", b"a x 1e99"):
        for score in ("-inf", -1, 0, 2, 2**60, "inf"):
            for key in (INVALIDATIONS, ERASED, BLOCK_ENDS, BLOCK_NAMES):
                await redis_server.command("ZADD", key, score, member)
        await redis_server.command("HSET", NODES, member, member)
        await works(one, other)


@redis
@pytest.mark.parametrize("lease", ["someone 0", "someone 99999999999999999999", "x", "", "x" * 5_000])
async def test_a_lease_that_would_never_end_holds_nobody_up(
    redis_server: RedisServer, nodes: Nodes, lease: str
) -> None:
    one = await nodes.start(redis_server.url, disk=False)
    name = lease_name(one.shared.backend.run, str(REF))
    for life in ((), ("PX", round(LEASE_SECONDS * 1_000) + 60_000)):
        await redis_server.command("SET", name, lease, *life)
        assert (await fetched(one))[1].endswith("stored")
        await one.engine.erase(Reach.of(REF))
