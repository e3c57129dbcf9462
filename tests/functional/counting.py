"""An upstream, API and CDN, that counts the connections to it and holds answers back; a gateway over it."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import psutil
from yarl import URL

from proxy.links import LinkMinter
from proxy.model import MediaRef
from tests.functional.harness import KEY
from tests.functional.programs import Program, started
from tests.functional.scraping import Scrape, scrape

A: Final = "AC" + "a" * 32
B: Final = "AC" + "b" * 32
MISSING: Final = "missing"
BODY: Final = bytes(range(256)) * 40

_GONE: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def media(account: str, number: int, message: int = 0) -> MediaRef:
    """Return one of an account's media, by number."""
    return MediaRef.parse(account, f"MM{message:032x}", f"ME{number:032x}")


def _is_closed(writer: asyncio.StreamWriter) -> bool:
    """Return whether the other side has closed a connection, though this side may not have met its end yet."""
    try:
        with writer.get_extra_info("socket").dup() as copy:
            return not copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


@dataclass
class CountingUpstream:
    """An API that sends each media on to the CDN, which has all but the `missing` ones.

    `holds` are accounts whose answers wait at the CDN until `let_go`, with `after_head` once their heads have gone out;
    `MISSING` among them are the answers for what is missing.
    `most` is the most connections that were open at a time, `held` how many answers of each account wait now.
    """

    missing: Callable[[str], bool] = lambda _target: False
    holds: set[str] = field(default_factory=set)
    after_head: bool = False
    most: int = 0
    held: Counter[str] = field(default_factory=Counter)
    api: str = ""
    cdn: str = ""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[CountingUpstream]:
        servers = [await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1_000) for _ in range(2)]
        self.api, self.cdn = (f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers)
        try:
            yield self
        finally:
            for server in servers:
                server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, holds: Callable[[CountingUpstream], bool]) -> None:
        """Wait until that is so."""
        async with self._changed:
            await self._changed.wait_for(lambda: holds(self))

    async def let_go(self, account: str) -> None:
        """Answer what was held of an account, and hold nothing of it any more."""
        async with self._changed:
            self.holds.discard(account)
            self._changed.notify_all()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self.most = max(self.most, sum(not _is_closed(other) for other in self._open))
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                await self._answer(request.split(b" ", 2)[1].decode(), writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        if "/Accounts/" in target:
            _, _, _, account, _, message, _, medium = target.split("/")
            location = f"http://{self.cdn}/{account}/{message}/{medium}"
            gone = self.missing(target)
            if gone:
                await self._hold(MISSING)
            redirect = f"HTTP/1.1 307 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
            writer.write(_GONE if gone else redirect)
        else:
            account = target.split("/")[1]
            if self.after_head:
                writer.write(_HEAD)
            await self._hold(account)
            writer.write(BODY if self.after_head else _HEAD + BODY)
        await writer.drain()

    async def _hold(self, account: str) -> None:
        async with self._changed:
            self.held[account] += 1
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: account not in self.holds)
            finally:
                self.held[account] -= 1


@dataclass
class Node:
    """`media-gateway serve` with workers, and a client for it that opens as many connections as it needs."""

    program: Program
    origin: str
    session: aiohttp.ClientSession
    metrics: Path

    def link(self, ref: MediaRef) -> str:
        return LinkMinter(self.origin, KEY).url(ref, ttl=3_600)

    def link_of_message(self, ref: MediaRef) -> Callable[[MediaRef], str]:
        """Return one link with `scope=message`, and what it is for another media of the message."""
        signed = LinkMinter(self.origin, KEY).url(ref, ttl=3_600, scope="message")
        return lambda other: signed.replace(f"/{ref.media}?", f"/{other.media}?")

    async def get(self, url: str) -> tuple[int, bytes]:
        """Return a new connection for each, so that they come to all workers."""
        async with self.session.get(URL(url, encoded=True), headers={"Connection": "close"}) as response:
            return response.status, await response.read()

    @asynccontextmanager
    async def connection(self, asleep: psutil.Process) -> AsyncIterator[Callable[[str], Awaitable[tuple[int, bytes]]]]:
        """Yield a connection to a worker that is not the one `asleep` meanwhile, and a function that asks over it."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:

            async def ask(url: str) -> tuple[int, bytes]:
                async with session.get(URL(url, encoded=True)) as response:
                    return response.status, await response.read()

            asleep.suspend()
            try:
                assert (await ask(f"{self.origin}/healthz"))[0] == 200
            finally:
                asleep.resume()
            yield ask

    async def head(self, url: str) -> int:
        async with self.session.head(URL(url, encoded=True), headers={"Connection": "close"}) as response:
            return response.status

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.program.inner.pid).children()

    async def scraped(self, holds: Callable[[Scrape], bool]) -> Scrape:
        """Return the first scrape of which that holds."""
        while True:
            # A worker that is killed breaks off its own.
            with suppress(aiohttp.ClientError):
                if holds(found := await scrape(self.metrics)):
                    return found


@asynccontextmanager
async def node(upstream: CountingUpstream, folder: Path, workers: int, **overrides: str) -> AsyncIterator[Node]:
    """Yield a gateway with the accounts A and B; killed at the end if it still runs."""
    metrics, config = folder / "metrics.sock", folder / "gateway.toml"
    accounts = "".join(
        f"""
        [[accounts]]
        provider = "twilio"
        account_sid = "{account}"
        username = "{account}"
        password = "{"t" * 32}"
        origin = "http://{upstream.api}"
        redirect_hosts = ["{upstream.cdn}"]
        """
        for account in (A, B)
    )

    def prepare() -> None:
        config.write_text(accounts)
        config.chmod(0o600)

    await asyncio.to_thread(prepare)
    environ = {
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_METRICS_LISTEN": f"unix:{metrics}",
        "GATEWAY_SIGNING_KEYS": KEY,
        "GATEWAY_CLIENTS": f"backend:{'c' * 40}",
        "GATEWAY_CACHE_DIR": str(folder / "cache"),
        # Long enough for a machine that stands still now and then.
        "GATEWAY_LIMIT_HEADERS_SECONDS": "120",
        **overrides,
    }
    arguments = ("serve", "--workers", str(workers), "--config", str(config))
    async with (
        started(arguments, environ, with_output=False) as program,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        ) as session,
    ):
        line = await program.line("listening at ")
        yield Node(program, line.partition("listening at ")[2].partition(",")[0], session, metrics)
