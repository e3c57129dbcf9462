"""Each gateway follows the log: what others change holds here, and what it may have missed is in doubt."""

from __future__ import annotations

import asyncio

import pytest

from proxy.cache.disk.store import open_disk
from proxy.cache.invalidation.policy import FARTHEST, Block, Erase, Invalidation, Lift
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.follower import CUT_OFF_SECONDS, STALL_SECONDS
from proxy.cache.redis.keys import CHECKPOINT
from proxy.cache.redis.log import LIVE_SECONDS, InvalidationLog, News, Position, SharedBlocks
from proxy.cache.redis.records import Action, Record, decode_member, encode, named_block
from proxy.cache.redis.store import erase_shared
from proxy.erasure import BlockKind, Reach
from proxy.errors import MediaNotFound, StoreError
from proxy.model import MediaRef
from proxy.telemetry.metrics import Metrics
from tests.redis_server import RedisServer
from tests.unit.cache.redis.nodes import Monotonic, Node, Nodes, until
from tests.unit.cache.redis.test_sharing import LARGE, SMALL, TWO_CHUNKS, script
from tests.unit.cache.rigs import BIG, big, fetch, settled
from tests.unit.cache.scripted import NOTHING, REF, Script

pytestmark = pytest.mark.system("redis-server")

OTHER = MediaRef.parse(str(REF.account), str(REF.message), "ME" + "d" * 32)
HIT = "media-gateway; hit; ttl=100"
VALIDATED = "media-gateway; fwd=stale; fwd-status=304"


async def stored(node: Node) -> None:
    await fetch(node.engine)
    await settled(node.engine)


async def test_a_block_holds_everywhere_when_the_call_returns(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url, disk=False)
    await stored(other)
    await one.engine.revoke(Reach.of(REF.parent), 1_000)
    assert other.engine.block_kinds_now(REF) is not BlockKind.NONE
    assert await other.engine.block_kinds(REF) is BlockKind.REVOKED
    await other.engine.lift_revocation(Reach.of(REF.parent))
    assert await one.engine.block_kinds(REF) is BlockKind.NONE
    await one.engine.mark_gone(REF, 1_000)
    with pytest.raises(MediaNotFound):
        await fetch(other.engine)
    await other.engine.unmark_gone(REF, 500)
    assert await one.engine.block_kinds(REF) is BlockKind.GONE
    await other.engine.unmark_gone(REF)
    assert await one.engine.block_kinds(REF) is BlockKind.NONE


async def scans(redis_server: RedisServer) -> int:
    """Return how often Redis was asked for the names of what is stored below a prefix."""
    async with redis_server.client() as client:
        counts: dict[str, dict[str, int]] = await client.info("commandstats")
    return int(counts.get("cmdstat_zrangebylex", {"calls": 0})["calls"])


