"""The life of fills: their readers, their ends, and what they free."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import weakref
from collections.abc import Sequence
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
from proxy.cache.fills.registry import FillBounds
from proxy.cache.tiers import Tiers
from proxy.erasure import Reach
from proxy.errors import GatewayError, MediaNotFound, Overloaded, StoreError, UpstreamError, UpstreamTruncated
from proxy.model import MediaRef
from proxy.semantics.freshness import FreshnessPolicy
from tests.unit.cache.rigs import BIG, Rig, big, failing_after, fetch, joined, persist, read, settled
from tests.unit.cache.scripted import NOTHING, REF, Script

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
            patch.setattr(BodyFile, "write", failing_after(2))
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


async def test_a_fault_in_storing_costs_readers_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await rig.engine()
    rig.origin.then(big())

    async def keep(*_: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(Tiers, "keep", keep)
    async with engine.open(REF, NOTHING) as opened:
        await settled(engine)
        assert await read(opened) == BIG
    whole_again(engine)


async def test_two_media_are_filled_apart(rig: Rig) -> None:
    engine = await rig.engine()
    other = MediaRef.parse("AC" + "a" * 32, "MM" + "b" * 32, "ME" + "d" * 32)
    async with engine.open(REF, NOTHING), engine.open(other, NOTHING) as second:
        assert not second.status.collapsed
    assert len(rig.origin.asked) == 2
