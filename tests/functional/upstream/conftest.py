"""Origins of raw sockets: what they send is scripted byte by byte, what they are sent is kept byte by byte."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import pytest

from proxy.model import AccountSid, MediaRef, Provider
from proxy.telemetry.metrics import Metrics
from proxy.upstream.client import UpstreamClient
from proxy.upstream.limits import UpstreamLimits
from proxy.upstream.providers import Account, Accounts

AC = "AC" + "a1" * 16
OTHER_AC = "AC" + "b2" * 16
REF = MediaRef.parse(AC, "MM" + "c3" * 16, "ME" + "d4" * 16)
PASSWORD = "pass:word-that-never-leaks"


@dataclass(frozen=True)
class Request:
    raw: bytes
    connection: int

    @property
    def line(self) -> str:
        return self.raw.split(b"\r\n", 1)[0].decode()

    @property
    def fields(self) -> dict[str, str]:
        lines = self.raw.decode().split("\r\n")[1:-2]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


class Close:
    """The end of the connection."""


@dataclass(frozen=True)
class Turns:
    """Turns of the loop, in which the other side takes what was sent so far for itself."""

    count: int


class AwaitEnd:
    """Waits until the other side ends the connection."""


Part = bytes | asyncio.Event | Close | AwaitEnd | Turns


class RawOrigin:
    """An origin that answers each request with the next script, the last one again and again.

    A script is bytes and what to wait for.
    """

    close = Close()
    await_end = AwaitEnd()
    turns = Turns(20)

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.left = asyncio.Event()
        """Set when the other side ended a connection that an answer was running on."""
        self.port = 0
        self.greeting = b""
        self.connections = 0
        self.open_answers = 0
        self.most_open_answers = 0
        self._scripts: deque[tuple[Part, ...]] = deque()
        self._current: tuple[Part, ...] = ()
        self._arrived = asyncio.Condition()
        self._serving: set[asyncio.Task[None]] = set()

    def script(self, *parts: Part) -> None:
        self._scripts.append(parts)

    def reply(self, status: str, body: bytes = b"", *lines: str) -> None:
        """Script one whole answer with its length."""
        fields = "".join(f"{line}\r\n" for line in lines)
        self.script(f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)

    def redirect(self, location: str, status: int = 307) -> None:
        self.reply(f"{status} Elsewhere", b"<elsewhere/>", f"Location: {location}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def requests_arrive(self, count: int) -> None:
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    async def stop(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        number = self.connections
        try:
            writer.write(self.greeting)
            while True:
                raw = await reader.readuntil(b"\r\n\r\n")
                async with self._arrived:
                    self.requests.append(Request(raw, number))
                    self._arrived.notify_all()
                self.open_answers += 1
                self.most_open_answers = max(self.most_open_answers, self.open_answers)
                try:
                    if self._scripts:
                        self._current = self._scripts.popleft()
                    for part in self._current:
                        match part:
                            case bytes():
                                writer.write(part)
                                await writer.drain()
                            case asyncio.Event():
                                await part.wait()
                            case Turns(count):
                                for _ in range(count):
                                    await asyncio.sleep(0)
                            case AwaitEnd():
                                await reader.read()
                                self.left.set()
                            case Close():
                                return
                finally:
                    self.open_answers -= 1
        except asyncio.CancelledError:
            pass  # the end of the test
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._serving.discard(task)


Connect = Callable[..., Awaitable[UpstreamClient]]


@pytest.fixture
async def make_origin() -> AsyncIterator[Callable[[], Awaitable[RawOrigin]]]:
    async with AsyncExitStack() as stack:

        async def make() -> RawOrigin:
            origin = RawOrigin()
            server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
            origin.port = server.sockets[0].getsockname()[1]
            stack.push_async_callback(origin.stop)
            stack.callback(server.close)
            return origin

        yield make


@pytest.fixture
async def api(make_origin: Callable[[], Awaitable[RawOrigin]]) -> RawOrigin:
    return await make_origin()


@pytest.fixture
async def cdn(make_origin: Callable[[], Awaitable[RawOrigin]]) -> RawOrigin:
    return await make_origin()


@pytest.fixture
def waits() -> list[float]:
    """Return what the client slept between attempts."""
    return []


@pytest.fixture
async def connect(api: RawOrigin, cdn: RawOrigin, waits: list[float]) -> AsyncIterator[Connect]:
    """Make a client of two accounts whose origin is `api`, and whose redirects may lead to `cdn`."""
    async with AsyncExitStack() as stack:

        async def make(
            *,
            limits: UpstreamLimits | None = None,
            origin: str | None = None,
            hosts: tuple[tuple[str, int | None], ...] | None = None,
            monotonic: Callable[[], float] = time.monotonic,
            metrics: Metrics | None = None,
            subaccounts: bool = False,
        ) -> UpstreamClient:
            accounts = Accounts(
                Account.create(
                    Provider.TWILIO,
                    AccountSid.parse(sid),
                    sid,
                    PASSWORD,
                    origin or api.url,
                    (("127.0.0.1", cdn.port),) if hosts is None else hosts,
                    subaccounts=subaccounts and sid == AC,
                )
                for sid in (AC, OTHER_AC)
            )

            async def sleep(seconds: float) -> None:
                waits.append(seconds)

            return await stack.enter_async_context(
                UpstreamClient(
                    accounts,
                    limits or UpstreamLimits(),
                    lambda: 1_800_000_000.0,
                    metrics or Metrics(),
                    sleep=sleep,
                    uniform=lambda: 0.5,
                    monotonic=monotonic,
                )
            )

        yield make


@pytest.fixture
async def client(connect: Connect) -> UpstreamClient:
    return await connect()


@pytest.fixture
def ref() -> MediaRef:
    return REF
