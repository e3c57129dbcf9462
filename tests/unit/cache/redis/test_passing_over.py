"""No change stops a gateway: it passes over what it cannot carry out, and serves nothing that this may forbid."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest

from proxy.cache.invalidation.policy import Erase, Invalidation
from proxy.cache.redis.log import InvalidationLog, News, Position
from proxy.cache.redis.records import Record, encode
from proxy.erasure import BlockKind, Reach
from proxy.errors import MediaNotFound, RevocationsFull, StoreError
from proxy.model import MediaRef
from proxy.telemetry.metrics import PASSED_OVER, PassedOver
from tests.redis_server import RedisServer
from tests.unit.cache.redis.nodes import Monotonic, Node, Nodes, until
from tests.unit.cache.redis.test_follower import OTHER, stored
from tests.unit.cache.redis.test_sharing import SMALL
from tests.unit.cache.rigs import fetch, settled
from tests.unit.cache.scripted import NOTHING, REF, Script

pytestmark = pytest.mark.system("redis-server")

REVOKED, GONE, NONE = BlockKind.REVOKED, BlockKind.GONE, BlockKind.NONE
REFS = [MediaRef.parse(str(REF.account), str(REF.message), f"ME{number:032x}") for number in range(6)]
VALIDATED = "media-gateway; fwd=stale; fwd-status=304"


def packed(*fields: object) -> bytes:
    return msgspec.msgpack.encode(list(fields))


# What stands behind a number and a space, or, as a member of its own, in place of both.
POISON = {
    "rubbish": b"rubbish",
    "an-unknown-action": packed("forget", "AC/", 1, 1e10),
    "an-unknown-kind": packed("judge", "AC/", 4, 1e10),
    "no-kind": packed("lift", "AC/"),
    "no-end": packed("judge", "AC/", 1, None),
    "an-end-that-is-no-number": packed("judge", "AC/", 1, math.nan),
    "an-end-without-end": packed("judge", "AC/", 1, math.inf),
    "a-negative-end": packed("restore", "AC/", 1, -1e300),
    "a-field-more": packed("judge", "AC/", 1, 1e10, "more"),
    "a-wrong-type": packed("judge", 7, 1, 1e10),
    "a-long-prefix": packed("judge", "A" * 129, 1, 1e10),
    "a-text-of-20-MB": packed("judge", "A" * 20_000_000, 1, 1e10),
    "controls": packed("erase", "AC\0/"),
    "half-a-letter": b"\x92\xa5erase\xa1\xff",
}
UNNUMBERED = {
    "empty": b"",
    "no-number": b"x " + encode(Record.of(Erase(""))),
    "a-number-without-end": b"9" * 700 + b" " + encode(Record.of(Erase(""))),
}


async def poison(redis: RedisServer, change: bytes, *, numbered: bool = True) -> int:
    """Write one more change in the log, as no gateway does. Returns its number."""
    last = await redis.command("HGET", "media-gateway:log", "number")
    assert isinstance(last, bytes)
    number = int(last) + 1
    # In one step, as a gateway does: one that looks in between finds a log that does not fit its number.
    script = "redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2]) return redis.call('HINCRBY', KEYS[2], 'number', 1)"
    member = b"%d %b" % (number, change) if numbered else change
    await redis.command("EVAL", script, 2, "media-gateway:changes", "media-gateway:log", number, member)
    return number


def passed_over(node: Node, reason: PassedOver) -> float:
    return node.metrics.totals()[PASSED_OVER.first + reason]


async def until_followed(number: int, *nodes: Node) -> None:
    def followed() -> bool:
        places = [node.shared.follower.position for node in nodes]
        return all(place is not None and place.number >= number for place in places)

    await until(followed)


async def until_current(node: Node) -> None:
    """Wait until a worker knows that it has heard of every change; a starved one may have to ask first."""
    await until(lambda: node.shared.follower.current)


@pytest.mark.parametrize("name", [*POISON, *UNNUMBERED])
async def test_a_change_that_cannot_be_read_stops_no_gateway(
    redis_server: RedisServer, nodes: Nodes, name: str
) -> None:
    all_nodes = [await nodes.start(redis_server.url), await nodes.start(redis_server.url, disk=False)]
    for node in all_nodes:
        await stored(node)
        await until_current(node)
        assert node.tiers.recall(str(REF)) is not None
    await all_nodes[0].engine.revoke(Reach.of(REFS[0]), 1_000)
    change = {**POISON, **UNNUMBERED}[name]
    await until_followed(await poison(redis_server, change, numbered=name in POISON), *all_nodes)
    for node in all_nodes:
        assert passed_over(node, PassedOver.UNREADABLE) >= 1
        # It may have been the erasure of this.
        assert node.tiers.recall(str(REF)) is None
        assert await node.engine.block_kinds(REFS[0]) is REVOKED
    for asked, ref in zip(all_nodes, REFS[1:], strict=False):
        await asked.engine.revoke(Reach.of(ref), 1_000)
        for node in all_nodes:
            assert await node.engine.block_kinds(ref) is REVOKED
            await until_current(node)


async def test_a_change_that_is_too_long_is_not_even_sent(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    sent = await _sent(redis_server)
    await until_followed(await poison(redis_server, POISON["a-text-of-20-MB"]), one)
    assert await _sent(redis_server) - sent < 5_000_000


async def _sent(redis: RedisServer) -> int:
    about = await redis.command("INFO", "stats")
    assert isinstance(about, dict)
    return int(about["total_net_output_bytes"])


async def test_what_was_stored_before_an_unreadable_change_is_validated_once(
    redis_server: RedisServer, nodes: Nodes
) -> None:
    one = await nodes.start(redis_server.url, max_bytes=0)
    await stored(one)
    await until_followed(await poison(redis_server, POISON["an-unknown-action"]), one)
    nodes.origin.then(Script(status=304, chunks=(), fields=(("ETag", '"one"'),)))
    assert await fetch(one.engine) == (SMALL, VALIDATED)
    await settled(one.engine)
    assert (await fetch(one.engine))[1].startswith("media-gateway; hit")


async def test_an_erasure_frees_even_beside_an_unreadable_change(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await nodes.start(redis_server.url)
    await stored(one)
    await until_current(one)
    following, exchange = asyncio.Lock(), InvalidationLog.exchange

    async def held_exchange(log: InvalidationLog, known: Position | None) -> News:
        async with following:
            return await exchange(log, known)

    monkeypatch.setattr(InvalidationLog, "exchange", held_exchange)
    async with following:
        number = await poison(redis_server, POISON["rubbish"])
        erasing = asyncio.create_task(one.engine.erase(Reach.of(REF.account)))
        last = b"%d" % (number + 1)
        while await redis_server.command("HGET", "media-gateway:log", "number") != last:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    await erasing
    assert await one.tiers.peek([REF]) == {}
    nodes.origin.then(Script(status=200))
    assert (await fetch(one.engine))[1] == "media-gateway; fwd=uri-miss; fwd-status=200; stored"


async def test_blocks_that_cannot_be_read_hide_none_of_the_others(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    await one.engine.revoke(Reach.of(REF), 1_000)
    for name in (b"", b"1", b"9/AC/", b"1/\xff\xfe", b"2/" + b"A" * 600, b"1/" + b"A" * 5_000_000):
        for key in ("media-gateway:verdicts:names", "media-gateway:verdicts:ends"):
            await redis_server.command("ZADD", key, 0 if key.endswith("names") else 9e9, name)
    await redis_server.command("ZADD", "media-gateway:verdicts:names", 0, f"1/{OTHER}")
    await redis_server.command("ZADD", "media-gateway:verdicts:ends", "+inf", f"1/{OTHER}")
    late = await nodes.start(redis_server.url)
    assert [await late.engine.block_kinds(ref) for ref in (REF, OTHER)] == [REVOKED, REVOKED]
    assert passed_over(late, PassedOver.UNREADABLE) >= 1
    # Where some cannot be read, none is taken to have been lifted.
    await redis_server.command("ZREM", "media-gateway:verdicts:names", f"1/{REF}")
    await until_followed(await poison(redis_server, POISON["rubbish"]), one, late)
    assert await one.engine.block_kinds(REF) is REVOKED


# --- the bound --------------------------------------------------------------------------------------------------


async def test_one_too_many_is_refused_before_anything_is_changed_anywhere(
    redis_server: RedisServer, nodes: Nodes
) -> None:
    one = await nodes.start(redis_server.url, revocations=2)
    other = await nodes.start(redis_server.url, revocations=2, disk=False)
    await one.engine.revoke(Reach.of(REFS[0]), 1_000)
    await other.engine.mark_gone(REFS[1], 500)
    place = one.shared.follower.position
    for node in (one, other):
        with pytest.raises(RevocationsFull):
            await node.engine.revoke(Reach.of(REFS[2]), 1_000)
        with pytest.raises(RevocationsFull):
            await node.engine.mark_gone(REFS[2], 1_000)
        with pytest.raises(RevocationsFull):
            await node.engine.require_room([Reach.of(REFS[2])], 1_000)
    assert await redis_server.command("HGET", "media-gateway:log", "number") == b"2"
    assert one.shared.follower.position == other.shared.follower.position == place
    for node in (one, other):
        assert await node.engine.block_kinds(REFS[2]) is NONE
    nodes.clock.now += 600
    await other.engine.require_room([Reach.of(REFS[2]), Reach.of(REFS[0])], 1_000)
    await other.engine.revoke(Reach.of(REFS[2]), 1_000)
    assert await one.engine.block_kinds(REFS[2]) is REVOKED


@pytest.mark.parametrize("disk", [True, False], ids=["folder", "alone"])
async def test_a_lower_bound_refuses_sooner_and_forgets_nothing(
    redis_server: RedisServer, nodes: Nodes, disk: bool
) -> None:
    wide = await nodes.start(redis_server.url, revocations=5)
    narrow = await nodes.start(redis_server.url, revocations=2, disk=disk)
    for ref in REFS[:4]:
        await wide.engine.revoke(Reach.of(ref), 1_000)
    with pytest.raises(RevocationsFull):
        await narrow.engine.revoke(Reach.of(REFS[4]), 1_000)
    await narrow.engine.revoke(Reach.of(REFS[0]), 2_000)
    await wide.engine.revoke(Reach.of(REFS[4]), 1_000)
    late = await nodes.start(redis_server.url, revocations=1, disk=disk)
    for node in (wide, narrow, late):
        assert [await node.engine.block_kinds(ref) for ref in REFS] == [REVOKED] * 5 + [NONE]
        assert passed_over(node, PassedOver.FAILED) == 0
    # What was admitted comes back to a Redis that has lost it, whatever the bound of who gives it back is.
    await wide.stop()
    await redis_server.command("FLUSHALL")
    await until(lambda: narrow.shared.follower.position is not None and narrow.shared.follower.position.run != "")
    await narrow.engine.erase(Reach.of(OTHER))
    newcomer = await nodes.start(redis_server.url, revocations=1, disk=disk)
    assert [await newcomer.engine.block_kinds(ref) for ref in REFS] == [REVOKED] * 5 + [NONE]


# --- a folder that fails ----------------------------------------------------------------------------------------


def break_folder(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    async def fail(*_: object) -> None:
        raise StoreError(note="the disk is full")

    for name in ("apply", "adopt"):
        monkeypatch.setattr(node.tiers._invalidations, name, fail)


async def test_what_a_folder_cannot_take_holds_in_ram(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monotonic = Monotonic()
    one = await nodes.start(redis_server.url)
    other = await nodes.start(redis_server.url, name="other", monotonic=monotonic)
    await stored(other)
    other.shared.follower._retry_pause = 3_600.0
    with monkeypatch.context() as patch:
        break_folder(patch, other)
        await one.engine.revoke(Reach.of(REFS[0]), 1_000)
        await one.engine.revoke(Reach.of(REFS[1]), 1_000)
        await one.engine.mark_gone(REFS[2], 1_000)
        await one.engine.lift_revocation(Reach.of(REFS[1]))
        # The others have not waited for it, and it refuses nothing of what they decide.
        assert not any("has not reached" in record.message for record in caplog.records)
        assert any("the disk is full" in record.message for record in caplog.records)
        assert passed_over(other, PassedOver.FAILED) == 1
        assert [await other.engine.block_kinds(ref) for ref in REFS[:3]] == [REVOKED, NONE, GONE]
        with pytest.raises(MediaNotFound):
            async with other.engine.open(REFS[2], NOTHING):
                pass
        assert other.tiers.recall(str(REF)) is None
        # What it is asked itself holds everywhere, and it says that it could not write that down.
        with pytest.raises(StoreError):
            await other.engine.revoke(Reach.of(REFS[3]), 1_000)
        for node in (one, other):
            assert await node.engine.block_kinds(REFS[3]) is REVOKED
    monotonic.ahead += 3_600
    await until(lambda: other.shared.follower.unwritten.blocks() == ())
    assert other.tiers.recall(str(REF)) is None
    found = await other.tiers._invalidations.blocks(-1)
    assert {held.identity for held in found.found if held.until > nodes.clock.now} == {
        (REVOKED, str(REFS[0])), (GONE, str(REFS[2])), (REVOKED, str(REFS[3]))
    }  # fmt: skip
    await one.engine.lift_revocation(Reach.of(REFS[0]))
    assert await other.engine.block_kinds(REFS[0]) is NONE


async def test_a_start_goes_on_from_what_the_folder_was_told(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url, name="other")
    await stored(other)
    with monkeypatch.context() as patch:
        break_folder(patch, other)
        await one.engine.revoke(Reach.of(REFS[0]), 1_000)
        await one.engine.erase(Reach.of(REF))
        await other.stop()
    other = await nodes.start(redis_server.url, name="other")
    assert await other.engine.block_kinds(REFS[0]) is REVOKED
    assert await other.tiers.find(REF) is None


async def test_a_folder_that_fails_once_is_tried_again_at_once(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    adopt = other.tiers._invalidations.adopt

    async def fail_once(invalidation: Invalidation, now: float) -> None:
        monkeypatch.setattr(other.tiers._invalidations, "adopt", adopt)
        raise StoreError(note="damaged")

    monkeypatch.setattr(other.tiers._invalidations, "adopt", fail_once)
    await one.engine.revoke(Reach.of(REFS[0]), 1_000)
    assert await other.engine.block_kinds(REFS[0]) is REVOKED
    assert passed_over(other, PassedOver.FAILED) == 0
    assert other.shared.follower.unwritten.blocks() == ()


async def test_a_node_with_a_full_folder_knows_what_is_revoked(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await one.engine.revoke(Reach.of(REFS[0]), 1_000)
    break_folder(monkeypatch, other)
    # It has to begin again, and cannot write that down.
    await until_followed(await poison(redis_server, POISON["rubbish"]), other)
    assert await other.engine.block_kinds(REFS[0]) is REVOKED
    await one.engine.revoke(Reach.of(REFS[1]), 1_000)
    assert await other.engine.block_kinds(REFS[1]) is REVOKED
    assert other.shared.follower.behind(other.tiers.epoch)


async def test_where_even_ram_is_full_no_link_opens_anything(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url, disk=False)
    monkeypatch.setattr("proxy.cache.redis.follower.CEILING", 1)
    break_folder(monkeypatch, other)
    await one.engine.revoke(Reach.of(REFS[0]), 1_000)
    await one.engine.mark_gone(REFS[1], 1_000)
    # The provider says of what is gone that it is.
    assert [await other.engine.block_kinds(ref) for ref in REFS[:3]] == [REVOKED, NONE, NONE]
    await one.engine.revoke(Reach.of(REFS[2]), 1_000)
    assert [await other.engine.block_kinds(ref) for ref in REFS[:4]] == [REVOKED] * 4
    # That is not a decision, so no other node is told.
    monkeypatch.undo()
    await redis_server.command("FLUSHALL")
    await until(lambda: not other.shared.follower.unwritten.blocks())
    assert [await node.engine.block_kinds(REFS[3]) for node in (one, other)] == [NONE, NONE]


async def test_what_is_owed_is_tried_less_and_less_often(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic = Monotonic()
    one = await nodes.start(redis_server.url)
    other = await nodes.start(redis_server.url, disk=False, monotonic=monotonic)
    break_folder(monkeypatch, other)
    other.shared.follower._retry_pause = 1_000.0
    await one.engine.revoke(Reach.of(REFS[0]), 1_000)
    follower = other.shared.follower
    failed = passed_over(other, PassedOver.FAILED)
    for seconds in (1_000, 60, 60):
        for _ in range(3):
            await follower._turned(5)
        assert passed_over(other, PassedOver.FAILED) == failed
        monotonic.ahead += seconds
        failed += 1
        await until(lambda expected=failed: passed_over(other, PassedOver.FAILED) == expected)  # type: ignore[misc]
