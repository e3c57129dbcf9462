"""Bodies: the places where the bytes of an answer are read from."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.cache.body import FileBody, RamBody
from proxy.cache.disk.files import BodyCheck, BodyFile
from proxy.cache.disk.folder import Folder
from proxy.cache.disk.threads import on
from proxy.errors import StoreError


def opened(tmp_path: Path, threads: ThreadPoolExecutor, check: BodyCheck | None = None) -> FileBody:
    path = tmp_path / "body"
    path.write_bytes(b"0123456789")
    descriptor = Folder(tmp_path).open_whole(path, 10)
    assert descriptor is not None
    return FileBody(BodyFile(descriptor, threads, path, check), 10)


async def test_bytes_in_ram() -> None:
    body = RamBody(b"0123456789")
    assert [await body.read(*span) for span in ((0, 10), (0, 4), (8, 10), (10, 5))] == [
        b"0123456789",
        b"0123",
        b"89",
        b"",
    ]
    assert await body.measure() == 10
    await body.close()


async def test_bytes_of_a_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        body = opened(tmp_path, threads)
        assert [await body.read(*span) for span in ((0, 10), (0, 4), (8, 10), (10, 5), (12, 5))] == [
            b"0123456789",
            b"0123",
            b"89",
            b"",
            b"",
        ]
        assert await body.measure() == 10
        await body.close()


async def test_only_the_end_waits_for_the_check(tmp_path: Path) -> None:
    check = BodyCheck()
    with ThreadPoolExecutor(1) as threads:
        body = opened(tmp_path, threads, check)
        assert await body.read(2, 7) == b"2345678"
        end = asyncio.ensure_future(body.read(2, 8))
        await asyncio.sleep(0)
        assert not end.done()
        check.ended.set()
        assert await end == b"23456789"
        await body.close()


async def test_the_end_of_a_damaged_body_is_never_read(tmp_path: Path) -> None:
    check = BodyCheck(damaged=True)
    check.ended.set()
    with ThreadPoolExecutor(1) as threads:
        body = opened(tmp_path, threads, check)
        with pytest.raises(StoreError):
            await body.read(0, 10)
        await body.close()


async def test_the_wait_for_a_check_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cache.body._PATIENCE", 0.0)
    with ThreadPoolExecutor(1) as threads:
        body = opened(tmp_path, threads, BodyCheck())
        assert await body.read(0, 10) == b"0123456789"
        await body.close()


@pytest.mark.parametrize("of_a_file", [False, True])
async def test_the_failure_of_an_abandoned_call_is_not_reported(tmp_path: Path, of_a_file: bool) -> None:
    unheard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))

    cancelled = threading.Event()

    def fail(*_: object) -> None:
        cancelled.wait()
        raise OSError

    with ThreadPoolExecutor(1) as threads:
        body = BodyFile(0, threads, tmp_path)
        calling = asyncio.ensure_future(body._call(fail) if of_a_file else on(threads, fail))
        await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        cancelled.set()
        # This waits behind it, on the one thread.
        await on(threads, int)
    del calling
    assert unheard == []
