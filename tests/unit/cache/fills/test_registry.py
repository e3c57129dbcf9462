"""The bounds on fills: which ones go on without readers, which one ends for another, and what is said to be stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.disk.files import BodyFile
from proxy.cache.engine import Engine
from proxy.cache.fills.registry import FillBounds, has_share
from proxy.cache.invalidation.policy import Erase
from proxy.cache.ram.store import RamStore
from proxy.cache.tiers import Tiers
from proxy.erasure import Reach
from proxy.errors import Overloaded
from proxy.model import MediaRef
from proxy.semantics.freshness import FreshnessPolicy
from proxy.telemetry.metrics import Metrics
from tests.unit.cache.rigs import BIG, Rig, big, failing_after, fetch, joined, read, settled
from tests.unit.cache.scripted import NOTHING, REF, HeldClock, Script, ScriptedOrigin

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
    monkeypatch.setattr(BodyFile, "write", failing_after(0))
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
