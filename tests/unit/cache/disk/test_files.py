"""Files of bodies: a descriptor outlives every call that uses its number, and no call outlives its threads."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.cache.checksum import Checksum
from proxy.cache.disk.files import BodyFile, write_all
from proxy.cache.disk.folder import Folder
from proxy.cache.disk.threads import on, on_or_undo
from proxy.errors import StoreError


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "body"


def _content(path: Path) -> bytes:
    return path.read_bytes()


async def test_a_cancelled_write_keeps_its_descriptor_until_it_has_ended(
    threads: ThreadPoolExecutor, path: Path, tmp_path: Path
) -> None:
    file = BodyFile(Folder(path.parent).create(path), threads, path)
    gate = threading.Event()
    held = threads.submit(gate.wait)
    writing = asyncio.create_task(file.write([b"mine"], 0, Checksum()))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await file.close()
    # The next file to be opened would get a number that was given back.
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    gate.set()
    await asyncio.wrap_future(held)
    await on(threads, int)
    os.close(other)
    assert [_content(tmp_path / "other"), _content(path)] == [b"", b"mine"]


class _Gift:
    """A result that tells when it is gone."""


async def test_what_a_call_gave_is_freed_with_its_last_holder(threads: ThreadPoolExecutor) -> None:
    gc.collect()
    gc.disable()
    try:
        gate = threading.Event()
        held = threads.submit(gate.wait)
        giving = asyncio.ensure_future(on(threads, _Gift))
        await asyncio.sleep(0)
        gate.set()
        gone = weakref.ref(await giving)
        del giving
        await asyncio.wrap_future(held)
        # Until its next task a thread holds on to the last one.
        await on(threads, int)
        assert gone() is None
    finally:
        gc.enable()


async def test_a_closed_file_is_a_store_error_and_closes_once(threads: ThreadPoolExecutor, path: Path) -> None:
    file = BodyFile(Folder(path.parent).create(path), threads, path)
    await file.close()
    other = os.open(path, os.O_RDONLY)
    await file.close()
    with pytest.raises(StoreError):
        await file.read(0, 1)
    os.close(other)


async def test_a_file_that_outlives_the_threads_is_still_closed(path: Path) -> None:
    threads = ThreadPoolExecutor(1)
    file = BodyFile(Folder(path.parent).create(path), threads, path)
    descriptor = file._descriptor
    threads.shutdown()
    with pytest.raises(StoreError):
        await file.read(0, 1)
    await file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


async def test_a_failed_read_raises_store_error_and_closes_the_descriptor(
    threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    file = BodyFile(os.open(tmp_path, os.O_RDONLY), threads, tmp_path)
    with pytest.raises(StoreError):
        await file.read(0, 1)
    await file.close()


@pytest.mark.parametrize("warm", [True, False])
async def test_only_bytes_that_take_the_disk_are_read_on_threads(
    threads: ThreadPoolExecutor, path: Path, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    read, preadv, asked = os.pread, os.preadv, list[int]()

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        asked.append(threading.get_ident())
        return read(descriptor, size, offset)

    def nowait(descriptor: int, buffers: list[bytearray], offset: int, _: int) -> int:
        if not warm:
            raise BlockingIOError
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(os, "preadv", nowait)
    file = BodyFile(Folder(path.parent).create(path), threads, path)
    await file.write([b"0123456789"], 0, Checksum())
    assert await file.read(2, 100) == b"23456789"
    assert await file.read(10, 1) == b""
    assert threading.get_ident() not in asked
    assert len(asked) == (1 if warm else 2)
    await file.close()


async def test_a_call_on_stopped_threads_is_a_store_error() -> None:
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    with pytest.raises(StoreError):
        await on(threads, int)
    with pytest.raises(StoreError):
        await on_or_undo(threads, int, str)


async def test_a_cancelled_call_is_undone_even_if_the_threads_stop(path: Path) -> None:
    threads = ThreadPoolExecutor(1)
    gate = threading.Event()

    def open_late() -> int:
        gate.wait()
        return Folder(path.parent).create(path)

    opening = asyncio.create_task(on_or_undo(threads, open_late, os.close))
    await asyncio.sleep(0)
    threads.shutdown(wait=False)
    gate.set()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


def test_a_write_that_the_system_takes_in_parts_is_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwritev

    def three(descriptor: int, views: list[memoryview], offset: int) -> int:
        return write(descriptor, [b"".join(views)[:3]], offset)

    monkeypatch.setattr(os, "pwritev", three)
    descriptor = Folder(path.parent).create(path)
    write_all(descriptor, [b"01", b"", b"2", b"34", b"56789"], 2)
    os.close(descriptor)
    assert path.read_bytes() == b"\0\0" + b"0123456789"


def test_more_blocks_than_the_system_takes_at_once_are_written(path: Path) -> None:
    descriptor = Folder(path.parent).create(path)
    write_all(descriptor, [bytes([n % 256]) for n in range(3_000)], 0)
    os.close(descriptor)
    assert path.read_bytes() == bytes(n % 256 for n in range(3_000))


def test_a_file_of_another_length_is_not_opened(path: Path) -> None:
    path.write_bytes(b"abc")
    assert Folder(path.parent).open_whole(path, 2) is None
    assert Folder(path.parent).open_whole(path.with_name("absent"), 0) is None
    descriptor = Folder(path.parent).open_whole(path, 3)
    assert descriptor is not None
    os.close(descriptor)
