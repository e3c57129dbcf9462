"""Readers by the thousand in one process: a protocol each, which counts bytes and keeps none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proxy.semantics.fields import Fields

_TICK_SECONDS = 0.1
_SLOW_BUFFER = 16_384


@dataclass(frozen=True, slots=True)
class Answered:
    """Seconds from a request to the first byte of the answer and to the last, and bytes of body."""

    first: float
    whole: float
    length: int


class Reader(asyncio.BufferedProtocol):
    """One connection, for one GET at a time. Bytes of bodies go into a buffer that all readers share."""

    _room = bytearray(1 << 18)

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[Answered] | None = None
        self._head = b""
        self._began = self._first = 0.0
        self._length = self._left = 0

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("cut off"))

    async def get(self, target: str, *lines: str) -> Answered:
        """Ask, and count the answer until it is whole. Raises `ConnectionError` where it is no 200 or is cut off."""
        self._answered = asyncio.get_running_loop().create_future()
        self._head, self._left, self._first = b"", 0, 0.0
        request = "\r\n".join((f"GET {target} HTTP/1.1", "Host: bench", *lines, "", ""))
        self._began = time.perf_counter()
        self.transport.write(request.encode())
        return await self._answered

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        if self._first:
            self._count(nbytes)
            return
        self._head += self._room[:nbytes]
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return
        status, _, lines = self._head[:end].decode("latin-1").partition("\r\n")
        length = Fields.of(_pair(line) for line in lines.split("\r\n")).single("Content-Length")
        if not status.startswith("HTTP/1.1 200") or length is None:
            self._end(ConnectionError(f"no answer to count: {status}"))
            return
        self._first = time.perf_counter()
        self._length = self._left = int(length)
        self._count(len(self._head) - end - 4)

    def _count(self, received: int) -> None:
        self._left -= received
        if self._left <= 0:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        answered = self._answered
        if answered is None or answered.done():
            return
        if error is not None:
            answered.set_exception(error)
        else:
            first, whole = self._first - self._began, time.perf_counter() - self._began
            answered.set_result(Answered(first, whole, self._length))


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip()


@asynccontextmanager
async def readers(host: str, port: int, number: int) -> AsyncIterator[Sequence[Reader]]:
    """That many connected readers."""
    loop = asyncio.get_running_loop()
    connected: list[Reader] = []
    try:
        for _ in range(number):
            _, reader = await loop.create_connection(Reader, host, port)
            connected.append(reader)
        yield connected
    finally:
        for reader in connected:
            reader.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def slow_readers(host: str, port: int, target: str, number: int, bytes_a_second: int) -> AsyncIterator[None]:
    """That many readers of one media, each with a small receive buffer, who take so many bytes in a second."""
    loop = asyncio.get_running_loop()
    request = f"GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    connected: list[socket.socket] = []
    each = int(bytes_a_second * _TICK_SECONDS)

    async def read() -> None:
        following = loop.time()
        while True:
            for client in connected:
                with contextlib.suppress(BlockingIOError):
                    client.recv(each)
            following += _TICK_SECONDS
            await asyncio.sleep(max(0.001, following - loop.time()))

    reading: asyncio.Task[None] | None = None
    try:
        for _ in range(number):
            client = socket.socket()
            connected.append(client)
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
            await loop.sock_connect(client, (host, port))
            await loop.sock_sendall(client, request)
        reading = asyncio.create_task(read())
        yield
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])
        for client in connected:
            client.close()
