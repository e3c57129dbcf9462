"""The tiers: what changes while it is looked up, what is erased, and a disk that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from proxy.cache.checksum import checksum
from proxy.cache.disk.backend import DiskBackend
from proxy.cache.disk.invalidations import FolderInvalidations
from proxy.cache.disk.store import DiskStore
from proxy.cache.disk.threads import on
from proxy.cache.engine import Engine
from proxy.cache.entry import Entry
from proxy.cache.invalidation.policy import Erase
from proxy.cache.stored import StoredResponse
from proxy.cache.tiers import Tiers
from proxy.erasure import Reach
from proxy.errors import MediaNotFound, StoreError, UpstreamUnreachable
from proxy.model import MediaRef
from proxy.semantics.freshness import FreshnessPolicy
from tests.unit.cache.rigs import BIG, PLAIN, Rig, big, fetch, persist, settled
from tests.unit.cache.scripted import REF, Script, ScriptedOrigin

KEY = str(REF)
OTHER = MediaRef.parse("AC" + "a" * 32, "MM" + "e" * 32, "ME" + "f" * 32)


@dataclass
class Pause:
    """A call that has been made, and waits until the test lets it go on."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)


def hold_up(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    *,
    after: bool,
    of: type[DiskStore | DiskBackend | FolderInvalidations] = DiskStore,
) -> Pause:
    """Hold up the next call of a method of the disk tier, before it begins or after it has ended."""
    held = Pause()
    original: Callable[..., Awaitable[object]] = getattr(of, name)

    async def slow(*arguments: object) -> object:
        monkeypatch.setattr(of, name, original)
        result = await original(*arguments) if after else None
        held.reached.set()
        await held.gate.wait()
        return result if after else await original(*arguments)

    monkeypatch.setattr(of, name, slow)
    return held


def disk_of(engine: Engine) -> DiskStore:
    assert engine.tiers.disk is not None
    return engine.tiers.disk


async def stored(rig: Rig, script: Script | None = None) -> Engine:
    """Return an engine that has stored what the script says."""
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, stale_if_error=1_000))
    rig.origin.then(script or Script())
    await fetch(engine)
    await settled(engine)
    return engine


async def entry_of(tiers: Tiers, content: bytes) -> Entry:
    """Return another entry of the media that is stored."""
    found = await tiers.find(REF)
    assert found is not None
    return msgspec.structs.replace(
        found.entry,
        generation="f" * 32,
        length=len(content),
        checksum=checksum(content),
        epoch=tiers.epoch,
    )


# --- what changes while it is looked up -------------------------------------------------------------------------


