"""A gateway in this process whose clock is held, whose parts can be reached, and a client that sends octets."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import msgspec

from proxy.http_server.runner import GatewayServer
from proxy.links import LinkMinter
from proxy.model import MediaRef
from proxy.processes.listeners import open_listeners
from proxy.processes.service import Service, serving
from proxy.settings import load
from proxy.telemetry.metrics import ANSWERS, Metrics
from proxy.web.services.gateway import Gateway
from tests.functional.harness import KEY, Reply, bare


class HeldClock:
    """Stands at the beginning of a second until it is moved."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


class Connection:
    """One connection of a client, whose octets are the test's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def pause(self) -> None:
        """Take nothing from now on."""
        assert isinstance(self.writer.transport, asyncio.Transport)
        self.writer.transport.pause_reading()

    def resume(self) -> None:
        assert isinstance(self.writer.transport, asyncio.Transport)
        self.writer.transport.resume_reading()

    async def ask(self, octets: bytes) -> Reply:
        """Send these octets, and read one answer."""
        self.writer.write(octets)
        return await self.answer(is_head=octets.startswith(b"HEAD"))

    async def answer(self, *, is_head: bool = False) -> Reply:
        head = await self.reader.readuntil(b"\r\n\r\n")
        reply = bare(head)
        length = 0 if is_head or reply.status == 304 else int(reply.headers["Content-Length"])
        return Reply(reply.status, reply.headers, await self.reader.readexactly(length))


@dataclass
class Station:
    """A gateway, as `serving` has it."""

    gateway: Gateway
    service: Service
    metrics: Metrics
    clock: HeldClock
    address: tuple[str, int] | str
    minter: LinkMinter

    @property
    def express(self) -> int:
        """Answers that the lane has given."""
        return int(self.gateway.telemetry.totals()[ANSWERS.first])

    @property
    def sending(self) -> int:
        """Answers that go out from a file now, past their transports."""
        return sum(getattr(connection, "_transfer", None) is not None for connection in self.server.connections)

    @property
    def server(self) -> GatewayServer:
        server = self.service._runner.server
        assert isinstance(server, GatewayServer)
        return server

    async def settled(self) -> None:
        """Wait until every answer that was given is counted and logged."""
        await self.service._runner._connections.drain(10)

    def target(self, ref: MediaRef, **claims: str | int) -> str:
        """Return the target of a link that is minted now."""
        return re.sub(r"^https?://[^/]+", "", self.minter.url(ref, **{"ttl": 3_000, **claims}))  # type: ignore[arg-type]

    def get(self, ref: MediaRef, *lines: str, method: str = "GET", **claims: str | int) -> bytes:
        """Return a request for a media with these field lines besides `Host`."""
        return request(self.target(ref, **claims), *lines, method=method)

    @asynccontextmanager
    async def connection(
        self, source: str = "127.0.0.1", receive_buffer: int | None = None
    ) -> AsyncIterator[Connection]:
        """Yield a connection from that address of this machine."""
        if isinstance(self.address, str):
            reader, writer = await asyncio.open_unix_connection(self.address)
        else:
            client = socket.socket()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.bind((source, 0))
            if receive_buffer is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await asyncio.get_running_loop().sock_connect(client, self.address)
            reader, writer = await asyncio.open_connection(sock=client, limit=65_536)
        try:
            yield Connection(reader, writer)
        finally:
            writer.transport.abort()
            # Its socket is closed by the loop's next turn.
            await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until that holds."""
    while not holds():
        await turn()


async def turn() -> None:
    """Let the loop turn once."""
    await asyncio.sleep(0)


async def turns() -> None:
    """Let the loop turn, so that the gateway reads what has come."""
    for _ in range(10):
        await turn()


async def warm(connection: Connection, at: Station, octets: bytes) -> Reply:
    """Ask until the lane has learnt the answer, from the first that came from what is stored; then its own."""
    before = at.express
    while True:
        # An answer may be with its client before the gateway has done with it.
        await at.settled()
        await turns()
        if "; hit" in (reply := await connection.ask(octets)).headers["Cache-Status"]:
            break
    await at.settled()
    await turns()
    if at.express == before:
        reply = await connection.ask(octets)
    assert at.express == before + 1
    return reply


async def ordinary(connection: Connection, at: Station, octets: bytes) -> Reply:
    """Return an answer that the lane does not give."""
    before = at.express
    reply = await connection.ask(octets)
    assert at.express == before
    return reply


async def make_older(at: Station, ref: MediaRef, seconds: int) -> None:
    """Put another entry of the same bytes in the place of a stored response, as a 304 does."""
    tiers = at.gateway.media.engine.tiers
    stored = await tiers.find(ref)
    assert stored is not None
    asked, answered = stored.entry.requested_at - seconds, stored.entry.answered_at - seconds
    older = msgspec.structs.replace(stored.entry, requested_at=asked, answered_at=answered)
    assert await tiers.freshen(ref, older, tiers.epoch)


def request(target: str, *lines: str, method: str = "GET") -> bytes:
    """Return a request of HTTP/1.1."""
    return "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", "Host: a", *lines, "")).encode("latin-1")


@asynccontextmanager
async def station(environ: Mapping[str, str], clock: HeldClock | None = None) -> AsyncIterator[Station]:
    """Yield a gateway that serves within the scope."""
    clock = clock or HeldClock()
    settings = await asyncio.to_thread(load, environ, None)
    listeners = await asyncio.to_thread(open_listeners, settings, {})
    settings = settings.at_port(listeners.main.port or 0)
    metrics = Metrics()
    address = listeners.main.socket.getsockname()
    try:
        async with serving(settings, listeners, metrics=metrics, clock=clock) as service:
            minter = LinkMinter(str(settings.public_url), KEY, clock=clock)
            yield Station(service._gateway, service, metrics, clock, address, minter)
    finally:
        await asyncio.to_thread(listeners.close)


class Start(Protocol):
    """The starter of gateways with these settings changed; they end with the test."""

    async def __call__(self, clock: HeldClock | None = None, **overrides: str) -> Station: ...
