"""Fills: what keeps them going, how they end, and what they free."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cache.checksum import Checksum
from proxy.cache.disk.files import BodyFile
from proxy.cache.disk.store import DiskStore
from proxy.cache.engine import Engine
from proxy.cache.entry import Entry
from proxy.cache.fills.registry import FillBounds, has_share
from proxy.cache.invalidation.policy import Erase
from proxy.cache.ram.store import RamStore
from proxy.cache.tiers import Tiers
from proxy.erasure import Reach
from proxy.errors import GatewayError, MediaNotFound, Overloaded, StoreError, UpstreamError, UpstreamTruncated
from proxy.model import MediaRef
from proxy.semantics.freshness import FreshnessPolicy
from proxy.telemetry.metrics import Metrics
from tests.unit.cache.rigs import BIG, Rig, big, fetch, joined, persist, read, settled
from tests.unit.cache.scripted import NOTHING, REF, HeldClock, Script, ScriptedOrigin

NO_STORE = (("Cache-Control", "no-store"), ("ETag", '"one"'))
MIDDLING = Script(chunks=(b"x" * 100_000,) * 15, length=1_500_000, fields=NO_STORE)
"""More than a window holds, of which little is left when the window is full."""
SPOOL = 3_000_000


def whole_again(engine: Engine, spool: int = 10_000_000) -> None:
    """Assert that the allowance has as many bytes as at the start."""
    allowance = engine._fills._allowance
    allowance.take(spool)
    with pytest.raises(Overloaded):
        allowance.take(1)
    allowance.give(spool)


# --- for whom a fill goes on ------------------------------------------------------------------------------------


async def test_an_unstorable_fill_ends_with_its_reader(rig: Rig) -> None:
    engine = await rig.engine()
    rig.origin.then(MIDDLING)
    async with engine.open(REF, NOTHING) as opened:
        await opened.body.read(0, 1)
    await settled(engine)
    assert MIDDLING.left.is_set()
    whole_again(engine)


async def test_a_body_too_large_to_store_ends_with_its_reader(rig: Rig) -> None:
    engine = await rig.engine(disk=False)
    rig.origin.then(Script(chunks=MIDDLING.chunks, length=1_500_000))
    async with engine.open(REF, NOTHING) as opened:
        assert opened.in_order
    await settled(engine)
    whole_again(engine)


async def test_rfc5861_s3_a_background_validation_that_brings_no_store_ends(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_while_revalidate=50))
    await fetch(engine)
    await settled(engine)
    rig.clock.now += 110
    rig.origin.then(MIDDLING)
    assert (await fetch(engine))[1] == "media-gateway; hit; ttl=-10"
    await settled(engine)
    assert len(rig.origin.asked) == 2
    whole_again(engine)


async def test_a_background_validation_outlives_a_reader_that_joins_and_leaves(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_while_revalidate=50))
    await fetch(engine)
    await settled(engine)
    rig.clock.now += 110
    gate = asyncio.Event()
    rig.origin.then(Script(status=304, fields=(("ETag", '"one"'),), head_gate=gate))
    await fetch(engine)
    rig.clock.now += 50
    joining = asyncio.ensure_future(fetch(engine))
    await joined(engine, 1)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    gate.set()
    await settled(engine)
    assert (await fetch(engine))[1] == "media-gateway; hit; ttl=100"


async def test_an_erased_background_validation_fetches_nothing_unasked(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_while_revalidate=50))
    await fetch(engine)
    await settled(engine)
    rig.clock.now += 110
    gate = asyncio.Event()
    rig.origin.arrived.clear()
    rig.origin.then(Script(status=304, fields=(("ETag", '"one"'),), head_gate=gate), Script())
    await fetch(engine)
    await rig.origin.arrived.wait()
    await engine.erase(Reach.of(REF))
    gate.set()
    await settled(engine)
    assert len(rig.origin.asked) == 2
    assert await engine.tiers.find(REF) is None


async def test_what_is_fetched_after_an_erased_validation_is_stored(rig: Rig) -> None:
    engine = await rig.engine()
    await fetch(engine)
    rig.clock.now += 101
    gate = asyncio.Event()
    rig.origin.arrived.clear()
    rig.origin.then(Script(status=304, fields=(("ETag", '"one"'),), head_gate=gate), Script(chunks=(b"new",), length=3))
    validating = asyncio.ensure_future(fetch(engine))
    await rig.origin.arrived.wait()
    await engine.erase(Reach.of(REF))
    gate.set()
    assert (await validating)[0] == b"new"
    await settled(engine)
    assert await fetch(engine) == (b"new", "media-gateway; hit; ttl=100")


# --- fills without readers --------------------------------------------------------------------------------------

OTHER = MediaRef.parse("AC" + "d" * 32, "MM" + "b" * 32, "ME" + "c" * 32)
"""A media of another account than that of `REF`."""


def numbered(number: int, like: MediaRef = REF) -> MediaRef:
    return MediaRef.parse(str(like.account), str(like.message), f"ME{number:032x}")


async def glance(engine: Engine, ref: MediaRef) -> None:
    """Read a byte, and leave."""
    async with engine.open(ref, NOTHING) as opened:
        await opened.body.read(0, 1)


def gated(length: int = 20) -> tuple[Script, asyncio.Semaphore]:
    """Return a media whose first ten bytes come at once, and the others one for each release."""
    gate = asyncio.Semaphore(1)
    return Script(chunks=(b"0123456789", *(b"x",) * (length - 10)), length=length, chunk_gate=gate), gate


def under_way(engine: Engine) -> set[MediaRef]:
    return {fill.ref for fill in engine.fills}


async def test_readers_that_leave_and_return_make_one_read(rig: Rig) -> None:
    engine = await rig.engine()
    script, gate = gated()
    rig.origin.then(script)
    for _ in range(5):
        await glance(engine, REF)
    for _ in range(10):
        gate.release()
    await settled(engine)
    assert await fetch(engine) == (b"0123456789" + b"x" * 10, "media-gateway; hit; ttl=100")
    assert len(rig.origin.asked) == 1


@pytest.mark.parametrize(
    ("bounds", "first"),
    [(FillBounds(unread=2), REF), (FillBounds(unread_by_account=2), REF), (FillBounds(most=2), REF)],
    ids=["in all", "by account", "for want of a place"],
)
async def test_the_fill_unread_for_longest_ends_for_one_more(rig: Rig, bounds: FillBounds, first: MediaRef) -> None:
    engine = await rig.engine(bounds=bounds)
    for number in range(2):
        rig.origin.then(gated()[0])
        await glance(engine, numbered(number))
    # The first one is read again, and is then the one that was unread for the shorter time.
    await glance(engine, numbered(0))
    rig.origin.then(gated()[0])
    await glance(engine, numbered(2))
    assert under_way(engine) == {numbered(0), numbered(2)}
    assert len(rig.origin.asked) == 3


async def test_one_accounts_unread_fills_end_none_of_anothers(rig: Rig) -> None:
    engine = await rig.engine(bounds=FillBounds(unread_by_account=1))
    for ref in (OTHER, numbered(1), numbered(2)):
        rig.origin.then(gated()[0])
        await glance(engine, ref)
    assert under_way(engine) == {OTHER, numbered(2)}


async def test_a_fill_that_is_read_ends_for_no_other(rig: Rig) -> None:
    engine = await rig.engine(bounds=FillBounds(most=1, unread=1))
    rig.origin.then(gated()[0])
    async with engine.open(REF, NOTHING):
        with pytest.raises(Overloaded):
            await glance(engine, numbered(1))
        assert under_way(engine) == {REF}


def of_message(number: int) -> MediaRef:
    """Return a media of one account, whose message has that number."""
    return MediaRef.parse(REF.account.value, f"MM{number:032x}", "ME" + "c" * 32)


@given(st.integers(1, 400), st.integers(1, 6))
def test_accounts_that_ask_without_end_leave_places_to_the_next(most: int, floods: int) -> None:
    counts = [0] * floods
    while any(has_share(most, sum(counts), count, 0) for count in counts):
        for flood, count in enumerate(counts):
            counts[flood] += has_share(most, sum(counts), count, 0)
    assert sum(counts) <= most
    # Each gets an equal part, and the next account would get one too.
    assert max(counts) - min(counts) <= 1
    assert most - sum(counts) >= most // (floods + 1) - 1
    assert all(counts) or most < floods


@given(st.integers(1, 400))
def test_a_flooded_message_leaves_places_to_its_account(most: int) -> None:
    of_message = 0
    while has_share(most, of_message, of_message, of_message):
        of_message += 1
    assert of_message == min(most, (most + 1) // 3 + 1)
    # If there are more than a few places, another message of the account gets one.
    assert has_share(most, of_message, of_message, 0) or most < 6


async def test_an_accounts_fills_leave_places_to_another_account(rig: Rig) -> None:
    engine = await rig.engine(bounds=FillBounds(most=5))
    async with AsyncExitStack() as stack:
        for number in range(2):
            rig.origin.then(gated()[0])
            await stack.enter_async_context(engine.open(of_message(number), NOTHING))
        rig.origin.then(gated()[0])
        await stack.enter_async_context(engine.open(of_message(2), NOTHING))
        with pytest.raises(Overloaded):
            await glance(engine, of_message(3))
        rig.origin.then(gated()[0])
        await stack.enter_async_context(engine.open(OTHER, NOTHING))
        assert len(under_way(engine)) == 4


async def test_the_readers_of_one_account_that_wait_are_bounded(rig: Rig) -> None:
    engine = await rig.engine(bounds=FillBounds(readers_by_account=2))
    gate = asyncio.Event()
    rig.origin.then(Script(head_gate=gate))
    waiting = [asyncio.create_task(fetch(engine)) for _ in range(2)]
    await joined(engine, 2)
    with pytest.raises(Overloaded):
        await fetch(engine)
    rig.origin.then(Script())
    async with engine.open(OTHER, NOTHING) as opened:
        assert await read(opened) == b"0123456789"
    gate.set()
    assert [body for body, _ in await asyncio.gather(*waiting)] == [b"0123456789"] * 2
    assert (await fetch(engine))[0] == b"0123456789"


async def test_an_unread_fill_gives_its_connection_to_one_with_readers(rig: Rig) -> None:
    engine = await rig.engine(bounds=FillBounds(connections=1))
    rig.origin.then(gated()[0])
    await glance(engine, OTHER)
    rig.origin.then(gated()[0])
    await glance(engine, numbered(1))
    rig.origin.then(gated()[0])
    async with engine.open(numbered(2), NOTHING):
        assert under_way(engine) == {OTHER, numbered(2)}


async def test_a_fill_that_loses_its_readers_gives_its_connection_up(rig: Rig) -> None:
    engine = await rig.engine(bounds=FillBounds(connections=1))
    rig.origin.then(gated()[0])
    async with engine.open(numbered(1), NOTHING) as first:
        await first.body.read(0, 1)
        rig.origin.then(gated()[0])
        async with engine.open(numbered(2), NOTHING):
            await first.body.close()
            assert under_way(engine) == {numbered(2)}


@pytest.mark.parametrize("reach", [REF, None], ids=["its media", "everything"])
async def test_an_unread_fill_ends_at_an_erasure(rig: Rig, reach: MediaRef | None) -> None:
    engine = await rig.engine()
    script, _ = gated()
    rig.origin.then(script)
    await glance(engine, REF)
    await engine.erase(Reach.of(OTHER))
    assert under_way(engine) == {REF}
    await engine.erase(Reach.of(reach))
    assert under_way(engine) == set()
    await script.left.wait()


@pytest.mark.parametrize(
    "block", [Engine.mark_gone, lambda engine, ref, seconds: engine.revoke(Reach.of(ref), seconds)]
)
async def test_an_unread_fill_ends_at_a_deletion_or_revocation(
    rig: Rig, block: Callable[[Engine, MediaRef, float], Awaitable[None]]
) -> None:
    engine = await rig.engine()
    rig.origin.then(gated()[0])
    await glance(engine, REF)
    await block(engine, REF, 100.0)
    assert under_way(engine) == set()


async def test_an_unread_fill_ends_at_an_erasure_by_another_worker(rig: Rig) -> None:
    engine = await rig.engine()
    script, gate = gated()
    rig.origin.then(script)
    await glance(engine, REF)
    # Another worker erases: this engine is not told.
    await engine.tiers.apply(Erase(str(REF)))
    assert under_way(engine) == {REF}
    gate.release()
    await script.left.wait()
    await settled(engine)


async def test_a_drain_ends_unread_fills_and_no_read_ones(rig: Rig) -> None:
    engine = await rig.engine()
    rig.origin.then(gated()[0])
    await glance(engine, OTHER)
    script, gate = gated(11)
    rig.origin.then(script)
    async with engine.open(REF, NOTHING) as opened:
        engine.drain()
        assert under_way(engine) == {REF}
        gate.release()
        assert await read(opened) == b"0123456789x"
    rig.origin.then(gated()[0])
    await glance(engine, numbered(1))
    assert numbered(1) not in under_way(engine)


async def test_an_unread_fill_that_has_come_whole_is_stored(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Semaphore(1)
    # The end of the body comes later.
    rig.origin.then(Script(chunks=(b"0123456789", b""), chunk_gate=gate))
    async with engine.open(REF, NOTHING) as opened:
        await opened.body.read(0, 10)
        engine.drain()
    assert under_way(engine) == {REF}
    gate.release()
    await settled(engine)
    assert (await fetch(engine))[1] == "media-gateway; hit; ttl=100"


async def test_a_background_validation_ends_no_other_fill(rig: Rig) -> None:
    engine = await rig.engine(
        FreshnessPolicy(default_lifetime=100, stale_while_revalidate=50), bounds=FillBounds(unread=1)
    )
    await fetch(engine)
    await settled(engine)
    rig.origin.then(gated()[0])
    await glance(engine, OTHER)
    rig.clock.now += 110
    assert (await fetch(engine))[1] == "media-gateway; hit; ttl=-10"
    assert under_way(engine) == {OTHER}


# --- what is said to be stored ------------------------------------------------------------------------------------


def unannounced(length: int) -> Script:
    return Script(chunks=(b"x" * length,), length=None)


async def said(engine: Engine) -> bool:
    return "; stored" in (await fetch(engine))[1]


async def test_rfc9211_s2_5_stored_is_said_if_the_largest_fits(rig: Rig) -> None:
    rig.origin.then(unannounced(10))
    assert await said(await rig.engine(bounds=FillBounds(largest=1_000_000)))


@pytest.mark.parametrize("disk", [True, False])
async def test_rfc9211_s2_5_stored_is_unsaid_if_tiers_may_overflow(rig: Rig, disk: bool) -> None:
    engine = await rig.engine(disk=disk, bounds=FillBounds(largest=100_000_001))
    rig.origin.then(unannounced(10))
    assert not await said(engine)
    await settled(engine)
    # If it turns out to be short, it is stored all the same.
    assert (await fetch(engine))[1].startswith("media-gateway; hit")


async def test_rfc9211_s2_5_stored_is_unsaid_if_ram_is_small(tmp_path: Path) -> None:
    metrics = Metrics()
    memory = RamStore(10_000, metrics)
    tiers = Tiers(memory, None, ram_object_bytes=10_000, metrics=metrics)
    clock = HeldClock()
    origin = ScriptedOrigin(clock, Script(chunks=(b"x" * 9_500,), length=9_500))
    async with Engine(origin, tiers, FreshnessPolicy(default_lifetime=9), clock, FillBounds()) as engine:
        assert not await said(engine)
    assert len(memory) == 0


async def test_rfc9211_s2_5_stored_is_unsaid_after_the_disk_failed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BodyFile, "write", _failing_after(0))
    engine = await rig.engine()
    gate = asyncio.Semaphore(10)
    rig.origin.then(big(chunk_gate=gate))
    async with engine.open(REF, NOTHING) as first:
        assert first.status.stored
        (fill,) = engine.fills
        while fill.lasting:  # noqa: ASYNC110 - a failure of the disk has no event
            await asyncio.sleep(0)
        async with engine.open(REF, NOTHING) as late:
            assert not late.status.stored
        for _ in range(100):
            gate.release()
        assert await read(first) == BIG


# --- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "content", "utf8"),
    [
        ("text/plain", "Grüße".encode(), True),
        ("text/plain", "Grüße".encode("latin-1"), False),
        ("text/plain", b"plain", False),
        ("text/plain; charset=latin1", "Grüße".encode(), False),
        ("image/jpeg", "Grüße".encode(), False),
    ],
)
async def test_utf8_text_is_known_as_such_once_it_is_whole(
    tmp_path: Path, kind: str, content: bytes, utf8: bool
) -> None:
    async with AsyncExitStack() as stack:
        rig = Rig(stack, tmp_path)
        engine = await rig.engine()
        script = Script(
            chunks=tuple(content[at : at + 1] for at in range(len(content))),
            length=len(content),
            fields=(("Content-Type", kind),),
        )
        rig.origin.then(script)
        async with engine.open(REF, NOTHING) as opened:
            await opened.body.come(len(content) + 1, 60)
            assert opened.body.whole
            assert opened.body.utf8 is utf8
        await settled(engine)
        async with engine.open(REF, NOTHING) as stored:
            assert stored.body.utf8 is utf8
    async with AsyncExitStack() as stack, (await Rig(stack, tmp_path).engine()).open(REF, NOTHING) as restarted:
        assert restarted.body.utf8 is utf8


# --- the engine's end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 5], ids=["before the fill's first step", "after it", "at the head"])
async def test_the_engines_end_cuts_off_readers_without_a_head(tmp_path: Path, steps: int) -> None:
    async with AsyncExitStack() as stack:
        rig = Rig(stack, tmp_path)
        engine = await rig.engine(disk=False)
        rig.origin.then(Script(head_gate=asyncio.Event()))
        reader = asyncio.ensure_future(fetch(engine))
        for _ in range(steps):
            await asyncio.sleep(0)
        assert len(engine.fills) == 1
    with pytest.raises(UpstreamError):
        await reader


async def test_the_engines_end_cuts_off_readers_during_a_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dropping = asyncio.Event()

    async def drop(*_: object) -> None:
        dropping.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Tiers, "drop", drop)
    async with AsyncExitStack() as stack:
        rig = Rig(stack, tmp_path)
        engine = await rig.engine()
        rig.origin.then(Script(error=MediaNotFound()))
        reader = asyncio.ensure_future(fetch(engine))
        await dropping.wait()
    with pytest.raises(UpstreamError):
        await reader


async def test_the_engines_end_cuts_off_readers_and_frees_their_bytes(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        rig = Rig(stack, tmp_path)
        engine = await rig.engine()
        rig.origin.then(big(chunk_gate=asyncio.Semaphore(5)))
        begun = asyncio.Event()

        async def read() -> None:
            async with engine.open(REF, NOTHING) as opened:
                begun.set()
                await opened.body.read(len(BIG) - 1, 1)

        reader = asyncio.ensure_future(read())
        await begun.wait()
    with pytest.raises(UpstreamError):
        await reader
    whole_again(engine)
    assert list((tmp_path / "incoming").rglob("*")) == []


async def test_a_whole_fill_is_stored_before_the_engine_ends(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        rig = Rig(stack, tmp_path)
        engine = await rig.engine()
        rig.origin.then(big())
        async with engine.open(REF, NOTHING) as opened:
            await opened.body.read(len(BIG) - 1, 1)
            assert [fill.whole for fill in engine.fills] == [True]
    async with AsyncExitStack() as stack:
        assert await fetch(await Rig(stack, tmp_path).engine()) == (BIG, "media-gateway; hit; ttl=100")


async def test_no_fill_begins_after_the_engines_end(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        rig = Rig(stack, tmp_path)
        engine = await rig.engine(disk=False)
    with pytest.raises(Overloaded):
        await fetch(engine)
    assert rig.origin.asked == []


# --- failures ---------------------------------------------------------------------------------------------------


async def test_a_remembered_failure_holds_on_to_nothing_of_its_fill(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Semaphore(1)
    rig.origin.then(Script(chunks=(b"01234", UpstreamTruncated()), chunk_gate=gate))

    async def broken() -> weakref.ref[object]:
        async with engine.open(REF, NOTHING) as opened:
            (fill,) = engine.fills
            gate.release()
            with pytest.raises(UpstreamTruncated):
                await opened.body.read(5, 1)
            return weakref.ref(fill)

    fill = await broken()
    await settled(engine)
    # The script holds on to what it raised.
    rig.origin.then(Script())
    await asyncio.sleep(0)
    gc.collect()
    assert fill() is None


async def test_a_late_reader_is_told_what_broke_the_last_fill(rig: Rig) -> None:
    engine = await rig.engine()
    rig.origin.then(Script(chunks=(UpstreamTruncated("cut"),)))
    with pytest.raises(UpstreamTruncated):
        await persist(engine)
    for _ in range(2):
        with pytest.raises(UpstreamTruncated, match="cut"):
            async with engine.open(REF, NOTHING, attempt=2):
                pass
    assert len(rig.origin.asked) == 3


async def test_a_fill_that_lost_its_readers_costs_no_attempt(rig: Rig) -> None:
    engine = await rig.engine()
    rig.origin.then(MIDDLING, Script())
    async with engine.open(REF, NOTHING, attempt=3) as last:
        await last.body.read(0, 1)
    await settled(engine)
    async with engine.open(REF, NOTHING, attempt=3) as opened:
        assert await opened.body.read(0, 10) == b"0123456789"


async def test_attempts_are_counted_over_joined_fills_and_hits(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Semaphore(0)
    rig.origin.then(Script(chunk_gate=gate))
    async with engine.open(REF, NOTHING), engine.open(REF, NOTHING, attempt=2) as joining:
        assert joining.attempt == 2
    gate.release()
    await settled(engine)
    async with engine.open(REF, NOTHING, attempt=3) as hit:
        assert engine.next_attempt(hit, StoreError()) is None


async def test_waiting_far_ahead_and_going_away_leaves_nothing_behind(rig: Rig) -> None:
    engine = await rig.engine()
    gate = asyncio.Semaphore(0)
    rig.origin.then(Script(chunks=(b"01", b"23456789"), chunk_gate=gate))
    async with engine.open(REF, NOTHING) as opened:
        ahead = [asyncio.ensure_future(opened.body.read(9, 1)) for _ in range(50)]
        await asyncio.sleep(0)
        for reading in ahead:
            reading.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)
        gate.release()
        assert await opened.body.read(0, 2) == b"01"
        (fill,) = engine.fills
        assert len(fill._waiters) == 0
        gate.release()
        assert await opened.body.read(9, 1) == b"9"


async def test_measuring_a_broken_fill_raises_its_failure(rig: Rig) -> None:
    engine = await rig.engine()
    rig.origin.then(Script(chunks=(b"01234", UpstreamTruncated("cut")), length=None))
    async with engine.open(REF, NOTHING) as opened:
        with pytest.raises(UpstreamTruncated, match="cut"):
            await opened.body.measure()


# --- what is given back -----------------------------------------------------------------------------------------


async def test_a_last_reader_cancelled_as_it_leaves_frees_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, gate = asyncio.Event(), asyncio.Event()
    write = BodyFile.write

    async def slow(file: BodyFile, blocks: Sequence[bytes], offset: int, checksum: Checksum) -> None:
        writing.set()
        await gate.wait()
        await write(file, blocks, offset, checksum)

    monkeypatch.setattr(BodyFile, "write", slow)
    async with AsyncExitStack() as stack:
        rig = Rig(stack, tmp_path)
        engine = await rig.engine()
        rig.origin.then(Script(chunks=(BIG[:600_000], UpstreamTruncated()), length=len(BIG)))
        async with engine.open(REF, NOTHING) as opened:
            await writing.wait()
            await settled(engine)
            closing = asyncio.ensure_future(opened.body.close())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
        gate.set()
        await engine.__aexit__(None, None, None)
        whole_again(engine)
        assert [path.name for path in (tmp_path / "incoming").rglob("*") if path.is_file()] == ["lock"]


async def test_a_broken_fills_file_that_cannot_be_discarded_costs_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise StoreError(note="read-only")

    monkeypatch.setattr(DiskStore, "discard", fail)
    engine = await rig.engine()
    rig.origin.then(Script(chunks=(BIG[:600_000], UpstreamTruncated()), length=len(BIG)))
    with pytest.raises(UpstreamTruncated):
        await fetch(engine)
    await settled(engine)
    whole_again(engine)


_plans = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(1, 700_000), max_size=6),
        "announced": st.booleans(),
        "storable": st.booleans(),
        "broken": st.booleans(),
        "disk": st.sampled_from(["none", "sound", "failing"]),
        "erase": st.booleans(),
        "readers": st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(0, 40)), min_size=1, max_size=6),
    }
)


@settings(max_examples=60, deadline=None)
@given(plan=_plans)
def test_after_everything_is_closed_the_allowance_is_whole_again(plan: dict[str, object]) -> None:
    match plan:
        case {
            "sizes": list(sizes),
            "announced": announced,
            "storable": storable,
            "broken": broken,
            "disk": str(disk),
            "erase": erase,
            "readers": list(readers),
        }:
            chunks: list[bytes | Exception] = [b"x" * size for size in sizes]
            if broken:
                chunks.append(UpstreamTruncated())
            length = sum(sizes) if announced else None
            fields = () if storable else NO_STORE
            script = Script(chunks=chunks, length=length, fields=fields)
            asyncio.run(_play(script, disk=disk, erase=bool(erase), readers=readers))


async def _play(script: Script, *, disk: str, erase: bool, readers: list[tuple[int, int]]) -> None:
    """Play it with `readers`: the bytes that each one reads, and the turns of the loop after which it is cancelled."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if disk == "failing":
            patch.setattr(BodyFile, "write", _failing_after(2))
        async with AsyncExitStack() as stack:
            rig = Rig(stack, Path(folder))
            rig.origin.then(script)
            engine = await rig.engine(disk=disk != "none", bounds=FillBounds(most=3, spool_bytes=SPOOL))
            tasks = [asyncio.ensure_future(_read_some(engine, size)) for size, _ in readers]
            for turn in range(40):
                for task, (_, patience) in zip(tasks, readers, strict=True):
                    if turn == patience:
                        task.cancel()
                if erase and turn == 10:
                    await engine.erase(Reach.of(REF))
                await asyncio.sleep(0)
            await asyncio.gather(*tasks, return_exceptions=True)
        whole_again(engine, SPOOL)
        assert list((Path(folder) / "incoming").rglob("*")) == []


