"""Stored files that fail while they are sent: no part passes for the whole, and the next answer is good."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.origin import LARGE, REF, FaultyOrigin, good
from tests.faults.serving import environment
from tests.functional.express import Station, station, until
from tests.functional.harness import logged


@pytest.fixture
async def at(origin: FaultyOrigin, folder: Path) -> AsyncIterator[Station]:
    """Yield a gateway that has the media on disk."""
    origin.play(good(LARGE), good(LARGE))
    async with station(environment(origin, folder)) as started:
        await _store(started)
        yield started


async def _store(at: Station) -> None:
    async with at.connection() as connection:
        while "; hit" not in (await connection.ask(at.get(REF))).headers["Cache-Status"]:
            pass


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size == len(LARGE)]


async def good_answer(at: Station) -> str:
    """Return `Cache-Status` of a whole, right answer on a connection of its own."""
    async with at.connection() as connection:
        reply = await connection.ask(at.get(REF))
    assert (reply.status, reply.body == LARGE) == (200, True)
    return reply.headers["Cache-Status"]


async def test_a_shortened_file_cuts_the_answer_and_is_fetched_again(
    at: Station, folder: Path, origin: FaultyOrigin
) -> None:
    (path,) = await asyncio.to_thread(_files, folder)
    async with logged() as logs, at.connection(receive_buffer=4_096) as connection:
        connection.pause()
        connection.writer.write(at.get(REF))
        await until(lambda: any(getattr(one, "_transfer", None) is not None for one in at.server.connections))
        await asyncio.to_thread(os.truncate, path, 1_400_000)
        connection.resume()
        head = await connection.reader.readuntil(b"\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await connection.reader.readexactly(len(LARGE))
    (said,) = [line for line in logs.said if "could not be read" in str(line["message"])]
    assert f"\r\nX-Request-Id: {said['request_id']}\r\n" in head.decode()
    assert "fwd=" in await good_answer(at)
    assert origin.asked == 2


@pytest.mark.parametrize("after", [0, 1])
async def test_an_unreadable_file_costs_at_most_one_answer(
    at: Station, origin: FaultyOrigin, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A disk's fault, which nothing real can make here; `after` so many calls."""
    real, calls = os.sendfile, 0

    def failing(to: int, source: int, offset: int, size: int) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(errno.EIO, "Input/output error")
        return real(to, source, offset, min(size, 100_000))

    with monkeypatch.context() as patched:
        patched.setattr("proxy.http_server.file_transfer.os.sendfile", failing)
        async with at.connection() as connection:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await connection.ask(at.get(REF))
    assert "; hit" in await good_answer(at)
    assert origin.asked == 1


async def test_an_unreadable_file_before_the_head_costs_no_answer(
    at: Station, origin: FaultyOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(descriptor: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("proxy.cache.disk.files._is_warm", lambda *_: False)
        patched.setattr("proxy.cache.disk.files.os.pread", failing)
        async with at.connection() as connection:
            reply = await connection.ask(at.get(REF))
    assert (reply.status, reply.body == LARGE) == (200, True)
    assert origin.asked == 2


async def test_a_file_with_other_bytes_is_never_sent_whole(origin: FaultyOrigin, folder: Path) -> None:
    origin.play(good(LARGE), good(LARGE))
    async with station(environment(origin, folder)) as before:
        await _store(before)
    (path,) = await asyncio.to_thread(_files, folder)

    def damage() -> None:
        with path.open("r+b") as file:
            file.seek(700_000)
            file.write(b"damaged")

    await asyncio.to_thread(damage)
    async with station(environment(origin, folder)) as at:
        async with at.connection() as connection:
            # It is found before the head or after it.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
                assert (await connection.ask(at.get(REF))).body == LARGE
        await good_answer(at)
    assert origin.asked == 2
