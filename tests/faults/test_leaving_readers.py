"""Readers that go in the middle of an answer: nothing is logged of them but their line, and each is counted."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from proxy.telemetry.metrics import ABORTED, CONNECTIONS, CutBy
from tests.faults.origin import CHUNKED, LARGE, REF, Close, FaultyOrigin, Script, announcing, chunks, good
from tests.faults.serving import environment
from tests.functional.express import Station, request, station, turns, until
from tests.functional.harness import Logs, logged

BODY = LARGE * 4
"""Far more than the kernel takes of an answer."""
_PATIENT = {
    "GATEWAY_MAX_MEDIA_BYTES": "20MB",
    "GATEWAY_LIMIT_HEADERS_SECONDS": "60",
    "GATEWAY_LIMIT_IDLE_SECONDS": "60",
}
_RESET = struct.pack("ii", 1, 0)
_LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
_LANES = {"express": "1", "ordinary": "0"}


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


def close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def aborted(at: Station) -> list[float]:
    """Return the answers that broke off so far: by the client, by the gateway."""
    totals = at.gateway.telemetry.totals()
    return [totals[ABORTED.first + by] for by in CutBy]


def assert_calm(logs: Logs) -> None:
    program = logs.program.getvalue()
    assert "Traceback" not in program
    assert not [line for line in program.splitlines() if " error" in line or " warning" in line]


@dataclass(frozen=True)
class Leaving:
    """A reader: what it sends, and how it goes once its connection takes no more."""

    octets: Callable[[Station], bytes]
    leave: Callable[[socket.socket], None]

    async def __call__(self, at: Station) -> None:
        loop = asyncio.get_running_loop()
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        await loop.sock_connect(connection, at.address)
        await loop.sock_sendall(connection, self.octets(at))
        async with asyncio.timeout(30):
            await until(lambda: any(_stuck(one) for one in at.server.connections))
            self.leave(connection)
            await until(lambda: not at.server.connections)
        await at.settled()
        await turns()


def _stuck(protocol: object) -> bool:
    """Return whether an answer waits for its reader."""
    return bool(getattr(protocol, "_paused", False) or getattr(protocol, "_transfer", None) is not None)


def run_on(
    make_loop: Callable[[], asyncio.AbstractEventLoop], folder: Path, script: Script, leaving: Leaving, **settings: str
) -> tuple[list[float], Logs, list[str]]:
    """Have one reader leave; what was counted and logged, and what the loop complained of."""
    complaints: list[str] = []
    stored = settings.pop("stored", "") == "1"

    async def visit() -> tuple[list[float], Logs]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
        async with FaultyOrigin().serving() as origin:
            origin.play(script)
            environ = environment(origin, folder, **_PATIENT, **settings)
            async with station(environ) as at:
                if stored:
                    await store(at)
                async with logged(as_json=False) as logs:
                    await leaving(at)
                return aborted(at), logs

    with asyncio.Runner(loop_factory=make_loop) as runner:
        counted, logs = runner.run(visit())
    return counted, logs, complaints


async def store(at: Station) -> None:
    """Have the media stored, and the lane know it, if there is one."""
    for lines in ((), ("Range: bytes=0-9",)):
        async with at.connection() as connection:
            for _ in range(2):
                while "; hit" not in (await connection.ask(at.get(REF, *lines))).headers["Cache-Status"]:
                    pass
                await at.settled()
                await turns()


SPANS = {
    "whole": (),
    "one-range": ("Range: bytes=1000-",),
    "ranges": ("Range: bytes=0-2999999,3000001-",),
}
LEAVINGS = {"reset": reset, "close": close}

loops = pytest.mark.parametrize("make_loop", _LOOPS, ids=["asyncio", "uvloop"])
leavings = pytest.mark.parametrize("leave", LEAVINGS.values(), ids=list(LEAVINGS))
spans = pytest.mark.parametrize("lines", SPANS.values(), ids=list(SPANS))


@loops
@leavings
@spans
def test_a_reader_that_leaves_a_cold_media_logs_no_error(
    tmp_path: Path,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    leave: Callable[[socket.socket], None],
    lines: tuple[str, ...],
) -> None:
    leaving = Leaving(lambda at: at.get(REF, *lines), leave)
    counted, logs, complaints = run_on(make_loop, tmp_path / "cache", good(BODY), leaving)
    assert_calm(logs)
    assert (counted, complaints) == ([1, 0], [])


@loops
@leavings
@spans
@pytest.mark.parametrize("express", _LANES.values(), ids=list(_LANES))
@pytest.mark.parametrize("kept", ["100KB", "10MB"], ids=["file", "ram"])
def test_a_reader_that_leaves_a_stored_media_logs_no_error(
    tmp_path: Path,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    leave: Callable[[socket.socket], None],
    lines: tuple[str, ...],
    express: str,
    kept: str,
) -> None:
    leaving = Leaving(lambda at: at.get(REF, *lines), leave)
    settings = {"GATEWAY_EXPRESS": express, "GATEWAY_CACHE_OBJECT_MEMORY_BYTES": kept, "stored": "1"}
    counted, logs, complaints = run_on(make_loop, tmp_path / "cache", good(BODY), leaving, **settings)
    assert_calm(logs)
    assert (counted, complaints) == ([1, 0], [])


@loops
@leavings
@pytest.mark.parametrize("express", _LANES.values(), ids=list(_LANES))
def test_a_reader_that_leaves_pipelined_answers_logs_no_error(
    tmp_path: Path,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    leave: Callable[[socket.socket], None],
    express: str,
) -> None:
    leaving = Leaving(lambda at: at.get(REF) + at.get(REF, method="HEAD") + at.get(REF, "Range: bytes=0-9,20-"), leave)
    settings = {"GATEWAY_EXPRESS": express, "stored": "1"}
    counted, logs, complaints = run_on(make_loop, tmp_path / "cache", good(BODY), leaving, **settings)
    assert_calm(logs)
    assert (counted, complaints) == ([1, 0], [])


@loops
@leavings
def test_leaving_an_answer_of_unsaid_length_logs_no_error(
    tmp_path: Path, make_loop: Callable[[], asyncio.AbstractEventLoop], leave: Callable[[socket.socket], None]
) -> None:
    script = (CHUNKED, chunks(BODY), b"0\r\n\r\n")
    counted, logs, complaints = run_on(make_loop, tmp_path / "cache", script, Leaving(lambda at: at.get(REF), leave))
    assert_calm(logs)
    assert (counted, complaints) == ([1, 0], [])


@loops
@leavings
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("begun", [False, True], ids=["before-the-head", "within-the-body"])
@pytest.mark.parametrize("alone", [False, True], ids=["pipelined", "alone"])
def test_leaving_while_the_upstream_is_awaited_logs_no_error(
    tmp_path: Path,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    leave: Callable[[socket.socket], None],
    method: str,
    begun: bool,
    alone: bool,
) -> None:
    """`alone`: the gateway has learnt that the reader is gone before it writes; else it learns it by writing."""

    async def visit() -> tuple[Logs, int]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
        go_on = asyncio.Event()
        async with FaultyOrigin().serving() as origin:
            said = (announcing(len(BODY)), BODY[:400_000])
            origin.play((*said, go_on, BODY[400_000:]) if begun else (go_on, *good(BODY)))
            async with station(environment(origin, tmp_path / "cache", **_PATIENT)) as at:
                async with logged(as_json=False) as logs:
                    connection = socket.socket()
                    connection.setblocking(False)
                    await loop.sock_connect(connection, at.address)
                    await loop.sock_sendall(connection, at.get(REF, method=method) * (1 if alone else 2))
                    await origin.requests_arrive(1)
                    if begun:
                        await loop.sock_recv(connection, 100)
                    leave(connection)
                    if alone:
                        await until(lambda: not at.gateway.telemetry.totals()[CONNECTIONS.first])
                    go_on.set()
                    await until(lambda: not at.server.connections)
                    await at.settled()
                    await turns()
                return logs, len(at.server.connections)

    complaints: list[str] = []
    with asyncio.Runner(loop_factory=make_loop) as runner:
        logs, left = runner.run(visit())
    assert_calm(logs)
    assert (left, complaints) == (0, [])


@pytest.mark.parametrize("express", _LANES.values(), ids=list(_LANES))
async def test_a_cut_answer_is_counted_as_the_gateway_s_own(origin: FaultyOrigin, folder: Path, express: str) -> None:
    origin.play((announcing(len(LARGE)), LARGE[:1_000_000], Close()))
    async with station(environment(origin, folder, GATEWAY_EXPRESS=express)) as at:
        async with at.connection() as connection:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await connection.ask(at.get(REF))
        await at.settled()
        assert aborted(at) == [0, 1]


@pytest.mark.parametrize("express", _LANES.values(), ids=list(_LANES))
@pytest.mark.parametrize("kept", ["100KB", "10MB"], ids=["file", "ram"])
async def test_a_stalled_reader_is_counted_as_gone(origin: FaultyOrigin, folder: Path, express: str, kept: str) -> None:
    origin.play(good(BODY))
    environ = environment(
        origin,
        folder,
        GATEWAY_MAX_MEDIA_BYTES="20MB",
        GATEWAY_LIMIT_SEND_SECONDS="1",
        GATEWAY_EXPRESS=express,
        GATEWAY_CACHE_OBJECT_MEMORY_BYTES=kept,
    )
    async with station(environ) as at:
        await store(at)
        async with logged(as_json=False) as logs, at.connection(receive_buffer=4_096) as connection:
            connection.pause()
            connection.writer.write(at.get(REF))
            await until(lambda: any(map(_stuck, at.server.connections)))
            await until(lambda: not at.server.connections)
        await at.settled()
        assert aborted(at) == [1, 0]
    assert_calm(logs)


async def test_whole_answers_are_not_counted_as_broken_off(origin: FaultyOrigin, folder: Path) -> None:
    origin.play(good(LARGE))
    async with station(environment(origin, folder)) as at:
        async with at.connection() as connection:
            for lines in ((), ("Range: bytes=0-9",), ("Range: bytes=0-9,20-29",)):
                for _ in range(3):
                    assert (await connection.ask(at.get(REF, *lines))).status in {200, 206}
            assert (await connection.ask(request("/nothing"))).status == 404
        await at.settled()
        assert aborted(at) == [0, 0]


@loops
@leavings
@pytest.mark.parametrize("expecting", ["", "Expect: 100-continue\r\n"], ids=["plain", "expecting"])
def test_a_sender_that_leaves_in_its_body_logs_no_error(
    tmp_path: Path,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    leave: Callable[[socket.socket], None],
    expecting: str,
) -> None:
    async def visit() -> Logs:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
        async with FaultyOrigin().serving() as origin:
            environ = environment(origin, tmp_path / "cache", GATEWAY_CLIENTS=f"app:{'p' * 32}")
            async with station(environ) as at, logged(as_json=False) as logs:
                connection = socket.socket()
                connection.setblocking(False)
                await loop.sock_connect(connection, at.address)
                head = (
                    "POST /links HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
                    f"Authorization: Basic YXBwOnBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw\r\n{expecting}\r\n"
                )
                await loop.sock_sendall(connection, head.encode() + b'{"media": [')
                await until(lambda: any(one._current_request is not None for one in at.server.connections))
                await turns()
                leave(connection)
                await until(lambda: not at.server.connections)
                await at.settled()
                await turns()
            return logs

    complaints: list[str] = []
    with asyncio.Runner(loop_factory=make_loop) as runner:
        logs = runner.run(visit())
    assert_calm(logs)
    assert complaints == []
