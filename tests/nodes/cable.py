"""A line to Redis that can be cut: what a gateway takes for Redis is this, and Redis is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_BLOCK = 65_536


@dataclass
class Cable:
    """Passes octets on, both ways, while it is whole. `target` is the port of Redis, `port` its own."""

    target: int
    port: int = 0
    delay: float = 0.0
    """Seconds that octets take, each way; as many are under way as there are."""
    connections: int = 0
    """The number of connections that have been made through it."""
    _whole: bool = True
    _left: int | None = None
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        self._whole = False
        for writer in self._writers:
            writer.transport.abort()

    def cut_after(self, octets: int) -> None:
        """Do so when so many more octets have come from Redis."""
        self._left = octets

    def silence(self) -> None:
        """Keep the connections, also new ones, and pass nothing on, as a network does that loses every packet."""
        self._flowing.clear()

    def mend(self) -> None:
        """Make it whole again; what was held back goes on."""
        self._whole, self._left = True, None
        self._flowing.set()

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[Cable]:
        """Take connections meanwhile."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._flowing.set()
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self._whole:
                self.connections += 1
                await self._joined(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either side has gone, or the test has ended
        finally:
            await self._closed(writer)
            self._tasks.discard(task)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(redis_writer)
        ways = {
            asyncio.create_task(self._pass_on(reader, redis_writer, from_redis=False)),
            asyncio.create_task(self._pass_on(redis_reader, writer, from_redis=True)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Before anything is waited for: the end of the test may come between.
            redis_writer.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await self._closed(redis_writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_redis: bool) -> None:
        if self.delay:
            reader = self._delayed(reader)
        while block := await reader.read(_BLOCK):
            await self._flowing.wait()
            if from_redis and self._left is not None:
                block, self._left = block[: self._left], self._left - min(self._left, len(block))
            writer.write(block)
            await writer.drain()
            if self._left == 0:
                self.cut()

    def _delayed(self, reader: asyncio.StreamReader) -> asyncio.StreamReader:
        """Return what comes of a reader, later by the delay."""
        far, loop = asyncio.StreamReader(limit=1 << 26), asyncio.get_running_loop()

        async def carry() -> None:
            block = b"begun"
            while block:
                try:
                    block = await reader.read(_BLOCK)
                except OSError:
                    block = b""
                loop.call_later(self.delay, far.feed_data, block) if block else loop.call_later(
                    self.delay, far.feed_eof
                )

        task = asyncio.create_task(carry())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return far

    async def _closed(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()