async def _read_some(engine: Engine, size: int) -> None:
    got = 0
    try:
        async with engine.open(REF, NOTHING) as opened:
            while got < size and (block := await opened.body.read(got, size - got)):
                got += len(block)
    except GatewayError:
        return


def _failing_after(writes: int) -> Callable[..., object]:
    left = writes
    write = BodyFile.write

    async def failing(file: BodyFile, blocks: Sequence[bytes], offset: int, checksum: Checksum) -> None:
        nonlocal left
        if not left:
            raise StoreError(note="full")
        left -= 1
        await write(file, blocks, offset, checksum)

    return failing


async def test_readers_have_the_last_bytes_before_they_are_stored(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await rig.engine()
    keep, came = engine.tiers.keep, list[str]()

    async def noted(ref: MediaRef, entry: Entry, content: bytes | BodyFile) -> bool:
        came.append("stored")
        return await keep(ref, entry, content)

    monkeypatch.setattr(engine.tiers, "keep", noted)
    async with engine.open(REF, NOTHING) as opened:
        assert await read(opened) == b"0123456789"
        came.append("read")
    await settled(engine)
    assert came == ["read", "stored"]


async def test_two_media_are_filled_apart(rig: Rig) -> None:
    engine = await rig.engine()
    other = MediaRef.parse("AC" + "a" * 32, "MM" + "b" * 32, "ME" + "d" * 32)
    async with engine.open(REF, NOTHING), engine.open(other, NOTHING) as second:
        assert not second.status.collapsed
    assert len(rig.origin.asked) == 2
