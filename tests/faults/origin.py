"""An upstream of raw sockets, API and CDN in one: it says octet for octet what a test gives it, right or wrong."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from proxy.model import MediaRef

ACCOUNT: Final = "AC" + "a" * 32
TOKEN: Final = "t" * 32
REF: Final = MediaRef.parse(ACCOUNT, "MM" + "b" * 32, "ME" + "c" * 32)
OTHER: Final = MediaRef.parse(ACCOUNT, "MM" + "d" * 32, "ME" + "e" * 32)
SMALL: Final = random.Random(1).randbytes(200_000)
"""Goes to a client in one write with its head, so that nothing is sent before all of it has come."""
LARGE: Final = random.Random(2).randbytes(1_500_000)
"""More than RAM keeps, and sent as it comes."""

_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Close:
    """The end of the connection, in order."""


@dataclass(frozen=True)
class Reset:
    """The end of the connection by an RST."""


@dataclass(frozen=True)
class Stall:
    """Says nothing more, until the other side ends the connection."""


Part = bytes | asyncio.Event | Close | Reset | Stall
Script = Sequence[Part]


def head(*lines: str, status: str = "200 OK") -> bytes:
    """Return a head with these field lines."""
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines, "")).encode()


def announcing(length: int | str) -> bytes:
    """Return the head of a good answer whose body has that length."""
    return head("Content-Type: image/jpeg", 'ETag: "one"', f"Content-Length: {length}")


CHUNKED: Final = head("Content-Type: image/jpeg", 'ETag: "one"', "Transfer-Encoding: chunked")


def good(body: bytes) -> Script:
    """Return a whole answer with its length."""
    return (announcing(len(body)), body)


def chunks(body: bytes, size: int = 65_536) -> bytes:
    """Return a body in the chunked coding, without the last chunk."""
    return b"".join(
        b"%x\r\n%b\r\n" % (len(block), block)
        for block in (body[offset : offset + size] for offset in range(0, len(body), size))
    )


def trickled(octets: bytes) -> Script:
    """Return the same octets in a packet each."""
    return tuple(octets[offset : offset + 1] for offset in range(len(octets)))


class FaultyOrigin:
    """An origin that answers each request with the next script, the last one over and over."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.heads: list[bytes] = []
        self.url = ""
        self.left = asyncio.Event()
        """Set when the other side has ended a connection before the answer on it was over, or after the last one."""
        self._scripts: deque[Script] = deque([good(SMALL)])
        self._arrived = asyncio.Condition()
        self._serving: set[asyncio.Task[None]] = set()

    def play(self, *scripts: Script) -> None:
        """Play these from the next request on."""
        self._scripts = deque(scripts)

    @property
    def asked(self) -> int:
        """The number of requests that have come."""
        return len(self.targets)

    async def requests_arrive(self, count: int) -> None:
        """Wait until so many have come in all."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.asked >= count)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FaultyOrigin]:
        """Listen at a free port meanwhile."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while await self._answered(reader, writer):
                pass
        except asyncio.CancelledError:
            pass  # the end of the test
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._serving.discard(task)

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return False if the connection is over."""
        request = await reader.readuntil(b"\r\n\r\n")
        async with self._arrived:
            self.targets.append(request.split(b" ", 2)[1].decode())
            self.heads.append(request)
            self._arrived.notify_all()
        script = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
        for part in script:
            match part:
                case bytes():
                    writer.write(part)
                    await writer.drain()
                case asyncio.Event():
                    await part.wait()
                case Stall():
                    await reader.read()
                    self.left.set()
                    return False
                case Reset():
                    # What was sent comes first: an RST throws away what the other side has not read.
                    await asyncio.sleep(0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    writer.transport.abort()
                    return False
                case Close():
                    return False
        return True
