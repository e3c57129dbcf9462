"""`media-gateway serve` as a program: SIGTERM and SIGINT drain, a second one ends it at once, on both loops."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from proxy.links import LinkMinter
from proxy.sandbox import Media, Sandbox, StallBody
from tests.functional.harness import KEY, bare, environment
from tests.functional.programs import Program, started

READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(sandbox: Sandbox, folder: Path, **overrides: str) -> AsyncIterator[tuple[Program, str]]:
    """Run `serve`; yield it and the origin that it listens at."""
    async with started(["serve"], environment(sandbox, folder, **overrides)) as program:
        line = await program.line("listening at ")
        yield program, line.partition("listening at ")[2].partition(",")[0]


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(int(bare(head).headers["Content-Length"]))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(
    sandbox: Sandbox, tmp_path: Path, film: Media, loop: str, number: signal.Signals
) -> None:
    rule = sandbox.fault(StallBody(after=100_000), media_sid=str(film.ref.media))
    overrides = {"GATEWAY_LOOP": loop, "GATEWAY_DRAIN_SECONDS": "50"}
    async with serving(sandbox, tmp_path, **overrides) as (program, origin), aiohttp.ClientSession() as session:
        url = URL(origin)
        link = URL(LinkMinter(origin, KEY).url(film.ref), encoded=True)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(READY)
        assert (await answer(reader)).startswith(b"HTTP/1.1 200 ")
        async with session.get(link) as download:
            body = await download.content.readexactly(1_000)
            program.signal(number)
            await program.line("draining")
            # No new connection is taken; one that is open learns that it is over.
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"{origin}/healthz")
            writer.write(READY)
            last = await answer(reader)
            assert last.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nConnection: close\r\n" in last
            assert await reader.read() == b""
            writer.close()
            # What runs is finished.
            rule.release()
            body += await download.read()
        assert hashlib.sha256(body).hexdigest() == film.sha256
        assert await program.ended() == 0
        assert "stopped" in program.lines[-1]


async def test_a_second_signal_ends_it_at_once(sandbox: Sandbox, tmp_path: Path, film: Media) -> None:
    sandbox.fault(StallBody(after=100_000), media_sid=str(film.ref.media))
    async with (
        serving(sandbox, tmp_path, GATEWAY_DRAIN_SECONDS="3600") as (program, origin),
        aiohttp.ClientSession() as session,
        session.get(URL(LinkMinter(origin, KEY).url(film.ref), encoded=True)) as download,
    ):
        await download.content.readexactly(1_000)
        program.signal(signal.SIGTERM)
        await program.line("draining")
        program.signal(signal.SIGTERM)
        assert await program.ended() == 128 + signal.SIGTERM


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_unix_socket_is_served_by_both_loops(sandbox: Sandbox, tmp_path: Path, loop: str) -> None:
    path = tmp_path / "gateway.sock"
    overrides = {
        "GATEWAY_LOOP": loop,
        "GATEWAY_LISTEN": f"unix:{path}",
        "GATEWAY_PUBLIC_URL": "http://media.example",
        "GATEWAY_LIMIT_CONNECTIONS": "1",
    }
    async with serving(sandbox, tmp_path / "cache", **overrides) as (program, _):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(READY)
        assert (await answer(reader)).startswith(b"HTTP/1.1 200 ")
        refused, other = await asyncio.open_unix_connection(str(path))
        assert (await refused.read()).startswith(b"HTTP/1.1 503 ")
        for one in (writer, other):
            one.close()
            await one.wait_closed()
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
    assert not await asyncio.to_thread(path.exists)


# What systemd does for a socket unit: descriptor 3, and the number of the process that it is for.
_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
environ = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execve(sys.executable, [sys.executable, "-m", "proxy", "serve"], environ)
"""


async def test_sd_listen_fds_a_socket_that_systemd_passes_is_served(sandbox: Sandbox, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        number = passed.fileno()
        async with started(
            [str(number)],
            environment(sandbox, tmp_path, GATEWAY_PUBLIC_URL="https://media.example"),
            command=(sys.executable, "-c", _ACTIVATE),
            pass_fds=(number,),
        ) as program:
            assert f"listening at http://127.0.0.1:{port}, links begin with https://media.example" in (
                await program.line("listening at ")
            )
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as response:
                assert response.status == 200
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, None])
async def test_sd_listen_fds_what_is_no_listening_socket_is_refused(
    sandbox: Sandbox, tmp_path: Path, kind: socket.SocketKind | None
) -> None:
    with socket.socket(socket.AF_INET, kind or socket.SOCK_STREAM) as passed:
        number = passed.fileno() if kind is not None else 0
        async with started(
            [str(number)], environment(sandbox, tmp_path), command=(sys.executable, "-c", _ACTIVATE),
            pass_fds=(passed.fileno(),),
        ) as program:  # fmt: skip
            assert await program.ended() == 2
            assert program.lines[-1].startswith("LISTEN_FDS: the descriptor that was passed is not a ")
