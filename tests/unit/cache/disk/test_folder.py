"""The cache folder is its owner's alone, and nothing in it is reached through a link."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.cache.disk.folder import Folder
from proxy.cache.disk.orphans import YOUNG_SECONDS
from proxy.cache.disk.store import DiskStore, open_disk
from proxy.cache.disk.visitor import visiting
from proxy.cache.entry import Entry
from proxy.cache.redis.checkpoint import Checkpoint, CheckpointFile
from proxy.cache.redis.log import Position
from proxy.errors import SettingsError, StoreError
from tests.unit.cache.scripted import HeldClock

Entries = Callable[..., Entry]
SECRET = b"of another"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("part", ["", "bodies", "incoming"])
@pytest.mark.parametrize("wide", [0o755, 0o2770, 0o701])
async def test_an_open_folder_is_closed_to_others_with_a_warning(
    folder: Path, clock: HeldClock, caplog: pytest.LogCaptureFixture, part: str, wide: int
) -> None:
    async with open_disk(folder, 1_000_000, clock):
        pass
    assert not caplog.records
    (folder / part).chmod(wide)
    async with open_disk(folder, 1_000_000, clock):
        assert mode(folder / part) == 0o700
    (said,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said == f"{folder / part} was open to other users (mode {wide:04o}); it is 0700 now"


@pytest.mark.parametrize("part", ["", "bodies", "incoming"])
async def test_a_folder_of_another_user_is_refused(
    folder: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async with open_disk(folder, 1_000_000, clock):
        pass
    other = os.geteuid() + 1
    if os.geteuid() == 0:
        os.chown(folder / part, other, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(SettingsError, match="belongs to another user"):
        async with open_disk(folder, 1_000_000, clock):
            pass
    if not part:
        with pytest.raises(SettingsError, match="belongs to another user"), visiting(folder, time.time):
            pass


async def test_the_folder_itself_may_be_behind_a_link(folder: Path, clock: HeldClock, entries: Entries) -> None:
    folder.mkdir(mode=0o700)  # noqa: ASYNC240
    link = folder.with_name("link")
    link.symlink_to(folder)
    async with open_disk(link, 1_000_000, clock, min_free_bytes=0) as store:
        entry = entries(5)
        assert await store.put("a", entry, b"hello")
        assert await store.backend.fetch("a") == entry


def linked(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


async def test_a_link_in_place_of_a_body_is_not_served(
    store: DiskStore, folder: Path, entries: Entries, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"hello")
    for through in ("body", "shard"):
        entry = entries(5)
        await store.put("a", entry, b"hello")
        path = folder / "bodies" / entry.generation[:2] / entry.generation
        if through == "body":
            linked(path, target)
        else:
            path.parent.rename(tmp_path / "moved")
            path.parent.symlink_to(tmp_path / "moved")
        assert await store.open_body(entry) is None
        assert await store.read_body(entry) is None
    assert target.read_bytes() == b"hello"


async def test_nothing_is_written_through_a_link(
    store: DiskStore, folder: Path, entries: Entries, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    entry = entries(5, "ab" * 16)
    (folder / "bodies" / "ab").symlink_to(outside)
    with pytest.raises(StoreError):
        await store.put("a", entry, b"hello")
    run = store._incoming
    target = outside / "target"
    target.write_bytes(SECRET)
    (run / "cdcd").symlink_to(target)
    with pytest.raises(StoreError):
        await store.begin("cdcd")
    run.rename(tmp_path / "run")
    run.symlink_to(outside)
    with pytest.raises(StoreError):
        await store.begin("efef")
    assert [path.name for path in outside.iterdir()] == ["target"]
    assert target.read_bytes() == SECRET
    run.unlink()
    (tmp_path / "run").rename(run)


@pytest.mark.parametrize("name", ["epoch", "shared", "index.lock"])
async def test_a_link_in_place_of_a_file_is_not_followed(
    folder: Path, clock: HeldClock, tmp_path: Path, name: str
) -> None:
    async with open_disk(folder, 1_000_000, clock):
        pass
    target = tmp_path / "target"
    target.write_bytes(SECRET)
    linked(folder / name, target)
    if name == "shared":
        file = CheckpointFile(folder)
        assert await file.read() is None
        checkpoint = Checkpoint(Position("run", 1), 1)
        await file.write(checkpoint)
        assert (await file.read(), (folder / name).is_symlink()) == (checkpoint, False)
    else:
        with pytest.raises(StoreError):
            async with open_disk(folder, 1_000_000, clock):
                pass
    assert target.read_bytes() == SECRET


def database(folder: Path) -> Path:
    (path,) = folder.glob("index-*.sqlite3")
    return path


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_sqlite_is_given_no_link(folder: Path, clock: HeldClock, tmp_path: Path, suffix: str) -> None:
    async with open_disk(folder, 1_000_000, clock):
        pass
    path = database(folder)
    target = tmp_path / "target"
    target.write_bytes(SECRET)
    linked(path.with_name(f"{path.name}{suffix}"), target)
    with pytest.raises(StoreError):
        async with open_disk(folder, 1_000_000, clock):
            pass
    assert target.read_bytes() == SECRET


async def test_nothing_is_reclaimed_through_a_link(
    store: DiskStore, folder: Path, clock: HeldClock, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "run").mkdir(parents=True)
    kept = [outside / "orphan", outside / "run" / "unfinished"]
    for path in kept:
        path.write_bytes(SECRET)
        os.utime(path, (1, 1))
    (folder / "bodies" / "zz").symlink_to(outside)
    (folder / "incoming" / "dead").symlink_to(outside / "run")
    (folder / "bodies" / "yy").mkdir()
    (folder / "bodies" / "yy" / "orphan").symlink_to(kept[0])
    clock.now += YOUNG_SECONDS + 100
    await store.orphans.reclaim()
    assert all(path.read_bytes() == SECRET for path in kept)


async def test_a_pipe_in_place_of_a_body_blocks_no_reader(store: DiskStore, folder: Path, entries: Entries) -> None:
    entry = entries(0)
    await store.put("a", entry, b"")
    path = folder / "bodies" / entry.generation[:2] / entry.generation
    path.unlink()
    await asyncio.to_thread(os.mkfifo, path)
    assert await store.open_body(entry) is None


def test_a_path_outside_is_none_of_the_folder_s(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not in the subpath"):
        Folder(tmp_path).open(tmp_path.parent / "elsewhere" / "file", os.O_RDONLY)
