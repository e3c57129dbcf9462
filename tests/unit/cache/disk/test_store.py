"""The disk tier: bodies and rows that agree, whatever is cancelled, missing, full or done twice."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.cache.checksum import Checksum, checksum
from proxy.cache.disk.responses_table import ROW_BYTES, Usage
from proxy.cache.disk.store import DiskStore, open_disk
from proxy.cache.entry import Entry
from proxy.errors import StoreError
from tests.unit.cache.scripted import HeldClock


def _bodies(folder: Path) -> set[str]:
    return {path.name for path in (folder / "bodies").rglob("*") if path.is_file()}


def _unfinished(folder: Path) -> set[str]:
    return {path.name for path in (folder / "incoming").rglob("*") if path.is_file() and path.name != "lock"}


def _damage_index(folder: Path) -> None:
    (path,) = folder.glob("index-*.sqlite3")
    path.write_bytes(b"garbage" * 1_000)


def _put_file(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


async def _read(store: DiskStore, entry: Entry) -> bytes | None:
    body = await store.open_body(entry)
    if body is None:
        return None
    try:
        return await body.read(0, entry.length + 1)
    finally:
        await body.close()


# --- storing and reading ----------------------------------------------------------------------------------------


async def test_a_body_in_ram_is_stored_and_read(store: DiskStore, folder: Path, entries: Callable[..., Entry]) -> None:
    entry = entries(5)
    await store.put("a", entry, b"hello")
    assert await store.backend.fetch("a") == entry
    assert await _read(store, entry) == b"hello"
    assert (_bodies(folder), _unfinished(folder)) == ({entry.generation}, set())
    assert await store.usage() == Usage(5, 1)


async def test_a_file_of_a_fill_becomes_a_body(store: DiskStore, folder: Path, entries: Callable[..., Entry]) -> None:
    entry = entries(6)
    running = Checksum()
    file = await store.begin(entry.generation)
    await file.write([b"abc"], 0, running)
    await file.write([b"def"], 3, running)
    assert await file.read(2, 2) == b"cd"
    assert _unfinished(folder) == {entry.generation}
    assert await store.backend.fetch("a") is None
    await store.commit("a", entry, file)
    assert await file.read(0, 10) == b"abcdef"
    await file.close()
    assert running.text() == checksum(b"abcdef")
    assert await _read(store, entry) == b"abcdef"
    assert _unfinished(folder) == set()


async def test_a_fill_that_came_to_nothing_leaves_nothing(store: DiskStore, folder: Path) -> None:
    file = await store.begin("aa")
    await file.close()
    await store.discard(file)
    await store.discard(file)
    assert _unfinished(folder) == set()


async def test_replacing_removes_the_bytes_that_were_there(
    store: DiskStore, folder: Path, entries: Callable[..., Entry]
) -> None:
    old, new = entries(3), entries(4)
    await store.put("a", old, b"old")
    await store.put("a", new, b"new!")
    assert _bodies(folder) == {new.generation}
    assert await store.usage() == Usage(4, 1)


async def test_two_workers_that_replace_one_key_leave_one_body(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    async with (
        open_disk(folder, 10_000_000, clock, min_free_bytes=0) as one,
        open_disk(folder, 10_000_000, clock, min_free_bytes=0) as two,
    ):
        await asyncio.gather(*(worker.put("a", entries(4), b"body") for _ in range(20) for worker in (one, two)))
        entry = await one.backend.fetch("a")
        assert entry is not None
        assert entry == await two.backend.fetch("a")
        assert _bodies(folder) == {entry.generation}
        assert await two.usage() == Usage(4, 1)


async def test_a_reader_reads_an_evicted_body_to_its_end(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    entry = entries(5)
    async with (
        open_disk(folder, 10_000_000, clock, min_free_bytes=0) as one,
        open_disk(folder, 10_000_000, clock, min_free_bytes=0) as two,
    ):
        await one.put("a", entry, b"hello")
        body = await one.open_body(entry)
        assert body is not None
        await two.drop("a")
        assert await body.read(0, 5) == b"hello"
        await body.close()
        assert await one.open_body(entry) is None


async def test_eviction_removes_files_of_the_least_recently_used(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    stored = [entries(1_000) for _ in range(4)]
    async with open_disk(folder, 3 * (1_000 + ROW_BYTES), clock, min_free_bytes=0) as store:
        for n, entry in enumerate(stored[:3]):
            clock.now += 1
            await store.put(f"k{n}", entry, bytes(1_000))
        clock.now += 1
        store.write_behind.note_use("k0")
        store.write_behind.note_use("absent")
        await store.write_behind.write_uses()
        clock.now += 1
        await store.put("k3", stored[3], bytes(1_000))
        assert _bodies(folder) == {stored[n].generation for n in (0, 2, 3)}
        assert await store.backend.fetch("k1") is None


async def test_noted_uses_are_written_without_being_asked_for(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.disk.write_behind._SECONDS", 0.0)
    written = asyncio.Event()
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(store._index, "touch", lambda _: loop.call_soon_threadsafe(written.set))
        store.write_behind.note_use("a")
        await written.wait()


async def test_uses_are_noted_up_to_a_bound_and_stay_exact(
    store: DiskStore, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[tuple[str, float]] = []
    monkeypatch.setattr(store._index, "touch", noted.extend)
    for n in range(1_500):
        store.write_behind.note_use(f"k{n}")
    clock.now += 1
    store.write_behind.note_use("k0")
    await store.write_behind.write_uses()
    assert len(noted) == 1_000
    assert noted[0] == ("k0", clock.now)


async def test_a_lower_bound_is_held_after_a_restart(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        for n in range(150):
            await store.put(f"k{n}", entries(10), bytes(10))
    async with open_disk(folder, 3 * (10 + ROW_BYTES), clock, min_free_bytes=0) as store:
        while (await store.usage()).entries > 3:
            pass
        # The files of a step are gone with its rows, and this look comes after it.
        await store.usage()
        assert len(_bodies(folder)) == 3


async def test_a_body_longer_than_the_tier_displaces_nothing(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    async with open_disk(folder, 10_000, clock, min_free_bytes=0) as store:
        kept, long = entries(4), entries(store.longest_body + 1)
        await store.put("a", kept, b"kept")
        with pytest.raises(StoreError):
            await store.put("b", long, bytes(long.length))
        file = await store.begin(long.generation)
        with pytest.raises(StoreError):
            await store.commit("b", long, file)
        await file.close()
        assert (_bodies(folder), _unfinished(folder)) == ({kept.generation}, set())
        longest = entries(store.longest_body)
        await store.put("c", longest, bytes(longest.length))
        assert _bodies(folder) == {longest.generation}


async def test_dropping_a_generation_leaves_another(
    store: DiskStore, folder: Path, entries: Callable[..., Entry]
) -> None:
    entry = entries(1)
    await store.put("a", entry, b"x")
    await store.drop("a", "0" * 32)
    assert await store.backend.fetch("a") == entry
    await store.drop("a", entry.generation)
    await store.drop("a", entry.generation)
    assert (await store.backend.fetch("a"), _bodies(folder)) == (None, set())


async def test_freshening_keeps_the_bytes_and_only_of_its_own_generation(
    store: DiskStore, entries: Callable[..., Entry]
) -> None:
    entry = entries(5)
    await store.put("a", entry, b"hello")
    fresh = entries(5, generation=entry.generation, etag="other")
    assert await store.freshen("a", fresh) is True
    assert await store.backend.fetch("a") == fresh
    assert await _read(store, fresh) == b"hello"
    assert await store.freshen("a", entries(5)) is False
    assert await store.freshen("absent", fresh) is False


@pytest.mark.parametrize("content", [None, b"", b"hell", b"hello!"])
async def test_a_missing_body_or_one_of_another_length_is_none(
    store: DiskStore, folder: Path, entries: Callable[..., Entry], content: bytes | None
) -> None:
    entry = entries(5)
    await store.put("a", entry, b"hello")
    (path,) = (folder / "bodies").glob("*/*")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert await store.open_body(entry) is None


async def test_a_row_without_an_entry_is_dropped_with_its_body(
    store: DiskStore, folder: Path, entries: Callable[..., Entry]
) -> None:
    entry = entries(5)
    await store.put("a", entry, b"hello")
    other = entries(5, etag="other")
    await store.freshen("a", entries(6, generation=entry.generation))
    assert await store.backend.fetch("a") is None
    assert _bodies(folder) == set()
    await store.put("a", other, b"hello")
    assert await store.backend.fetch("a") == other


async def test_the_tier_is_found_again_after_a_restart(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    entry = entries(5)
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        await store.put("a", entry, b"hello")
        store.write_behind.note_use("a")
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        assert await store.backend.fetch("a") == entry
        assert await _read(store, entry) == b"hello"


async def test_a_damaged_index_costs_the_stored_responses_not_the_tier(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        await store.put("a", entries(5), b"hello")
    _damage_index(folder)
    clock.now += 100
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        entry = entries(5)
        await store.orphans.reclaim()
        await store.put("a", entry, b"again")
        assert await _read(store, entry) == b"again"
        assert _bodies(folder) == {entry.generation}


async def test_start_up_lists_no_bodies_and_no_incoming_folders(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        await store.put("a", entries(5), b"hello")
    listed: list[str] = []

    def watch(name: str) -> None:
        call = getattr(os, name)

        def watched(path: object = ".") -> object:
            named = Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else Path(str(path))
            listed.append(named.name)
            return call(path)

        monkeypatch.setattr(os, name, watched)

    watch("scandir")
    watch("listdir")
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
        assert "bodies" not in listed
        assert "incoming" not in listed
        await store.orphans.reclaim()
        assert {"bodies", "incoming"} <= set(listed)


async def test_folders_and_files_are_their_owner_s_alone(
    tmp_path: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    top = tmp_path / "made"
    before = os.umask(0)
    try:
        async with open_disk(top / "deep" / "cache", 10_000_000, clock, min_free_bytes=0) as store:
            await store.put("a", entries(5), b"hello")
            file = await store.begin("bb")
            found = [(path.is_dir(), path.stat().st_mode & 0o777) for path in (top, *top.rglob("*"))]
            await file.close()
    finally:
        os.umask(before)
    assert set(found) == {(True, 0o700), (False, 0o600)}
    # The index with its log, its shared memory and its lock, the epoch, a run's lock, a body and a fill.
    assert len([mode for is_folder, mode in found if not is_folder]) == 8


# --- the file system's reserve ----------------------------------------------------------------------------------


class _DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


def _limit(monkeypatch: pytest.MonkeyPatch, free: Callable[[], int], total: int = 1_000_000) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _DiskUsage(total, 0, free()))


def _stored_bytes(folder: Path) -> int:
    return sum(ROW_BYTES + path.stat().st_size for path in (folder / "bodies").rglob("*") if path.is_file())


async def test_a_full_file_system_is_given_room_by_eviction(
    store: DiskStore, folder: Path, clock: HeldClock, entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 1_000 + ROW_BYTES
    store._quota.reserve = 100_000
    _limit(monkeypatch, lambda: 100_000 + 3 * one - _stored_bytes(folder))
    stored = [entries(1_000) for _ in range(5)]
    for n, entry in enumerate(stored):
        clock.now += 1
        await store.put(f"k{n}", entry, bytes(1_000))
    clock.now += 1
    await (await store.begin("bb")).close()
    assert _bodies(folder) == {entry.generation for entry in stored[2:]}


async def test_a_file_system_without_its_reserve_takes_nothing(
    store: DiskStore, folder: Path, entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 100_000
    store._quota.reserve = 100_000
    _limit(monkeypatch, lambda: free)
    file = await store.begin("aa")
    free = 99_999
    with pytest.raises(StoreError) as caught:
        await store.commit("a", entries(0, "aa"), file)
    await file.close()
    assert "100000" in caught.value.note
    for call in (store.begin("bb"), store.put("b", entries(3), b"abc"), store.check_writable()):
        with pytest.raises(StoreError):
            await call
    assert (_bodies(folder), _unfinished(folder)) == (set(), set())


@pytest.mark.parametrize(("total", "reserve"), [(1_000_000, 50_000), (10**12, 500_000_000)])
async def test_the_reserve_is_a_twentieth_and_500_mb_at_most(
    folder: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch, total: int, reserve: int
) -> None:
    free = reserve
    _limit(monkeypatch, lambda: free, total)
    async with open_disk(folder, 10_000_000, clock) as store:
        await store.check_writable()
        free = reserve - 1
        with pytest.raises(StoreError):
            await store.check_writable()


# --- faults of the system ---------------------------------------------------------------------------------------


async def test_a_file_in_place_of_the_folder_raises_store_error(tmp_path: Path, clock: HeldClock) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        async with open_disk(tmp_path / "cache", 1_000, clock):
            pytest.fail("opened")
    assert str(tmp_path) not in caught.value.note


@pytest.mark.parametrize("place", ["bodies", "incoming"])
async def test_a_file_in_place_of_a_subfolder_raises_store_error(
    folder: Path, clock: HeldClock, entries: Callable[..., Entry], place: str
) -> None:
    _put_file(folder / place)
    with pytest.raises(StoreError):
        async with open_disk(folder, 1_000_000, clock, min_free_bytes=0) as store:
            await store.put("a", entries(3), b"abc")


@pytest.fixture
def tiny(tmp_path: Path, program_path: Callable[[str], str]) -> Iterator[Path]:
    """Yield a file system of 256 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    command = [program_path("mount"), "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run([program_path("umount"), str(place)], check=True)


@pytest.mark.system("mount")
async def test_a_full_file_system_is_a_store_error_and_passes(
    tiny: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    async with open_disk(tiny, 10_000_000, clock, min_free_bytes=0) as store:
        entry = entries(200_000)
        with pytest.raises(StoreError):
            await store.put("a", entry, bytes(200_000))
        file = await store.begin(entry.generation)
        with pytest.raises(StoreError):
            await file.write([bytes(300_000)], 0, Checksum())
        with pytest.raises(StoreError):
            await store.backend.set("a", entries(3))
        await file.close()
        await store.discard(file)
        assert (_bodies(tiny), _unfinished(tiny)) == (set(), set())
        small = entries(3)
        await store.put("b", small, b"abc")
        assert await _read(store, small) == b"abc"


def _remount(mount: str, place: Path) -> None:
    subprocess.run([mount, "-o", "remount,ro", str(place)], check=True)


@pytest.mark.system("mount")
async def test_a_file_system_that_turns_read_only_raises_store_error(
    tiny: Path, clock: HeldClock, entries: Callable[..., Entry], program_path: Callable[[str], str]
) -> None:
    async with open_disk(tiny, 10_000_000, clock, min_free_bytes=0) as store:
        pass
    _remount(program_path("mount"), tiny)
    with pytest.raises(StoreError):
        async with open_disk(tiny, 10_000_000, clock, min_free_bytes=0) as store:
            pytest.fail(f"opened {store}")


@pytest.mark.parametrize("call", ["pwritev", "rename", "mkdir", "utime"])
async def test_a_failing_system_call_raises_store_error_and_leaves_nothing(
    store: DiskStore, folder: Path, entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "/secret/path")

    file = await store.begin("aa")
    with monkeypatch.context() as fault:
        fault.setattr(os, call, fail)
        with pytest.raises(StoreError) as caught:
            await store.put("a", entries(3), b"abc")
        assert "secret" not in caught.value.note
        if call != "pwritev":
            with pytest.raises(StoreError):
                await store.commit("a", entries(0, "aa"), file)
    await file.close()
    await store.discard(file)
    assert (_bodies(folder), _unfinished(folder)) == (set(), set())
    assert await store.usage() == Usage(0, 0)


async def test_an_index_that_fails_at_the_commit_leaves_no_body(
    store: DiskStore, folder: Path, entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise StoreError(note="no")

    file = await store.begin("aa")
    with monkeypatch.context() as fault:
        fault.setattr(store._index, "put", fail)
        with pytest.raises(StoreError):
            await store.put("a", entries(3), b"abc")
        with pytest.raises(StoreError):
            await store.commit("a", entries(0, "aa"), file)
    await file.close()
    assert (_bodies(folder), _unfinished(folder)) == (set(), set())


async def test_a_failing_eviction_undoes_no_commit(
    store: DiskStore, folder: Path, entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(max_bytes: int) -> list[str]:
        raise StoreError(note="no")

    entry = entries(3)
    with monkeypatch.context() as fault:
        fault.setattr(store._index, "evict", fail)
        await store.put("a", entry, b"abc")
    assert await store.backend.fetch("a") == entry
    assert await _read(store, entry) == b"abc"


async def test_check_writable_leaves_nothing(store: DiskStore, folder: Path) -> None:
    await store.check_writable()
    assert _unfinished(folder) == set()


async def test_a_generation_is_begun_once(store: DiskStore) -> None:
    file = await store.begin("aa")
    with pytest.raises(StoreError):
        await store.begin("aa")
    await file.close()


# --- cancellation -----------------------------------------------------------------------------------------------


@types.coroutine
def _cancelled_at(call: Coroutine[Any, Any, object], step: int, *, late: bool) -> Generator[Any, None, bool]:
    """Cancel a call at its `step`th wait, `late` if what it waits for is done. Return whether it came so far."""
    error: BaseException | None = None
    waits = 0
    while True:
        try:
            waited = call.throw(error) if error is not None else call.send(None)
        except StopIteration:
            return False
        except asyncio.CancelledError:
            return True
        error = None
        if waits == step:
            error = asyncio.CancelledError()
            if late:
                yield waited
            else:
                waited.cancel()
        else:
            yield waited
        waits += 1


@pytest.mark.parametrize("late", [False, True], ids=["at-once", "when-done"])
@pytest.mark.parametrize("operation", ["begin", "put", "commit", "open_body", "drop", "check_writable"])
async def test_a_call_cancelled_anywhere_leaks_no_descriptor_and_no_file(
    tmp_path: Path, clock: HeldClock, entries: Callable[..., Entry], operation: str, late: bool
) -> None:
    step, reached = 0, True
    while reached:
        folder = tmp_path / str(step)
        async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as store:
            await store.put("a", old := entries(3), b"old")
            new = entries(3)
            file = await store.begin(new.generation) if operation == "commit" else None
            if file is not None:
                await file.write([b"new"], 0, Checksum())
            reached = await _cancelled_at(_operation(store, operation, old, new, file), step, late=late)
            if file is not None:
                # As the owner of a fill does.
                await file.close()
                await store.discard(file)
            await store.usage()
            await asyncio.to_thread(store._body_threads.shutdown)
            entry = await store.backend.fetch("a")
            assert _bodies(folder) == ({entry.generation} if entry is not None else set()), step
            assert _unfinished(folder) == set(), step
        step += 1
    assert step > 1


async def _operation(store: DiskStore, name: str, old: Entry, new: Entry, file: Any) -> None:
    match name:
        case "begin":
            begun = await store.begin(new.generation)
            # What is begun has an owner, who closes it whatever comes.
            os.close(begun._descriptor)
            begun.path.unlink()
        case "put":
            await store.put("a", new, b"new")
        case "commit":
            await store.commit("a", new, file)
        case "open_body":
            body = await store.open_body(old)
            assert body is not None
            await body.close()
        case "drop":
            await store.drop("a")
        case _:
            await store.check_writable()


async def test_opening_cancelled_anywhere_leaks_nothing(tmp_path: Path, clock: HeldClock) -> None:
    async def use(folder: Path) -> None:
        async with open_disk(folder, 10_000_000, clock, min_free_bytes=0):
            pass

    for step in range(2):
        folder = tmp_path / str(step)
        await _cancelled_at(use(folder), step, late=False)
        assert list((folder / "incoming").iterdir()) == []