async def test_a_deletion_is_written_twice_and_frees_redis_once(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await stored(other)
    position = one.shared.follower.position
    assert position is not None
    before = await scans(redis_server)
    await one.engine.mark_gone(REF, 60)
    marked = await scans(redis_server)
    assert marked > before
    epochs = [node.tiers.epoch for node in (one, other)]
    await one.engine.mark_gone(REF, 1_000)
    assert await scans(redis_server) == marked
    assert one.shared.follower.position == Position(position.run, position.number + 2)
    assert [await node.tiers.erased(REF, since) for node, since in zip((one, other), epochs, strict=True)] == [
        False,
        False,
    ]
    nodes.clock.now += 999
    assert await other.engine.block_kinds(REF) is BlockKind.GONE


async def test_a_change_waits_until_every_live_gateway_has_it(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url, disk=False)
    gate, arrived = asyncio.Event(), asyncio.Event()
    inner = other.tiers._invalidations.adopt

    async def slow(invalidation: Invalidation, now: float) -> None:
        arrived.set()
        await gate.wait()
        await inner(invalidation, now)

    monkeypatch.setattr(other.tiers._invalidations, "adopt", slow)
    erasing = asyncio.create_task(one.engine.erase(Reach.of(REF)))
    await arrived.wait()
    await asyncio.sleep(0.2)
    assert not erasing.done()
    gate.set()
    await erasing


async def test_the_wait_for_a_gateway_that_lags_has_an_end(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.cache.redis.follower.LIVE_SECONDS", 0.2)
    # However long ago it was that it said how far it has followed.
    monkeypatch.setattr("proxy.cache.redis.log.LIVE_SECONDS", 60)
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url, disk=False)
    gate = asyncio.Event()
    inner = other.shared.follower._log.exchange

    async def hang(known: Position | None) -> News:
        await gate.wait()
        return await inner(known)

    monkeypatch.setattr(other.shared.follower._log, "exchange", hang)
    await one.engine.erase(Reach.of(REF))
    assert any("has not reached 1 workers" in record.message for record in caplog.records)
    gate.set()
    await until(lambda: other.shared.follower.position == one.shared.follower.position)


async def test_an_invalidation_that_cannot_be_applied_here_is_an_error(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.redis.follower.LIVE_SECONDS", 0.2)
    one = await nodes.start(redis_server.url, disk=False)

    async def fail(invalidation: Invalidation, now: float) -> None:
        raise StoreError(note="the disk is full")

    monkeypatch.setattr(one.tiers._invalidations, "adopt", fail)
    with pytest.raises(StoreError):
        await one.engine.erase(Reach.of(REF))


async def test_a_gateway_goes_on_following_after_a_stop(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url, name="other")
    await stored(other)
    await other.stop()
    other = await nodes.start(redis_server.url, name="other")
    assert await fetch(other.engine) == (SMALL, HIT)
    await other.stop()
    await one.engine.erase(Reach.of(OTHER))
    other = await nodes.start(redis_server.url, name="other")
    assert await fetch(other.engine) == (SMALL, HIT)
    await other.stop()
    await one.engine.erase(Reach.of(REF))
    await one.engine.revoke(Reach.of(OTHER), 1_000)
    other = await nodes.start(redis_server.url, name="other")
    nodes.origin.then(script(b"newer", '"two"'))
    assert (await fetch(other.engine))[0] == b"newer"
    assert await other.engine.block_kinds(OTHER) is BlockKind.REVOKED


@pytest.mark.parametrize("content", [SMALL, TWO_CHUNKS, LARGE], ids=["small", "two", "large"])
async def test_a_gateway_that_missed_too_much_doubts_all_it_has(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr("proxy.cache.redis.log._KEPT", 3)
    nodes.origin.then(script(content))
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url, name="other")
    await stored(other)
    await other.engine.revoke(Reach.of(OTHER), 1_000)
    await other.stop()
    for _ in range(5):
        await one.engine.lift_revocation(Reach.of(OTHER))
    other = await nodes.start(redis_server.url, name="other")
    assert await other.engine.block_kinds(OTHER) is BlockKind.NONE
    # The shared tier knows that it was not erased.
    assert await fetch(other.engine) == (content, f"{HIT}; detail=shared")
    assert (await fetch(other.engine))[1] == HIT
    assert len(nodes.origin.asked) == 1
    await other.stop()
    for _ in range(5):
        await one.engine.erase(Reach.of(REF))
    other = await nodes.start(redis_server.url, name="other")
    nodes.origin.then(Script(status=304, chunks=(), fields=(("ETag", '"one"'),)))
    assert await fetch(other.engine) == (content, VALIDATED)
    assert (await fetch(other.engine))[1] == HIT


async def test_a_cut_that_lost_nothing_leaves_no_doubt(redis_server: RedisServer, nodes: Nodes) -> None:
    monotonic = Monotonic()
    one = await nodes.start(redis_server.url, monotonic=monotonic)
    await stored(one)
    redis_server.pause()
    with pytest.raises(StoreError):
        await one.engine.erase(Reach.of(None))
    monotonic.ahead += CUT_OFF_SECONDS
    assert not one.shared.follower.current
    redis_server.resume()
    await until(lambda: one.shared.follower.current)
    # The erasure may have been written after all.
    assert (await fetch(one.engine))[0] == SMALL
    await settled(one.engine)
    assert await fetch(one.engine) == (SMALL, HIT)


async def test_a_process_that_stood_still_asks_before_it_trusts(redis_server: RedisServer, nodes: Nodes) -> None:
    monotonic = Monotonic()
    one = await nodes.start(redis_server.url, monotonic=monotonic)
    await stored(one)
    assert one.tiers.recall(str(REF)) is not None
    monotonic.ahead += STALL_SECONDS
    assert one.tiers.recall(str(REF)) is None
    assert await fetch(one.engine) == (SMALL, HIT)
    assert one.shared.follower.current


async def test_an_answer_that_was_long_under_way_restores_no_trust(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic = Monotonic()
    one = await nodes.start(redis_server.url, monotonic=monotonic)
    inner = one.shared.follower._log.exchange

    async def late(known: Position | None) -> News:
        news = await inner(known)
        monotonic.ahead += 2 * STALL_SECONDS
        return news

    monkeypatch.setattr(one.shared.follower._log, "exchange", late)
    assert not await one.shared.follower._exchange()
    assert not one.shared.follower.current
    monkeypatch.undo()


async def test_time_alone_restores_no_trust(redis_server: RedisServer, nodes: Nodes) -> None:
    monotonic = Monotonic()
    one = await nodes.start(redis_server.url, monotonic=monotonic)
    await redis_server.stop()
    monotonic.ahead += STALL_SECONDS
    trusted: list[bool] = []
    for _ in range(30):
        trusted.append(one.shared.follower.current)
        await asyncio.sleep(0.02)
    assert not any(trusted)


async def test_an_invalidation_missing_in_the_log_is_a_gap(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url, name="other")
    await stored(other)
    await other.stop()
    await one.engine.erase(Reach.of(OTHER))
    await one.engine.erase(Reach.of(OTHER))
    await redis_server.command("ZREMRANGEBYSCORE", "media-gateway:changes", 1, 1)
    other = await nodes.start(redis_server.url, name="other")
    assert await fetch(other.engine) == (SMALL, f"{HIT}; detail=shared")


def test_who_stands_still_stops_trusting_before_others_stop_waiting() -> None:
    assert STALL_SECONDS + 0.5 < LIVE_SECONDS < CUT_OFF_SECONDS


async def test_nothing_is_erased_in_a_young_run(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for a busy machine: a worker that comes later is taken for dead, and brings back what was lifted.
    monkeypatch.setattr("proxy.cache.redis.log.SETTLING_SECONDS", 6)
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await one.engine.revoke(Reach.of(REF), 1_000)
    await redis_server.restart()
    await until(lambda: one.shared._redis.up and one.shared.follower.position is not None)
    await one.engine.lift_revocation(Reach.of(REF))
    assert await one.engine.block_kinds(REF) is BlockKind.NONE
    assert await other.engine.block_kinds(REF) is BlockKind.NONE


async def test_a_failure_that_nobody_foresaw_does_not_end_the_follower(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = await nodes.start(redis_server.url)
    with monkeypatch.context() as patched:
        exchange, failed = InvalidationLog.exchange, asyncio.Event()

        async def fail(log: InvalidationLog, known: Position | None) -> News:
            await exchange(log, known)
            failed.set()
            raise RuntimeError("unforeseen")

        patched.setattr(InvalidationLog, "exchange", fail)
        await failed.wait()
        failed.clear()
        await failed.wait()
    # It is said once, and what others erase is heard of again.
    assert [record.message for record in caplog.records].count("What other gateways erase cannot be followed") == 1
    other = await nodes.start(redis_server.url)
    await other.engine.revoke(Reach.of(REF), 1_000)
    assert await one.engine.block_kinds(REF) is BlockKind.REVOKED


async def test_the_command_line_erases_in_every_gateway(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    await stored(one)
    await erase_shared(redis_server.url, Reach.of(REF).prefix, nodes.clock)
    assert await redis_server.command("KEYS", "media-gateway:*:response:*") == []
    nodes.origin.then(script(b"newer", '"two"'))
    assert (await fetch(one.engine))[0] == b"newer"
    await redis_server.stop()
    with pytest.raises(StoreError):
        await erase_shared(redis_server.url, "", nodes.clock)


async def test_erased_bytes_go_from_redis(redis_server: RedisServer, nodes: Nodes) -> None:
    nodes.origin.then(script(LARGE))
    one = await nodes.start(redis_server.url)
    await stored(one)
    names = await redis_server.command("KEYS", "media-gateway:*:chunk:*")
    assert isinstance(names, list)
    assert len(names) == 12
    await one.engine.erase(Reach.of(REF.account))
    assert await redis_server.command("KEYS", "media-gateway:*:response:*") == []
    for name in names:
        left = await redis_server.command("PTTL", name)
        assert isinstance(left, int)
        assert 0 < left <= 30_000


async def test_more_changes_than_one_answer_holds_are_all_carried_out(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.redis.log._PAGE", 2)
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url, name="other")
    await other.stop()
    refs = [MediaRef.parse(str(REF.account), str(REF.message), f"ME{number:032x}") for number in range(7)]
    for ref in refs:
        await one.engine.revoke(Reach.of(ref), 1_000)
    for node in (await nodes.start(redis_server.url, name="other"), await nodes.start(redis_server.url)):
        assert [await node.engine.block_kinds(ref) for ref in refs] == [BlockKind.REVOKED] * 7
        assert node.shared.follower.position == one.shared.follower.position


async def test_a_log_that_is_not_ours_is_not_followed(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    await stored(one)
    await one.engine.erase(Reach.of(OTHER))
    await redis_server.command("ZREMRANGEBYRANK", "media-gateway:changes", 0, -1)
    await redis_server.command("HINCRBY", "media-gateway:log", "number", 2)
    await redis_server.command("ZADD", "media-gateway:changes", 3, b"3 rubbish")
    await until(lambda: one.shared.follower.position is not None and one.shared.follower.position.number == 3)
    assert one.tiers.recall(str(REF)) is None
    assert await fetch(one.engine) == (SMALL, f"{HIT}; detail=shared")


async def test_a_worker_that_has_ended_is_not_among_the_nodes(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    assert await redis_server.command("HLEN", "media-gateway:nodes") == 1
    await one.stop()
    assert await redis_server.command("HLEN", "media-gateway:nodes") == 0


async def test_an_exchange_says_where_the_log_is(redis_server: RedisServer, nodes: Nodes) -> None:
    redis = RedisClient(redis_server.url, Metrics())
    log = InvalidationLog(redis, nodes.clock)
    news = await log.exchange(None)
    assert (news.last.number, news.invalidations, news.gap) == (0, (), True)
    assert not (await log.exchange(news.last)).gap
    place = await log.write(Erase("AC"))
    assert place.number == 1
    assert await log.behind(place) == 1
    assert (await log.exchange(news.last)).invalidations == ((1, Erase("AC")),)
    assert not (await log.exchange(place)).invalidations
    assert await log.behind(place) == 0
    await redis.close()


def test_a_change_is_read_as_it_was_written() -> None:
    for invalidation in (
        Erase(""),
        Block(BlockKind.GONE, "AC/MM/ME", 5.5),
        Lift(BlockKind.REVOKED, "AC/"),
        Lift(BlockKind.REVOKED, "AC/", 7.0),
    ):
        assert decode_member(b"17 " + encode(Record.of(invalidation))) == (17, invalidation)
    restored = Block(BlockKind.REVOKED, "é", 1e10)
    assert decode_member(b"17 " + encode(Record.of(restored, restore=True))) == (17, restored)


@pytest.mark.parametrize(
    "member",
    [
        None,
        b"",
        b"17",
        b"x " + encode(Record.of(Erase(""))),
        b"17 \x90",
        b"1 " + encode(Record(Action.LIFT, "")),
    ],
)
def test_what_is_no_change_is_none(member: object) -> None:
    assert decode_member(member) is None


def test_what_is_no_block_is_none() -> None:
    assert named_block(b"1/AC/", 5.0) == Block(BlockKind.REVOKED, "AC/", 5.0)
    assert named_block(b"2/", float("inf")) == Block(BlockKind.GONE, "", FARTHEST)
    bad = (b"", b"1", b"x/AC", b"9/AC", b"3/AC", b"1/\xff", b"1/" + b"A" * 129, b"1/A\0C", b"9" * 5_000 + b"/A")
    assert [named_block(name, 5.0) for name in bad] == [None] * len(bad)


# --- workers of one folder, and what is revoked again ------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no change wait for the other workers, as none does for one that is silent for too long."""

    async def none(*_: object) -> int:
        return 0

    monkeypatch.setattr(InvalidationLog, "behind", none)


def watch_lifts(monkeypatch: pytest.MonkeyPatch, late: Node, of: Node, ref: MediaRef) -> list[BlockKind]:
    """Return what holds of `ref` for another worker after each block that the late one lifts."""
    seen: list[BlockKind] = []
    adopt = late.tiers._invalidations.adopt

    async def watched(invalidation: Invalidation, now: float) -> None:
        await adopt(invalidation, now)
        if isinstance(invalidation, Lift):
            seen.append(await of.engine.block_kinds(ref))

    monkeypatch.setattr(late.tiers._invalidations, "adopt", watched)
    return seen


async def test_a_late_worker_does_not_lift_what_was_revoked_again(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    one, late = await nodes.start(redis_server.url, name="same"), await nodes.start(redis_server.url, name="same")
    inner, asked, released = late.shared.follower._log.exchange, asyncio.Event(), asyncio.Event()

    async def held(known: Position | None) -> News:
        asked.set()
        await released.wait()
        return await inner(known)

    monkeypatch.setattr(late.shared.follower._log, "exchange", held)
    await asked.wait()
    await one.engine.revoke(Reach.of(REF), 1_000)
    await one.engine.lift_revocation(Reach.of(REF.parent))
    nodes.clock.now += 1
    await one.engine.revoke(Reach.of(REF), 1_000)
    seen = watch_lifts(monkeypatch, late, one, REF)
    released.set()
    await until(lambda: late.shared.follower.position == one.shared.follower.position)
    assert seen == [BlockKind.REVOKED]
    # Lifting is what it was for all that do not come late.
    await late.engine.lift_revocation(Reach.of(REF.parent))
    assert [await node.engine.block_kinds(REF) for node in (one, late)] == [BlockKind.NONE, BlockKind.NONE]


async def test_a_worker_that_begins_again_lifts_no_newer_block(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    one, late = await nodes.start(redis_server.url, name="same"), await nodes.start(redis_server.url, name="same")
    inner, read, released = late.shared.follower._log.blocks, asyncio.Event(), asyncio.Event()

    async def held() -> SharedBlocks:
        theirs = await inner()
        read.set()
        await released.wait()
        return theirs

    monkeypatch.setattr(late.shared.follower._log, "blocks", held)
    # More than the log keeps, for the late one alone.
    late.shared.follower._position = Position(one.shared.backend.run, 1_000_000)
    await read.wait()
    nodes.clock.now += 1
    await one.engine.revoke(Reach.of(REF), 1_000)
    seen = watch_lifts(monkeypatch, late, one, REF)
    released.set()
    await until(lambda: late.shared.follower.position == one.shared.follower.position)
    assert BlockKind.NONE not in seen
    assert await one.engine.block_kinds(REF) is BlockKind.REVOKED


async def test_a_folder_that_lost_its_blocks_gets_them_back(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    await one.engine.revoke(Reach.of(REF), 1_000)
    assert one.tiers.disk is not None
    for path in one.tiers.disk._folder.path.glob("index-*"):
        path.unlink()
    await one.engine.revoke(Reach.of(OTHER), 1_000)
    found = (await one.tiers._invalidations.blocks(-1)).found
    assert {block.prefix for block in found} == {str(REF), str(OTHER)}


async def test_a_fetch_that_began_before_a_gap_is_in_doubt(redis_server: RedisServer, nodes: Nodes) -> None:
    gate = asyncio.Semaphore(1)
    nodes.origin.then(big(chunk_gate=gate))
    one = await nodes.start(redis_server.url, max_bytes=0)
    async with one.engine.open(REF, NOTHING) as opened:
        assert await opened.body.read(0, 1)
    begun = one.tiers.epoch
    await redis_server.command("HINCRBY", "media-gateway:log", "number", 1)
    await until(lambda: one.shared.follower._line > begun and one.shared.follower.current)
    for _ in range(len(BIG)):
        gate.release()
    await settled(one.engine)
    found = await one.tiers.find(REF)
    assert found is not None
    assert one.shared.follower.behind(found.entry.epoch)


async def test_a_revocation_without_the_shared_tier_is_told_later(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url, name="one"), await nodes.start(redis_server.url)
    await one.stop()
    async with open_disk(nodes._folder / "one", 1_000_000, nodes.clock) as disk:
        await disk.invalidations.apply(Block(BlockKind.REVOKED, str(OTHER), nodes.clock.now + 1_000), nodes.clock.now)
    # As a gateway does that begins without one.
    (nodes._folder / "one" / CHECKPOINT).unlink()
    one = await nodes.start(redis_server.url, name="one")
    await until(lambda: other.shared.follower.position == one.shared.follower.position)
    assert await other.engine.block_kinds(OTHER) is BlockKind.REVOKED
    # A gap lifts nothing of it.
    await redis_server.command("HINCRBY", "media-gateway:log", "number", 1)
    await until(lambda: one.shared.follower.position == other.shared.follower.position)
    assert await one.engine.block_kinds(OTHER) is BlockKind.REVOKED
