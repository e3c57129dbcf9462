"""Stored files that go to a client from the page cache: whole, in parts, and to slow readers."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from proxy.http_server.file_responder import _Headed
from proxy.sandbox import Media, Sandbox
from proxy.telemetry.metrics import SENT
from tests.functional.express import Connection, Station, station, until
from tests.functional.harness import environment, logged


class Sends:
    """Bytes that `sendfile` took, by call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        real = os.sendfile

        def counting(to: int, source: int, offset: int, size: int) -> int:
            sent = real(to, source, offset, size)
            self.sizes.append(sent)
            return sent

        monkeypatch.setattr("proxy.http_server.file_transfer.os.sendfile", counting)

    @property
    def total(self) -> int:
        return sum(self.sizes)


@pytest.fixture
def sends(monkeypatch: pytest.MonkeyPatch) -> Sends:
    return Sends(monkeypatch)


@pytest.fixture(params=["1", "0"], ids=["express", "ordinary"])
def express(request: pytest.FixtureRequest) -> str:
    """Return `GATEWAY_EXPRESS`: the lane and the ordinary path send in the same way."""
    lane: str = request.param
    return lane


@pytest.fixture(params=["tcp", "unix"])
async def at(
    request: pytest.FixtureRequest, sandbox: Sandbox, film: Media, tmp_path: Path, express: str
) -> AsyncIterator[Station]:
    unix = {"GATEWAY_LISTEN": f"unix:{tmp_path}/gateway.sock", "GATEWAY_PUBLIC_URL": "http://media.example.com"}
    overrides = unix if request.param == "unix" else {}
    async with station(environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS=express, **overrides)) as started:
        await store(started, film)
        yield started


async def store(at: Station, media: Media) -> None:
    """Have a media on disk, whole."""
    async with at.connection() as connection:
        while "; hit" not in (await connection.ask(at.get(media.ref))).headers["Cache-Status"]:
            pass
    await at.settled()


@asynccontextmanager
async def stalled(at: Station, media: Media) -> AsyncIterator[Connection]:
    """Yield a client that has asked for a media, and takes nothing of it."""
    async with at.connection(receive_buffer=4_096) as connection:
        connection.pause()
        connection.writer.write(at.get(media.ref))
        await until(lambda: at.sending == 1)
        yield connection


async def all_ended(at: Station) -> None:
    """Wait until nothing is sent any more, and no connection is left."""
    async with asyncio.timeout(60):
        await until(lambda: at.sending == 0 and not at.server.connections)


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        (None, slice(None)),
        ("bytes=0-99", slice(0, 100)),
        ("bytes=0-0", slice(0, 1)),
        ("bytes=1000000-2999999", slice(1_000_000, 3_000_000)),
        ("bytes=4000000-", slice(4_000_000, None)),
        ("bytes=-1", slice(-1, None)),
        ("bytes=-1500000", slice(-1_500_000, None)),
    ],
)
async def test_every_byte_that_was_asked_for_comes(
    at: Station, film: Media, sends: Sends, asked: str | None, span: slice
) -> None:
    before = at.gateway.telemetry.totals()[SENT.first]
    async with at.connection() as connection:
        octets = at.get(film.ref, *([] if asked is None else [f"Range: {asked}"]))
        replies = [await connection.ask(octets) for _ in range(3)]
        whole = await connection.ask(at.get(film.ref, method="HEAD"))
    await at.settled()
    wanted = film.read()[span]
    assert [reply.status for reply in replies] == [200 if asked is None else 206] * 3
    assert all(reply.body == wanted for reply in replies)
    assert (whole.status, whole.headers["Content-Length"]) == (200, str(film.length))
    assert sends.total == 3 * len(wanted) == at.gateway.telemetry.totals()[SENT.first] - before


async def test_requests_that_are_sent_at_once_are_answered_in_order(at: Station, film: Media, photo: Media) -> None:
    await store(at, photo)
    parts = [
        at.get(film.ref), at.get(photo.ref), at.get(film.ref, "Range: bytes=5-2000004"),
        at.get(film.ref, method="HEAD"), at.get(photo.ref),
    ]  # fmt: skip
    async with at.connection() as connection:
        connection.writer.write(b"".join(parts))
        bodies = [(await connection.answer(is_head=octets.startswith(b"HEAD"))).body for octets in parts]
    assert bodies == [film.read(), photo.read(), film.read()[5:2_000_005], b"", photo.read()]


@pytest.mark.parametrize("kept", [False, True])
async def test_http_1_0_gets_the_whole(at: Station, film: Media, sends: Sends, kept: bool) -> None:
    octets = at.get(film.ref, *(["Connection: keep-alive"] if kept else [])).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with at.connection() as connection:
        assert (await connection.ask(octets)).body == film.read()
        if kept:
            assert (await connection.ask(octets)).body == film.read()
        else:
            assert await connection.reader.read() == b""
    assert sends.total == film.length * (1 + kept)


async def test_the_log_has_the_bytes_that_were_sent(
    sandbox: Sandbox, film: Media, tmp_path: Path, express: str
) -> None:
    environ = environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS=express)
    async with logged() as logs, station(environ) as at:
        await store(at, film)
        async with at.connection() as connection:
            await connection.ask(at.get(film.ref, "Range: bytes=9-2000008"))
    assert [entry["bytes"] for entry in logs.entries][-2:] == [film.length, 2_000_000]


