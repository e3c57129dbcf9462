"""Revoked and gone media, over engines of one folder and over one that has none."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from proxy.cache.disk.invalidations import FolderInvalidations
from proxy.cache.disk.store import open_disk
from proxy.cache.engine import Engine
from proxy.cache.invalidation.policy import Block, Blocks
from proxy.cache.stored import StoredResponse
from proxy.cache.tiers import Tiers
from proxy.erasure import BlockKind, Reach
from proxy.errors import MediaNotFound, StoreError
from proxy.model import MediaRef, MessageRef
from proxy.semantics.freshness import FreshnessPolicy
from tests.unit.cache.rigs import Rig, big, fetch, settled
from tests.unit.cache.scripted import REF, Script

SIBLING = MediaRef.parse("AC" + "a" * 32, "MM" + "b" * 32, "ME" + "f" * 32)
OTHER = MediaRef.parse("AC" + "a" * 32, "MM" + "e" * 32, "ME" + "f" * 32)
BYTES = b"0123456789"
REVOKED, GONE, NONE = BlockKind.REVOKED, BlockKind.GONE, BlockKind.NONE

with_and_without_a_folder = pytest.mark.parametrize("disk", [True, False], ids=["folder", "alone"])
sizes = pytest.mark.parametrize("script", [Script, big], ids=["small", "large"])


@pytest.fixture
async def pair(rig: Rig, tmp_path: Path) -> AsyncIterator[tuple[Engine, Engine]]:
    """Yield the engines of two workers of one folder, and of one clock."""
    policy = FreshnessPolicy(default_lifetime=100, negative_lifetime=10)
    async with AsyncExitStack() as stack:
        other = Rig(stack, rig.folder)
        other.clock = rig.clock
        other.origin = rig.origin
        yield await rig.engine(policy), await other.engine(policy)


def fail_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> Blocks:
        raise StoreError(note="locked")

    monkeypatch.setattr(FolderInvalidations, "blocks", fail)


async def block_kinds(engine: Engine) -> list[BlockKind]:
    return [await engine.block_kinds(ref) for ref in (REF, SIBLING, OTHER)]


# --- what holds, for how long, and for whom ---------------------------------------------------------------------


@with_and_without_a_folder
async def test_a_block_holds_for_its_time_and_not_longer(rig: Rig, disk: bool) -> None:
    engine = await rig.engine(disk=disk)
    await engine.revoke(Reach.of(REF.parent), 60)
    await engine.mark_gone(REF, 30)
    both = REVOKED | GONE
    assert await block_kinds(engine) == [both, REVOKED, NONE]
    rig.clock.now += 30
    assert await block_kinds(engine) == [REVOKED, REVOKED, NONE]
    rig.clock.now += 29.9
    assert await engine.block_kinds(REF) is REVOKED
    rig.clock.now += 0.1
    assert await block_kinds(engine) == [NONE] * 3


@with_and_without_a_folder
async def test_lifting_ends_one_block_and_leaves_the_other(rig: Rig, disk: bool) -> None:
    engine = await rig.engine(disk=disk)
    await engine.revoke(Reach.of(REF), 60)
    await engine.mark_gone(REF, 60)
    await engine.unmark_gone(REF)
    assert await engine.block_kinds(REF) is REVOKED
    await engine.mark_gone(REF, 60)
    await engine.lift_revocation(Reach.of(REF))
    assert await engine.block_kinds(REF) is GONE


@with_and_without_a_folder
async def test_a_lift_of_short_blocks_spares_a_long_one(rig: Rig, disk: bool) -> None:
    engine = await rig.engine(disk=disk)
    for seconds, kind in ((60, NONE), (61, GONE)):
        await engine.mark_gone(REF, seconds)
        await engine.unmark_gone(REF, 60)
        assert await engine.block_kinds(REF) is kind
    rig.clock.now += 1
    await engine.unmark_gone(REF, 60)
    assert await engine.block_kinds(REF) is NONE


@with_and_without_a_folder
async def test_a_lift_of_the_media_leaves_the_message_revoked(rig: Rig, disk: bool) -> None:
    engine = await rig.engine(disk=disk)
    for reach in (Reach.of(REF.parent), Reach.of(REF)):
        await engine.revoke(reach, 60)
    await engine.lift_revocation(Reach.of(REF))
    assert await block_kinds(engine) == [REVOKED, REVOKED, NONE]
    await engine.revoke(Reach.of(REF), 60)
    await engine.lift_revocation(Reach.of(REF.parent))
    assert await block_kinds(engine) == [NONE] * 3


@pytest.mark.parametrize(
    ("reach", "message", "other"),
    [
        (Reach.of(REF), NONE, NONE),
        (Reach.of(REF.parent), REVOKED, NONE),
        (Reach.of(REF.account), REVOKED, REVOKED),
        (Reach.of(None), REVOKED, REVOKED),
    ],
    ids=["media", "message", "account", "all"],
)
async def test_of_a_message_holds_what_holds_of_all_its_media(
    rig: Rig, reach: Reach, message: BlockKind, other: BlockKind
) -> None:
    engine = await rig.engine()
    await engine.revoke(reach, 60)
    subjects: tuple[MediaRef | MessageRef, ...] = (REF, REF.parent, OTHER.parent)
    assert [await engine.block_kinds(subject) for subject in subjects] == [REVOKED, message, other]


async def test_a_block_and_its_lift_reach_another_worker_at_once(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    assert await block_kinds(other) == [NONE] * 3
    await one.revoke(Reach.of(REF), 60)
    assert other.block_kinds_now(REF) is None
    assert await block_kinds(other) == [REVOKED, NONE, NONE]
    assert other.block_kinds_now(REF) is REVOKED
    await one.lift_revocation(Reach.of(REF))
    assert other.block_kinds_now(REF) is None
    assert await block_kinds(other) == [NONE] * 3


async def test_blocks_outlast_a_restart(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        await (await Rig(stack, tmp_path).engine()).revoke(Reach.of(REF), 60)
    async with AsyncExitStack() as stack:
        assert await block_kinds(await Rig(stack, tmp_path).engine()) == [
            REVOKED,
            NONE,
            NONE,
        ]


async def test_blocks_that_have_ended_are_forgotten_in_time(rig: Rig) -> None:
    engine = await rig.engine()
    await engine.revoke(Reach.of(REF), 60)
    await engine.revoke(Reach.of(OTHER), 90)
    rig.clock.now += 60
    # Another worker tidies as it starts.
    async with open_disk(rig.folder, 10_000_000, rig.clock) as store:
        while len((await store.invalidations.blocks(-1)).found) > 1:
            pass
        assert (await store.invalidations.blocks(-1)).found == (Block(REVOKED, str(OTHER), rig.clock.now + 30),)


# --- what it costs ----------------------------------------------------------------------------------------------


async def test_a_block_that_comes_during_a_reading_is_read_too(
    pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    read = FolderInvalidations.blocks

    async def read_and_change(invalidations: FolderInvalidations, since: int) -> Blocks:
        monkeypatch.setattr(FolderInvalidations, "blocks", read)
        blocks = await read(invalidations, since)
        await one.revoke(Reach.of(OTHER), 60)
        return blocks

    await one.revoke(Reach.of(REF), 60)
    monkeypatch.setattr(FolderInvalidations, "blocks", read_and_change)
    assert await other.block_kinds(REF) is REVOKED
    assert other.block_kinds_now(OTHER) is None
    assert await block_kinds(other) == [REVOKED, NONE, REVOKED]


async def test_ram_answers_no_link_to_a_revoked_media(rig: Rig) -> None:
    engine = await rig.engine()
    await fetch(engine)
    await settled(engine)
    assert engine.tiers.recall(str(REF)) is not None
    await engine.revoke(Reach.of(REF.parent), 60)
    assert await engine.block_kinds(REF) is REVOKED
    await fetch(engine)
    await settled(engine)
    assert engine.tiers.recall(str(REF)) is None
    rig.clock.now += 60
    assert engine.tiers.recall(str(REF)) is not None


async def test_after_an_invalidation_the_folder_is_read_once(
    pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    readings: list[int] = []
    read = FolderInvalidations.blocks

    async def counted(invalidations: FolderInvalidations, since: int) -> Blocks:
        readings.append(since)
        return await read(invalidations, since)

    monkeypatch.setattr(FolderInvalidations, "blocks", counted)
    for ref in (REF, SIBLING, OTHER):
        assert other.block_kinds_now(ref) is NONE
    assert readings == []
    await one.revoke(Reach.of(REF), 60)
    assert await asyncio.gather(*(other.block_kinds(REF) for _ in range(50))) == [REVOKED] * 50
    assert await block_kinds(other) == [REVOKED, NONE, NONE]
    assert len(readings) == 1


# --- what is gone -----------------------------------------------------------------------------------------------


@with_and_without_a_folder
@sizes
async def test_what_is_gone_is_neither_served_nor_asked_for(rig: Rig, disk: bool, script: Callable[[], Script]) -> None:
    engine = await rig.engine(disk=disk)
    rig.origin.then(script())
    await fetch(engine)
    await settled(engine)
    await engine.mark_gone(REF, 60)
    for young in (False, True):
        with pytest.raises(MediaNotFound):
            await fetch(engine, young=young)
    assert len(rig.origin.asked) == 1
    assert await engine.tiers.find(REF) is None


async def test_a_revoked_media_is_still_fetched_without_a_link(rig: Rig) -> None:
    engine = await rig.engine()
    await fetch(engine)
    await settled(engine)
    await engine.revoke(Reach.of(REF), 60)
    assert await engine.tiers.find(REF) is None
    assert (await fetch(engine))[0] == BYTES


async def test_every_worker_fetches_again_after_a_block_ends(pair: tuple[Engine, Engine], rig: Rig) -> None:
    for engine in pair:
        await engine.mark_gone(REF, 60)
        for worker in pair:
            with pytest.raises(MediaNotFound):
                await fetch(worker)
        await engine.unmark_gone(REF)
        for worker in pair:
            assert (await fetch(worker))[0] == BYTES
    await pair[0].mark_gone(REF, 60)
    rig.clock.now += 60
    for worker in pair:
        assert (await fetch(worker))[0] == BYTES


async def test_a_404_fetched_before_a_lift_is_not_remembered(pair: tuple[Engine, Engine], rig: Rig) -> None:
    one, other = pair
    gate = asyncio.Event()
    rig.origin.then(Script(error=MediaNotFound(), head_gate=gate), Script())
    asking = asyncio.ensure_future(fetch(other))
    await rig.origin.arrived.wait()
    await one.mark_gone(REF, 60)
    await one.unmark_gone(REF)
    gate.set()
    with pytest.raises(MediaNotFound):
        await asking
    assert (await fetch(other))[0] == BYTES


@sizes
async def test_a_block_leaves_a_running_fill_unstored_and_unjoined(
    pair: tuple[Engine, Engine], rig: Rig, script: Callable[[], Script]
) -> None:
    one, other = pair
    begun = script()
    begun.head_gate = asyncio.Event()
    rig.origin.then(begun)
    early = asyncio.ensure_future(fetch(other))
    await rig.origin.arrived.wait()
    await one.mark_gone(REF, 60)
    with pytest.raises(MediaNotFound):
        await fetch(other)
    begun.head_gate.set()
    await early
    await settled(other)
    await one.unmark_gone(REF)
    for worker in pair:
        assert await worker.tiers.find(REF) is None
    assert len(rig.origin.asked) == 1


async def test_a_reader_let_in_before_the_block_starts_no_fetch(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await rig.engine()
    find = Tiers.find

    async def find_and_mark(tiers: Tiers, ref: MediaRef) -> StoredResponse | None:
        monkeypatch.setattr(Tiers, "find", find)
        found = await find(tiers, ref)
        await engine.mark_gone(ref, 60)
        return found

    monkeypatch.setattr(Tiers, "find", find_and_mark)
    with pytest.raises(MediaNotFound):
        await fetch(engine)
    assert rig.origin.asked == []


async def test_a_media_blocked_during_its_validation_is_not_fetched(rig: Rig) -> None:
    engine = await rig.engine()
    await fetch(engine)
    await settled(engine)
    rig.clock.now += 101
    gate = asyncio.Event()
    rig.origin.arrived.clear()
    rig.origin.then(Script(status=304, fields=(("ETag", '"one"'),), head_gate=gate), Script())
    validating = asyncio.ensure_future(fetch(engine))
    await rig.origin.arrived.wait()
    await engine.mark_gone(REF, 60)
    gate.set()
    with pytest.raises(MediaNotFound):
        await validating
    assert len(rig.origin.asked) == 2


@with_and_without_a_folder
async def test_a_media_that_is_gone_is_never_stored(rig: Rig, disk: bool) -> None:
    engine = await rig.engine(disk=disk)
    await fetch(engine)
    await settled(engine)
    tiers = engine.tiers
    found = await tiers.find(REF)
    assert found is not None
    await engine.mark_gone(REF, 60)
    young = msgspec.structs.replace(found.entry, epoch=tiers.epoch)
    await tiers.keep(REF, young, BYTES)
    assert await tiers.find(REF) is None
    assert not await tiers.freshen(REF, young, tiers.epoch)
    await engine.unmark_gone(REF)
    assert await tiers.find(REF) is None
    await tiers.keep(REF, msgspec.structs.replace(young, epoch=tiers.epoch), BYTES)
    assert await tiers.freshen(REF, young, tiers.epoch)
    assert await tiers.find(REF) is not None


# --- how often a deletion erases ----------------------------------------------------------------------------------


@with_and_without_a_folder
async def test_a_mark_that_holds_is_prolonged_without_erasing(rig: Rig, disk: bool) -> None:
    engine = await rig.engine(disk=disk)
    tiers = engine.tiers
    await engine.mark_gone(REF, 60)
    since = tiers.epoch
    await engine.mark_gone(REF, 600)
    assert tiers.epoch > since
    assert not await tiers.erased(REF, since)
    rig.clock.now += 599
    assert await engine.block_kinds(REF) is GONE
    rig.clock.now += 1
    await engine.mark_gone(REF, 60)
    assert await tiers.erased(REF, since)


@with_and_without_a_folder
async def test_what_is_prolonged_gives_nothing_back(rig: Rig, disk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await rig.engine(disk=disk)
    cleared: list[str] = []
    clear = engine.tiers.memory.clear

    async def spy(*, namespace: str) -> object:
        cleared.append(namespace)
        return await clear(namespace=namespace)

    monkeypatch.setattr(engine.tiers.memory, "clear", spy)
    await engine.mark_gone(REF, 60)
    await engine.mark_gone(REF, 600)
    assert cleared == [str(REF)]
    await engine.unmark_gone(REF)
    await engine.mark_gone(REF, 600)
    assert cleared == [str(REF)] * 3


async def test_the_next_block_erases_what_a_lift_let_in(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    await one.mark_gone(REF, 60)
    await other.unmark_gone(REF, 60)
    await fetch(other)
    await settled(other)
    await one.mark_gone(REF, 600)
    await other.unmark_gone(REF)
    assert (await fetch(other))[1] == "media-gateway; fwd=uri-miss; fwd-status=200; stored"


# --- doubt ------------------------------------------------------------------------------------------------------


async def test_an_unreadable_invalidation_is_in_doubt_until_it_is_read(
    pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch, rig: Rig
) -> None:
    one, other = pair
    await fetch(other)
    await settled(other)
    found = await other.tiers.find(REF)
    assert found is not None
    await one.erase(Reach.of(OTHER))
    with monkeypatch.context() as patch:
        fail_to_read(patch)
        with pytest.raises(StoreError):
            await other.block_kinds(REF)
        with pytest.raises(StoreError):
            await fetch(other)
        entry = msgspec.structs.replace(found.entry, epoch=other.tiers.epoch)
        assert not await other.tiers.keep(REF, entry, BYTES)
        assert not await other.tiers.freshen(REF, entry, other.tiers.epoch)
    assert len(rig.origin.asked) == 1
    assert await block_kinds(other) == [NONE] * 3
    assert (await fetch(other))[0] == BYTES


async def test_an_unreadable_folder_makes_no_doubt_at_the_same_epoch(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await rig.engine()
    await engine.revoke(Reach.of(REF), 60)
    assert await engine.block_kinds(REF) is REVOKED
    fail_to_read(monkeypatch)
    await asyncio.to_thread(shutil.rmtree, rig.folder)
    assert await block_kinds(engine) == [REVOKED, NONE, NONE]
    for change in (engine.revoke(Reach.of(OTHER), 60), engine.mark_gone(OTHER, 60), engine.unmark_gone(OTHER)):
        with pytest.raises(StoreError):
            await change
    assert await block_kinds(engine) == [REVOKED, NONE, NONE]
    # What is known ends at its time all the same.
    rig.clock.now += 60
    assert await block_kinds(engine) == [NONE] * 3


async def test_what_is_known_holds_though_the_index_is_lost(rig: Rig) -> None:
    engine = await rig.engine()
    await engine.revoke(Reach.of(REF), 60)
    assert await engine.block_kinds(REF) is REVOKED
    for path in rig.folder.glob("index-*"):
        path.unlink()
    await engine.revoke(Reach.of(OTHER), 60)
    assert await block_kinds(engine) == [REVOKED, NONE, REVOKED]


async def test_a_folder_unreadable_at_the_start_is_read_later(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        await (await Rig(stack, rig.folder).engine()).revoke(Reach.of(REF), 60)
    with monkeypatch.context() as patch:
        fail_to_read(patch)
        engine = await rig.engine()
        assert engine.block_kinds_now(REF) is None
        with pytest.raises(StoreError):
            await engine.block_kinds(REF)
    assert await engine.block_kinds(REF) is REVOKED


async def test_a_look_up_that_is_cancelled_hinders_no_other(
    pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    await one.revoke(Reach.of(REF), 60)
    reached, gate = asyncio.Event(), asyncio.Event()
    read = FolderInvalidations.blocks

    async def slow(invalidations: FolderInvalidations, since: int) -> Blocks:
        monkeypatch.setattr(FolderInvalidations, "blocks", read)
        reached.set()
        await gate.wait()
        return await read(invalidations, since)

    monkeypatch.setattr(FolderInvalidations, "blocks", slow)
    first = asyncio.ensure_future(other.block_kinds(REF))
    second = asyncio.ensure_future(other.block_kinds(REF))
    await reached.wait()
    first.cancel()
    assert await second is REVOKED
