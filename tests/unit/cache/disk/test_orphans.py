"""Orphans: what killed workers leave is removed, and nothing that the living need."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from proxy.cache.disk.folder import Folder
from proxy.cache.disk.orphans import YOUNG_SECONDS, IncomingFolder, old_bodies
from proxy.cache.disk.store import DiskStore
from proxy.cache.entry import Entry
from tests.unit.cache.scripted import HeldClock

_OWNER = """
import asyncio, sys, time
from pathlib import Path
from proxy.cache.disk.store import open_disk

async def own():
    async with open_disk(Path(sys.argv[1]), 10_000_000, time.time, min_free_bytes=0) as store:
        await store.begin("unfinished")
        print("begun", flush=True)
        await asyncio.Event().wait()

asyncio.run(own())
"""


def _owner(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def _unfinished(folder: Path) -> list[Path]:
    return list((folder / "incoming").glob("*/unfinished"))


async def test_only_the_files_of_a_killed_worker_are_removed(store: DiskStore, folder: Path, clock: HeldClock) -> None:
    owner = _owner(folder)
    clock.now += YOUNG_SECONDS + 1_000
    await store.orphans.reclaim()
    assert len(_unfinished(folder)) == 1
    owner.kill()
    owner.communicate()
    assert owner.returncode == -signal.SIGKILL
    await store.orphans.reclaim()
    assert _unfinished(folder) == []
    assert len(list((folder / "incoming").iterdir())) == 1
    await store.check_writable()


async def test_only_an_old_incoming_folder_without_a_lock_is_removed(
    store: DiskStore, folder: Path, clock: HeldClock
) -> None:
    left = folder / "incoming" / "left"
    left.mkdir()
    (left / "unfinished").write_bytes(b"x")
    await store.orphans.reclaim()
    assert left.exists()
    clock.now += YOUNG_SECONDS + 10
    await store.orphans.reclaim()
    assert not left.exists()


async def test_a_young_incoming_folder_without_a_lock_is_kept(store: DiskStore, folder: Path) -> None:
    young = folder / "incoming" / "young"
    young.mkdir()
    (young / "lock").touch()
    await store.orphans.reclaim()
    assert (young / "lock").exists()


async def test_only_an_old_body_without_a_row_is_removed(
    store: DiskStore, folder: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    entry = entries(3)
    await store.put("a", entry, b"abc")
    orphan = folder / "bodies" / entry.generation[:2] / ("0" * 32)
    orphan.write_bytes(b"x")
    await store.orphans.reclaim()
    assert orphan.exists()
    clock.now += YOUNG_SECONDS + 10
    await store.orphans.reclaim()
    assert not orphan.exists()
    body = await store.open_body(entry)
    assert body is not None
    await body.close()


async def test_more_orphans_than_one_step_takes_are_removed(store: DiskStore, folder: Path, clock: HeldClock) -> None:
    shard = folder / "bodies" / "00"
    shard.mkdir()
    for n in range(250):
        (shard / f"{n:032}").touch()
    clock.now += YOUNG_SECONDS + 10
    await store.orphans.reclaim()
    assert list(shard.iterdir()) == []


async def test_the_age_of_a_body_counts_from_its_placing(
    store: DiskStore, folder: Path, clock: HeldClock, entries: Callable[..., Entry]
) -> None:
    file = await store.begin("aabb")
    os.utime(file.path, (1, 1))
    await store.commit("a", entries(0, "aabb"), file)
    await file.close()
    shard = folder / "bodies" / "aa"
    assert await asyncio.to_thread(old_bodies, Folder(folder), shard, clock.now) == []
    assert len(await asyncio.to_thread(old_bodies, Folder(folder), shard, clock.now + YOUNG_SECONDS + 10)) == 1


async def test_what_is_not_ours_in_the_folder_stops_nothing(store: DiskStore, folder: Path, clock: HeldClock) -> None:
    (folder / "incoming" / "file").write_bytes(b"x")
    (folder / "bodies" / "file").write_bytes(b"x")
    (folder / "bodies" / "00" / "deep").mkdir(parents=True)
    (folder / "bodies" / "zz").mkdir()
    (folder / "bodies" / "zz" / "orphan").write_bytes(b"x")
    (folder / "bodies" / "00" / "link").symlink_to("/nowhere")
    clock.now += YOUNG_SECONDS + 10
    await store.orphans.reclaim()
    assert not (folder / "bodies" / "zz" / "orphan").exists()


async def test_an_incoming_folder_that_another_locks_is_kept(store: DiskStore, folder: Path, clock: HeldClock) -> None:
    other = folder / "incoming" / "other"
    other.mkdir()
    with (other / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        clock.now += YOUNG_SECONDS + 10
        await store.orphans.reclaim()
        assert other.exists()
    # The tier's own maintenance, which begins with it, may hold the lock for a moment too.
    while other.exists():
        await store.orphans.reclaim()


def test_an_incoming_folder_ends_once_even_if_never_begun(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    IncomingFolder(Folder(tmp_path)).end()
    run = IncomingFolder(Folder(tmp_path))
    run.begin()
    assert run.folder.is_dir()
    run.end()
    run.end()
    assert not run.folder.exists()
