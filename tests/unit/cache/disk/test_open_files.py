"""Files that are kept open: how many, for how long, and that each descriptor is closed once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.cache.body import FileBody
from proxy.cache.disk import open_files
from proxy.cache.disk.files import BodyCheck
from proxy.cache.disk.open_files import OpenFile, OpenFiles
from proxy.cache.entry import Entry
from tests.functional.express import until


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def _entry(name: str, length: int = 3) -> Entry:
    return Entry(
        version=1, generation=name, etag="tag", length=length, checksum="", epoch=0, fields=(), presented=(),
        requested_at=0.0, answered_at=0.0,
    )  # fmt: skip


def _opened(folder: Path, name: str, threads: ThreadPoolExecutor) -> OpenFile:
    path = folder / name
    path.write_bytes(b"abc")
    return OpenFile(os.open(path, os.O_RDONLY), threads, path, BodyCheck.sound())


async def test_readers_share_a_file_that_the_last_one_closes(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    files = OpenFiles()
    file = _opened(tmp_path, "a", threads)
    files.keep("a", file)
    second = files.take(_entry("a"))
    assert second is file
    first_body, second_body = FileBody(file, 3), FileBody(file, 3)
    await first_body.close()
    # Once more is nothing: the other reader's file stays open.
    await first_body.close()
    first_body.release()
    files.close()
    assert await second_body.read(0, 3) == b"abc"
    await second_body.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.descriptor)


async def test_the_file_used_longest_ago_makes_room(
    threads: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "_MOST", 2)
    files = OpenFiles()
    for name in ("a", "b"):
        file = _opened(tmp_path, name, threads)
        files.keep(name, file)
        await file.close()
    used = files.take(_entry("a"))
    assert used is not None
    await used.close()
    third = _opened(tmp_path, "c", threads)
    files.keep("c", third)
    await third.close()
    assert (len(files), files.take(_entry("b"))) == (2, None)
    files.close()


@pytest.mark.parametrize("how", ["removed", "longer", "damaged"])
async def test_a_file_that_was_changed_is_not_taken(threads: ThreadPoolExecutor, tmp_path: Path, how: str) -> None:
    files = OpenFiles()
    file = _opened(tmp_path, "a", threads)
    files.keep("a", file)
    await file.close()
    if how == "removed":
        file.path.unlink()
    file._check.damaged = how == "damaged"
    assert files.take(_entry("a", 2 if how == "longer" else 3)) is None
    assert len(files) == 0
    files.close()


async def test_an_idle_file_is_closed_unless_it_is_read(
    threads: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "SWEEP_SECONDS", 0.01)
    files = OpenFiles()
    idle, read = _opened(tmp_path, "a", threads), _opened(tmp_path, "b", threads)
    files.keep("a", idle)
    files.keep("b", read)
    await idle.close()
    async with asyncio.timeout(60):
        await until(lambda: len(files) == 1)
    again = files.take(_entry("b"))
    assert again is read
    read.path.unlink()
    files.close_removed()
    assert len(files) == 0
    assert await again.read(0, 3) == b"abc"
    await again.close()
    await read.close()
    files.close()


async def test_a_closed_table_keeps_nothing(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    files = OpenFiles()
    files.close()
    file = _opened(tmp_path, "a", threads)
    files.keep("a", file)
    assert len(files) == 0
    await file.close()


async def test_of_two_files_of_one_body_the_first_is_kept(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    files = OpenFiles()
    first, second = _opened(tmp_path, "a", threads), _opened(tmp_path, "a", threads)
    files.keep("a", first)
    files.keep("a", second)
    for file in (first, second):
        await file.close()
    taken = files.take(_entry("a"))
    assert taken is first
    taken.release()
    files.close()


async def test_only_the_last_reader_of_a_file_closes_it(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    file = _opened(tmp_path, "a", threads)
    file.readers += 1
    file.release()
    assert await file.read(0, 3) == b"abc"
    file.release()
    assert file._closed


async def test_a_file_in_use_stays_open_for_a_bounded_time(
    threads: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "SWEEP_SECONDS", 3_600)
    files = OpenFiles()
    file = _opened(tmp_path, "a", threads)
    files.keep("a", file)
    file.release()
    for sweep in range(1, open_files._SWEEPS):
        files._sweep()
        if sweep % (open_files._IDLE_SWEEPS - 1) == 0:
            used = files.take(_entry("a"))
            assert used is file
            used.release()
    assert len(files) == 1
    files._sweep()
    assert len(files) == 0
    files.close()


async def test_what_another_worker_removed_is_not_kept_open(
    threads: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "SWEEP_SECONDS", 3_600)
    files = OpenFiles()
    file = _opened(tmp_path, "a", threads)
    files.keep("a", file)
    file.path.unlink()
    files._sweep()
    assert (len(files), await file.read(0, 3)) == (0, b"abc")
    file.release()
    files.close()
