"""The file system's reserve, and the files that this process has open: what is evicted is given back at once."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from proxy.cache.checksum import checksum
from proxy.cache.disk import integrity
from proxy.cache.disk.open_files import SWEEP_SECONDS, OpenFile
from proxy.cache.disk.responses_table import ROW_BYTES
from proxy.cache.disk.store import DiskStore, open_disk
from proxy.cache.entry import Entry
from proxy.errors import StoreError
from tests.unit.cache.scripted import HeldClock

Entries = Callable[..., Entry]
RESERVE = 100_000
ONE = 1_000 + ROW_BYTES


class _DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


def let_free_be(monkeypatch: pytest.MonkeyPatch, free: Callable[[], int]) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _DiskUsage(10**9, 0, free()))


def _bodies(folder: Path) -> set[str]:
    return {path.name for path in (folder / "bodies").rglob("*") if path.is_file()}


async def stored(store: DiskStore, clock: HeldClock, entries: Entries, count: int) -> list[Entry]:
    """Store so many bodies of 1,000 bytes; the first one was used longest ago."""
    made = [entries(1_000) for _ in range(count)]
    for entry in made:
        clock.now += 1
        await store.put(entry.generation, entry, bytes(1_000))
    return made


async def kept_open(store: DiskStore, entry: Entry) -> None:
    """Read a body once, so that its file stays open."""
    body = await store.open_body(entry)
    assert isinstance(body, OpenFile)
    await body.close()


async def test_bodies_evicted_for_a_short_file_system_are_closed(
    store: DiskStore, folder: Path, clock: HeldClock, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = await stored(store, clock, entries, 2)
    for entry in (old, new):
        await kept_open(store, entry)
    store._quota.reserve = RESERVE
    let_free_be(monkeypatch, lambda: RESERVE - 1 + ONE * (2 - len(_bodies(folder))))
    await (await store.begin("bb")).close()
    assert _bodies(folder) == {new.generation}
    assert list(store.open_files._files) == [new.generation]


async def test_an_eviction_in_vain_is_not_repeated_for_two_seconds(
    store: DiskStore, folder: Path, clock: HeldClock, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    kept = await stored(store, clock, entries, 4)
    store._quota.reserve = RESERVE
    let_free_be(monkeypatch, lambda: RESERVE - 1)

    async def left() -> set[str]:
        """Return what is still stored after a fill that was not taken."""
        with pytest.raises(StoreError):
            await store.begin("bb")
        return _bodies(folder)

    def of(entries: list[Entry]) -> set[str]:
        return {entry.generation for entry in entries}

    assert await left() == of(kept[1:])
    now += 2 * SWEEP_SECONDS - 0.001
    assert await left() == of(kept[1:])
    # A write for which nothing was evicted does not begin the time again.
    now += 0.001
    assert await left() == of(kept[2:])


async def test_after_an_eviction_in_vain_bodies_that_fit_are_stored(
    store: DiskStore, clock: HeldClock, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = RESERVE - 1
    store._quota.reserve = RESERVE
    let_free_be(monkeypatch, lambda: free)
    with pytest.raises(StoreError):
        await store.begin("aa")
    free = RESERVE
    await (await store.begin("bb")).close()


async def test_an_unchecked_body_is_read_and_not_kept_open(
    folder: Path, clock: HeldClock, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entries(3)
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        await store.put("a", entry, b"abc")
    monkeypatch.setattr(integrity, "_WAITING", 0)
    # Another process has not written this file, and too many wait for their check.
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        body = await store.open_body(entry)
        assert body is not None
        assert (await body.read(0, 3), len(store.open_files)) == (b"abc", 0)
        assert not isinstance(body, OpenFile)
        assert store.open_files.take(entry) is None
        await body.close()


async def test_a_body_that_waits_for_its_check_is_kept_open(folder: Path, clock: HeldClock, entries: Entries) -> None:
    content = b"abc"
    entry = msgspec.structs.replace(entries(3), checksum=checksum(content))
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        await store.put("a", entry, content)
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        await kept_open(store, entry)
        assert len(store.open_files) == 1