async def test_a_response_dropped_during_its_reading_stays_out_of_ram(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = (await stored(rig)).tiers
    await tiers.memory.clear()
    held = hold_up(monkeypatch, "read_body", after=True)
    finding = asyncio.ensure_future(tiers.find(REF))
    await held.reached.wait()
    await tiers.drop(REF)
    held.gate.set()
    assert await finding is not None
    assert await tiers.find(REF) is None


async def test_a_response_replaced_during_its_reading_stays_replaced(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = (await stored(rig)).tiers
    newer = await entry_of(tiers, b"new")
    await tiers.memory.clear()
    held = hold_up(monkeypatch, "read_body", after=True)
    finding = asyncio.ensure_future(tiers.find(REF))
    await held.reached.wait()
    await tiers.keep(REF, newer, b"new")
    held.gate.set()
    await finding
    found = await tiers.find(REF)
    assert found is not None
    assert found.content == b"new"


async def test_what_is_stored_while_the_disk_is_asked_is_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = (await stored(rig)).tiers
    newer = await entry_of(tiers, b"new")
    await tiers.drop(REF)
    held = hold_up(monkeypatch, "fetch", after=True, of=DiskBackend)
    finding = asyncio.ensure_future(tiers.find(REF))
    await held.reached.wait()
    await tiers.keep(REF, newer, b"new")
    held.gate.set()
    found = await finding
    assert found is not None
    assert found.content == b"new"


async def test_two_look_ups_at_once_read_the_disk_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = (await stored(rig)).tiers
    await tiers.memory.clear()
    held = hold_up(monkeypatch, "read_body", after=False)
    first, second = asyncio.ensure_future(tiers.find(REF)), asyncio.ensure_future(tiers.find(REF))
    await held.reached.wait()
    held.gate.set()
    assert await first is await second is not None
    again = await tiers.find(REF)
    assert again is not None
    assert again.in_ram
    assert len(tiers._look_ups) == 0


async def test_a_response_dropped_during_an_erasure_look_up_stays_dropped(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = (await stored(rig)).tiers
    await tiers.apply(Erase(str(OTHER)))
    held = hold_up(monkeypatch, "erased", after=True, of=FolderInvalidations)
    finding = asyncio.ensure_future(tiers.find(REF))
    await held.reached.wait()
    await tiers.drop(REF)
    held.gate.set()
    assert await finding is None
    assert await tiers.find(REF) is None


async def test_an_erased_fill_does_not_replace_a_newer_response(rig: Rig) -> None:
    tiers = (await stored(rig)).tiers
    older = await entry_of(tiers, b"old")
    await tiers.apply(Erase(str(REF)))
    await tiers.keep(REF, msgspec.structs.replace(older, generation="e" * 32, epoch=tiers.epoch), b"old")
    assert not await tiers.keep(REF, older, b"old")
    held = await tiers.memory.fetch(KEY)
    assert held is not None
    assert held.entry.generation == "e" * 32


# --- erasures ---------------------------------------------------------------------------------------------------


async def test_an_erasure_between_finding_and_opening_wins(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await stored(rig)
    find = Tiers.find

    async def find_and_erase(tiers: Tiers, ref: MediaRef) -> StoredResponse | None:
        monkeypatch.setattr(Tiers, "find", find)
        found = await find(tiers, ref)
        await tiers.apply(Erase(str(ref)))
        return found

    monkeypatch.setattr(Tiers, "find", find_and_erase)
    rig.origin.then(Script(chunks=(b"new",), length=3))
    assert (await fetch(engine))[0] == b"new"


elsewhere = pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
"""The worker of the folder that erases."""


async def erase(rig: Rig, tiers: Tiers, *, elsewhere: bool) -> None:
    """Erase the media, by this worker or by another one of its folder."""
    if not elsewhere:
        await tiers.apply(Erase(str(REF)))
        return
    async with AsyncExitStack() as stack:
        await (await Rig(stack, rig.folder).engine()).erase(Reach.of(REF))


@elsewhere
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_response_erased_during_its_reading_is_not_served(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, elsewhere: bool, after: bool
) -> None:
    engine = await stored(rig)
    tiers = engine.tiers
    await tiers.memory.clear()
    held = hold_up(monkeypatch, "read_body", after=after)
    rig.origin.then(Script(chunks=(b"new",), length=3))
    fetching = asyncio.ensure_future(fetch(engine))
    await held.reached.wait()
    await erase(rig, tiers, elsewhere=elsewhere)
    peeked = []
    keep = tiers.memory.set

    async def spy(key: str, value: StoredResponse, **options: object) -> object:
        peeked.append(value.content)
        return await keep(key, value, **options)

    monkeypatch.setattr(tiers.memory, "set", spy)
    held.gate.set()
    assert (await fetching)[0] == b"new"
    await settled(engine)
    assert peeked == [b"new"]


@elsewhere
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_response_erased_during_its_opening_is_not_served(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, elsewhere: bool, after: bool
) -> None:
    engine = await stored(rig, big())
    held = hold_up(monkeypatch, "open_body", after=after)
    rig.origin.then(Script(chunks=(b"new",), length=3))
    fetching = asyncio.ensure_future(fetch(engine))
    await held.reached.wait()
    await erase(rig, engine.tiers, elsewhere=elsewhere)
    held.gate.set()
    assert (await fetching)[0] == b"new"


@elsewhere
@pytest.mark.parametrize("script", [Script, big], ids=["small", "large"])
async def test_a_second_erasure_during_the_look_up_forbids_serving(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, script: Callable[[], Script], elsewhere: bool
) -> None:
    engine = await stored(rig, script())
    found = await engine.tiers.find(REF)
    assert found is not None
    await engine.erase(Reach.of(OTHER))
    held = hold_up(monkeypatch, "erased", after=True, of=FolderInvalidations)
    opening = asyncio.ensure_future(engine.tiers.open(REF, found))
    await held.reached.wait()
    await erase(rig, engine.tiers, elsewhere=elsewhere)
    held.gate.set()
    assert await opening is None


@elsewhere
async def test_a_second_erasure_during_the_look_up_forbids_storing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    tiers = (await stored(rig)).tiers
    fetched = await entry_of(tiers, b"old")
    await tiers.apply(Erase(str(OTHER)))
    held = hold_up(monkeypatch, "erased", after=True, of=FolderInvalidations)
    keeping = asyncio.ensure_future(tiers.keep(REF, fetched, b"old"))
    await held.reached.wait()
    await erase(rig, tiers, elsewhere=elsewhere)
    await tiers.memory.clear()
    held.gate.set()
    assert not await keeping
    assert tiers.memory.peek(KEY) is None


async def test_rfc5861_s4_an_erased_response_is_not_served_stale(rig: Rig) -> None:
    engine = await stored(rig)
    rig.clock.now += 101
    gate = asyncio.Event()
    rig.origin.arrived.clear()
    rig.origin.then(Script(error=UpstreamUnreachable(), head_gate=gate))
    validating = asyncio.ensure_future(fetch(engine))
    await rig.origin.arrived.wait()
    await engine.erase(Reach.of(REF))
    gate.set()
    with pytest.raises(UpstreamUnreachable):
        await validating


async def test_an_erasure_of_other_media_spares_stale_if_error(rig: Rig) -> None:
    engine = await stored(rig)
    rig.clock.now += 101
    gate = asyncio.Event()
    rig.origin.arrived.clear()
    rig.origin.then(Script(error=UpstreamUnreachable(), head_gate=gate))
    validating = asyncio.ensure_future(fetch(engine))
    await rig.origin.arrived.wait()
    await engine.erase(Reach.of(OTHER))
    gate.set()
    assert (await validating)[1] == "media-gateway; fwd=stale; detail=stale-if-error"


async def test_a_response_older_than_known_erasures_is_still_validated(rig: Rig) -> None:
    engine = await stored(rig)
    await engine.erase(Reach.of(OTHER))
    rig.clock.now += 200_000
    disk = disk_of(engine)
    await on(disk._index_thread, disk._index.forget_erasures, rig.clock.now)
    rig.origin.then(Script(status=304, fields=(("ETag", '"one"'),)))
    assert await fetch(engine) == (b"0123456789", "media-gateway; fwd=stale; fwd-status=304")
    assert await fetch(engine) == (b"0123456789", "media-gateway; hit; ttl=100")


async def test_another_workers_erasure_ends_a_remembered_404(rig: Rig) -> None:
    engine = await rig.engine(FreshnessPolicy(default_lifetime=100, negative_lifetime=10))
    rig.origin.then(Script(error=MediaNotFound()), Script())
    with pytest.raises(MediaNotFound):
        await fetch(engine)
    async with AsyncExitStack() as stack:
        await (await Rig(stack, rig.folder).engine()).erase(Reach.of(REF))
    assert (await fetch(engine))[0] == b"0123456789"


async def test_where_an_erasure_cannot_be_looked_up_it_wins(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await stored(rig)
    await engine.erase(Reach.of(OTHER))

    async def fail(*_: object) -> bool:
        raise StoreError(note="locked")

    monkeypatch.setattr(FolderInvalidations, "erased", fail)
    assert await engine.tiers.erased(REF, 0)


# --- freshening -------------------------------------------------------------------------------------------------


async def test_what_another_worker_replaced_is_freshened_in_ram_alone(rig: Rig) -> None:
    tiers = (await stored(rig)).tiers
    ours = await tiers.find(REF)
    assert ours is not None
    async with AsyncExitStack() as stack:
        theirs = (await Rig(stack, rig.folder).engine()).tiers
        await theirs.keep(REF, await entry_of(theirs, b"new"), b"new")
    assert await tiers.freshen(REF, ours.entry, ours.epoch)
    held = await tiers.memory.fetch(KEY)
    assert held is not None
    assert held.content == b"0123456789"
    await tiers.memory.clear()
    found = await tiers.find(REF)
    assert found is not None
    assert found.content == b"new"


async def test_what_is_not_in_ram_is_freshened_on_disk(rig: Rig) -> None:
    tiers = (await stored(rig)).tiers
    ours = await tiers.find(REF)
    assert ours is not None
    await tiers.memory.clear()
    await tiers.freshen(REF, msgspec.structs.replace(ours.entry, answered_at=5.0), ours.epoch)
    found = await tiers.find(REF)
    assert found is not None
    assert found.entry.answered_at == 5.0


async def test_without_a_disk_freshening_and_dropping_are_for_ram(rig: Rig) -> None:
    engine = await rig.engine(disk=False)
    await fetch(engine)
    await settled(engine)
    found = await engine.tiers.find(REF)
    assert found is not None
    assert await engine.tiers.freshen(REF, msgspec.structs.replace(found.entry, answered_at=5.0), found.epoch)
    held = await engine.tiers.memory.fetch(KEY)
    assert held == StoredResponse(msgspec.structs.replace(found.entry, answered_at=5.0), b"0123456789", 0, in_ram=True)
    await engine.tiers.drop(REF, "another")
    assert await engine.tiers.find(REF) is not None
    await engine.tiers.drop(REF)
    assert await engine.tiers.find(REF) is None


# --- a disk that fails ------------------------------------------------------------------------------------------


async def test_a_damaged_body_that_stays_on_disk_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        first = Rig(stack, tmp_path)
        await stored(first, big())
    for path in (tmp_path / "bodies").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(len(BIG)))

    async def fail(*_: object) -> None:
        raise StoreError(note="read-only")

    monkeypatch.setattr(DiskStore, "drop", fail)
    monkeypatch.setattr(DiskStore, "_drop_generation", fail)
    async with AsyncExitStack() as stack:
        second = Rig(stack, tmp_path)
        second.origin.then(big())
        engine = await second.engine()
        with pytest.raises(StoreError):
            await persist(engine)
        found = await engine.tiers.find(REF)
        assert found is not None
        await engine.tiers.drop(REF, found.entry.generation)
        assert await persist(engine) == BIG
        assert len(second.origin.asked) == 1
        await engine.tiers.drop(REF)
    assert "read-only" in caplog.text


async def test_what_the_disk_would_not_drop_is_remembered_within_bounds(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await stored(rig)

    async def fail(*_: object) -> None:
        raise StoreError(note="read-only")

    monkeypatch.setattr(DiskStore, "drop", fail)
    for n in range(1_100):
        await engine.tiers.drop(REF, f"{n:032}")
    assert len(engine.tiers._unreadable) == 1_000


@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_disk_that_takes_nothing_costs_speed_and_no_answer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    engine = await rig.engine()
    rig.origin.then(Script() if size == "small" else big())

    async def fail(*_: object) -> bool:
        raise StoreError(note="full")

    monkeypatch.setattr(DiskStore, "put", fail)
    monkeypatch.setattr(DiskStore, "commit", fail)
    for _ in range(2):
        assert (await fetch(engine))[0] == (b"0123456789" if size == "small" else BIG)
        await settled(engine)
    assert len(rig.origin.asked) == (1 if size == "small" else 2)


async def test_a_body_that_cannot_be_opened_is_fetched_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await stored(rig, big())

    async def fail(*_: object) -> None:
        raise StoreError(note="no threads")

    with monkeypatch.context() as patch:
        patch.setattr(DiskStore, "open_body", fail)
        assert (await fetch(engine))[0] == BIG
    assert len(rig.origin.asked) == 2


async def test_an_index_that_cannot_be_read_is_a_miss(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await stored(rig)
    await engine.tiers.memory.clear()

    async def fail(*_: object) -> None:
        raise StoreError(note="locked")

    monkeypatch.setattr(DiskStore, "read_body", fail)
    assert (await fetch(engine))[1] == "media-gateway; fwd=uri-miss; fwd-status=200; stored"


# --- what is told without reading ---


@pytest.mark.parametrize("script", [Script(fields=PLAIN), big()], ids=["small", "large"])
@pytest.mark.parametrize("disk", [True, False])
async def test_a_peek_finds_what_is_stored_and_moves_nothing(rig: Rig, script: Script, disk: bool) -> None:
    rig.origin = ScriptedOrigin(rig.clock, script)
    engine = await rig.engine(disk=disk)
    tiers = engine.tiers
    assert await tiers.peek([REF, OTHER]) == {}
    await fetch(engine)
    await settled(engine)
    found = await tiers.peek([OTHER, REF, REF])
    if not disk and script.length == len(BIG):
        assert found == {}  # nothing can hold it
        return
    assert list(found) == [REF]
    assert await engine.stored_types([REF, OTHER]) == {REF: "video/mp4"}
    if disk:
        # A media that an erasure spares is there, whatever RAM knows of it by then.
        await engine.erase(Reach.of(OTHER))
        assert await tiers.peek([REF]) == found
        # If RAM has nothing the disk tells, and RAM takes nothing in for that.
        await tiers.memory.clear()
        assert await tiers.peek([REF]) == found
        assert len(tiers.memory) == 0
    await engine.erase(Reach.of(REF))
    assert await tiers.peek([REF]) == {}


async def test_a_disk_that_fails_tells_no_type(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await rig.engine()

    async def fail(*_: object) -> list[Entry | None]:
        raise StoreError(note="broken")

    monkeypatch.setattr(DiskBackend, "fetch_all", fail)
    assert await engine.stored_types([REF]) == {}