async def test_only_a_client_that_takes_nothing_is_cut_off(
    sandbox: Sandbox, film: Media, tmp_path: Path, express: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    time, ahead = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: time() + sum(ahead))
    async with logged() as logs, AsyncExitStack() as stack:
        environ = environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS=express, GATEWAY_LIMIT_SEND_SECONDS="1")
        at = await stack.enter_async_context(station(environ))
        await store(at, film)
        stuck = await stack.enter_async_context(at.connection(receive_buffer=4_096))
        slow = await stack.enter_async_context(at.connection(receive_buffer=200_000))
        stuck.pause()
        stuck.writer.write(at.get(film.ref))
        slow.writer.write(at.get(film.ref))
        taken = bytearray()
        await slow.reader.readuntil(b"\r\n\r\n")
        while len(taken) < film.length:
            taken += await slow.reader.read(100_000)
            # Until all has come, twice as long goes by as a client may take nothing.
            ahead[0] = 2 * len(taken) / film.length
            await asyncio.sleep(0)
        assert bytes(taken) == film.read()
        stuck.resume()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await stuck.answer()
    aborted = [entry for entry in logs.entries if "aborted" in entry]
    assert len(aborted) == 1
    assert 0 < int(str(aborted[0]["bytes"])) < film.length
    assert "Traceback" not in logs.program.getvalue()


async def test_a_client_that_leaves_ends_the_send_without_error(
    sandbox: Sandbox, film: Media, tmp_path: Path, express: str
) -> None:
    environ = environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS=express)
    async with logged() as logs, station(environ) as at:
        await store(at, film)
        async with stalled(at, film) as connection:
            connection.writer.transport.abort()
            await all_ended(at)
        await at.settled()
    assert [entry.get("aborted") for entry in logs.entries][-1:] == [True]
    assert logs.program.getvalue().count("Traceback") == 0
    assert "failed" not in logs.program.getvalue()


async def test_after_half_close_the_lane_still_answers(
    sandbox: Sandbox, film: Media, tmp_path: Path, express: str
) -> None:
    """The ordinary path reads on while it sends, and takes the end of what the client sends for the client's end."""
    environ = environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS=express)
    async with logged() as logs, station(environ) as at:
        await store(at, film)
        async with stalled(at, film) as connection:
            connection.writer.write_eof()
            if express == "1":
                connection.resume()
                assert (await connection.answer()).body == film.read()
                assert await connection.reader.read() == b""
            await all_ended(at)
        await at.settled()
    assert [entry.get("aborted", False) for entry in logs.entries][-1:] == [express == "0"]
    assert logs.program.getvalue().count("Traceback") == 0


async def test_a_head_that_cannot_be_made_leaves_nothing_behind(
    sandbox: Sandbox, film: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def failing(response: web.StreamResponse, request: web.BaseRequest) -> None:
        raise RuntimeError("a fault of the program")

    async with logged(), station(environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS="0")) as at:
        await store(at, film)
        async with at.connection() as connection:
            with monkeypatch.context() as patched:
                patched.setattr(_Headed, "prepare", failing)
                connection.writer.write(at.get(film.ref))
                assert (await connection.answer()).status >= 500
        assert at.sending == 0
        async with at.connection() as connection:
            assert (await connection.ask(at.get(film.ref))).body == film.read()
        await at.settled()
    gc.collect()
    assert complaints == []


async def test_two_hundred_slow_readers_take_next_to_no_memory(
    sandbox: Sandbox, film: Media, tmp_path: Path, express: str
) -> None:
    environ = environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS=express)
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(station(environ))
        await store(at, film)
        before = psutil.Process().memory_info().rss
        for _ in range(200):
            connection = await stack.enter_async_context(at.connection(receive_buffer=4_096))
            connection.pause()
            connection.writer.write(at.get(film.ref))
        await until(lambda: at.sending == 200)
        grown = psutil.Process().memory_info().rss - before
    # Both ends of 200 connections are in it; a block of each body would be 50 MB.
    assert grown < 30_000_000


async def test_draining_waits_for_files_under_way(sandbox: Sandbox, film: Media, tmp_path: Path, express: str) -> None:
    environ = environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS=express)
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(station(environ))
        await store(at, film)
        async with at.connection() as connection:
            connection.writer.write(at.get(film.ref))
            head = await connection.reader.readuntil(b"\r\n\r\n")
            ending = asyncio.create_task(stack.aclose())
            body = await connection.reader.readexactly(film.length)
            await ending
    assert head.startswith(b"HTTP/1.1 200")
    assert body == film.read()


async def test_the_time_for_draining_ends_what_is_under_way(
    sandbox: Sandbox, film: Media, tmp_path: Path, express: str
) -> None:
    async with logged() as logs, AsyncExitStack() as stack:
        environ = environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS=express, GATEWAY_DRAIN_SECONDS="0")
        at = await stack.enter_async_context(station(environ))
        await store(at, film)
        async with stalled(at, film) as connection:
            await stack.aclose()
            connection.resume()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await connection.answer()
    assert [entry.get("aborted", False) for entry in logs.entries][-1:] == [True]


async def test_a_cold_file_is_read_by_a_thread(
    sandbox: Sandbox, film: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, express: str
) -> None:
    # The kernel keeps what it likes, so it is told here that nothing is warm.
    read: list[int] = []
    real = os.pread

    def noting(descriptor: int, size: int, offset: int) -> bytes:
        read.append(size)
        return real(descriptor, size, offset)

    async with station(environment(sandbox, tmp_path / "cache", GATEWAY_EXPRESS=express)) as at:
        await store(at, film)
        monkeypatch.setattr("proxy.cache.disk.files._is_warm", lambda *_: False)
        monkeypatch.setattr("proxy.cache.disk.files.os.pread", noting)
        async with at.connection() as connection:
            assert (await connection.ask(at.get(film.ref))).body == film.read()
    assert sum(read) >= film.length
