"""Sweeping: RAM gives back what any worker has erased, and nothing else, without a look-up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.cache.disk import invalidations_table
from proxy.cache.disk.store import DiskStore, open_disk
from proxy.cache.disk.threads import on
from proxy.cache.disk.visitor import visiting
from proxy.cache.entry import Entry
from proxy.cache.invalidation.invalidators import LoneInvalidations
from proxy.cache.invalidation.policy import Erase
from proxy.cache.ram.store import RamStore
from proxy.cache.ram.sweeper import Sweeper
from proxy.cache.stored import StoredResponse
from proxy.errors import StoreError
from proxy.telemetry.metrics import Metrics

KEYS = [f"AC{account}/MM{message}/ME{media}" for account in "12" for message in "12" for media in "12"]
_ENTRY = Entry(
    version=2,
    generation="0" * 32,
    etag="",
    length=1,
    checksum="",
    epoch=0,
    fields=(),
    presented=(),
    requested_at=0.0,
    answered_at=0.0,
)


class Swept:
    """A `swept` that lets a test wait for the next sweep."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def __call__(self) -> None:
        self.told.set()


async def fill(memory: RamStore, epoch: int, keys: list[str] = KEYS) -> None:
    for key in keys:
        await memory.set(key, StoredResponse(_ENTRY, b"x", epoch))


def held(memory: RamStore) -> list[str]:
    return [key for key in KEYS if memory.peek(key) is not None]


async def erase(store: DiskStore, prefix: str) -> None:
    await store.invalidations.apply(Erase(prefix), time.time())
    await store.give_back(prefix)


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[tuple[DiskStore, DiskStore]]:
    """Yield the stores of two workers of one folder."""
    async with open_disk(tmp_path, 1_000_000, time.time) as one, open_disk(tmp_path, 1_000_000, time.time) as other:
        yield one, other


@pytest.mark.parametrize("prefix", ["AC1/MM1/ME1", "AC1/MM1/", "AC1/", ""])
async def test_what_another_worker_erases_leaves_ram(stores: tuple[DiskStore, DiskStore], prefix: str) -> None:
    one, other = stores
    memory, swept = RamStore(1_000_000, Metrics()), Swept()
    sweeper = Sweeper(memory, one.invalidations, swept)
    await fill(memory, one.invalidations.epoch)
    async with sweeper.sweeping():
        await erase(other, prefix)
        await swept.told.wait()
    assert held(memory) == [key for key in KEYS if not key.startswith(prefix)]


async def test_a_program_that_visits_the_folder_erases_from_ram_too(
    stores: tuple[DiskStore, DiskStore], tmp_path: Path
) -> None:
    one, _ = stores
    memory = RamStore(1_000_000, Metrics())
    sweeper = Sweeper(memory, one.invalidations, Swept())
    await fill(memory, one.invalidations.epoch)
    with visiting(tmp_path, time.time) as visitor:
        assert await asyncio.to_thread(visitor.erase, "AC1/") == 0
    await sweeper.sweep()
    assert held(memory) == [key for key in KEYS if not key.startswith("AC1/")]


async def test_what_was_stored_after_an_erasure_stays(stores: tuple[DiskStore, DiskStore]) -> None:
    one, other = stores
    memory = RamStore(1_000_000, Metrics())
    sweeper = Sweeper(memory, one.invalidations, Swept())
    await fill(memory, one.invalidations.epoch)
    await erase(other, "AC1/")
    await fill(memory, one.invalidations.epoch, ["AC1/MM1/ME1"])
    await sweeper.sweep()
    assert held(memory) == [key for key in KEYS if not key.startswith("AC1/") or key == "AC1/MM1/ME1"]


async def test_more_erasures_than_one_page_are_all_swept(
    stores: tuple[DiskStore, DiskStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidations_table, "_PAGE", 3)
    one, other = stores
    memory = RamStore(1_000_000, Metrics())
    sweeper = Sweeper(memory, one.invalidations, Swept())
    await fill(memory, one.invalidations.epoch)
    for key in KEYS[:-1]:
        await erase(other, key)
    await sweeper.sweep()
    assert held(memory) == KEYS[-1:]


async def test_forgotten_erasures_count_as_erasing_everything(stores: tuple[DiskStore, DiskStore]) -> None:
    one, other = stores
    memory = RamStore(1_000_000, Metrics())
    sweeper = Sweeper(memory, one.invalidations, Swept())
    await fill(memory, one.invalidations.epoch)
    await erase(other, "AC9/")
    await on(other._index_thread, other._index.forget_erasures, time.time() + 1)
    await sweeper.sweep()
    assert held(memory) == []


async def test_without_a_folder_each_erasure_counts_for_every_key() -> None:
    memory, invalidations = RamStore(1_000_000, Metrics()), LoneInvalidations()
    sweeper = Sweeper(memory, invalidations, Swept())
    await fill(memory, invalidations.epoch)
    await sweeper.sweep()
    assert held(memory) == KEYS
    await invalidations.apply(Erase("AC1/"), 0.0)
    await sweeper.sweep()
    assert held(memory) == []


async def test_keys_of_evicted_newcomers_are_swept_too(stores: tuple[DiskStore, DiskStore]) -> None:
    one, other = stores
    memory = RamStore(5_000, Metrics())
    sweeper = Sweeper(memory, one.invalidations, Swept())
    await fill(memory, one.invalidations.epoch)
    assert len(memory) < len(KEYS)
    await erase(other, "")
    await sweeper.sweep()
    assert memory.used_bytes == 0


async def test_a_sweep_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(LoneInvalidations):
        failures = 2

        async def erased_since(self, number: int) -> Mapping[str, int]:
            if self.failures:
                self.failures -= 1
                raise StoreError(note="the disk is away")
            return await super().erased_since(number)

    memory, invalidations, swept = RamStore(1_000_000, Metrics()), Failing(), Swept()
    monkeypatch.setattr("proxy.cache.ram.sweeper.LOOK_SECONDS", 0.01)
    sweeper = Sweeper(memory, invalidations, swept)
    await fill(memory, invalidations.epoch)
    async with sweeper.sweeping():
        await invalidations.apply(Erase(""), 0.0)
        await swept.told.wait()
    assert held(memory) == []


async def test_one_sweep_lets_other_work_in_between() -> None:
    keys = [f"AC1/MM1/ME{number}" for number in range(2_000)]
    memory = RamStore(100_000_000, Metrics())
    await fill(memory, 0, keys)
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with AsyncExitStack() as stack:
        other = asyncio.create_task(work())
        stack.callback(other.cancel)
        await memory.sweep({"AC1/": 1})
    assert (len(memory), turns >= 4) == (0, True)
