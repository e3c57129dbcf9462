"""Bodies in Redis: chunks under a generation's name, each a value of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from proxy.cache.body import BLOCK, Body, StoredBody
from proxy.cache.checksum import checksum
from proxy.cache.entry import Entry
from proxy.cache.redis import scripts
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.keys import chunk_name
from proxy.cache.redis.read_ahead import AHEAD, PartsAhead, ReadAhead
from proxy.errors import StoreError

CHUNK: Final = 262_080
"""The bytes of a chunk: with its header it fills a size class of Redis's allocator; 262,144 would take 25% more."""
_READING_SECONDS: Final = 30.0
_BATCH: Final = 256
"""The chunks that one call names: 67 MB of a body."""


def chunk_count(length: int) -> int:
    """Return how many chunks a body of that length has."""
    return -(-length // CHUNK)


class Chunks:
    """The bodies of one Redis. Calls raise `StoreError`."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.parts_ahead = PartsAhead()

    async def write(self, run: str, generation: str, content: AsyncIterator[bytes], seconds: float) -> None:
        """Write a body, which comes in chunks, for so many seconds. At most `AHEAD` chunks are under way at a time."""
        number, room = 0, asyncio.Semaphore(AHEAD)
        try:
            async with asyncio.TaskGroup() as group:
                async for chunk in content:
                    await room.acquire()
                    name = chunk_name(run, generation, number)
                    writing = group.create_task(self._set(name, chunk, round(seconds * 1000)))
                    writing.add_done_callback(lambda _: room.release())
                    number += 1
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _set(self, name: str, chunk: bytes, milliseconds: int) -> None:
        await self._redis.call(lambda client: client.set(name, chunk, px=milliseconds))

    async def read(self, run: str, entry: Entry, offset: int, size: int) -> bytes:
        """Return from 1 to `size` bytes of one chunk from `offset`, which is before the body's end.

        No others are read. Raises `StoreError`, also if the chunk is missing or of another length.
        """
        number, start = divmod(offset, CHUNK)
        whole = min(CHUNK, entry.length - number * CHUNK)
        end = min(start + size, whole)
        name = chunk_name(run, entry.generation, number)
        # A range even for a whole chunk: whatever lies there, no more than that comes.
        match await self._redis.call(lambda client: client.getrange(name, start, end - 1)):
            case bytes(part) if len(part) == end - start:
                return part
            case _:
                raise StoreError(note="a chunk of a shared body is missing or short")

    async def read_whole(self, run: str, entry: Entry) -> bytes:
        """Return all bytes of a small body. Raises `StoreError`, also if they are not what was stored."""
        count = chunk_count(entry.length)
        ahead = ReadAhead(lambda number: self.read(run, entry, number * CHUNK, CHUNK), self.parts_ahead)
        try:
            parts = [await ahead.take(number, count) for number in range(count)]
        finally:
            await ahead.let_go()
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        if checksum(content) != entry.checksum:
            raise StoreError(note="a shared body is not what was stored")
        return content

    async def prolong(self, run: str, entry: Entry, seconds: float) -> None:
        """Let the bytes of a body live for so many seconds from now."""
        await self._let_live(run, entry, seconds)

    async def remove(self, run: str, entry: Entry) -> None:
        """Free the bytes of a body that is not found any more, once its readers have had time to end."""
        await self._let_live(run, entry, _READING_SECONDS)

    async def _let_live(self, run: str, entry: Entry, seconds: float) -> None:
        """Give each chunk so many seconds from now, a batch at a time.

        The first batch of which no chunk is there is the last, however long the entry says that the body is.
        """
        count = chunk_count(entry.length)
        for first in range(0, count, _BATCH):
            numbers = range(first, min(first + _BATCH, count))
            names = [chunk_name(run, entry.generation, number) for number in numbers]
            if await self._redis.run(scripts.LET_LIVE, names, (round(seconds * 1000),)) == 0:
                return


class ChunkBody(StoredBody):
    """A large body that stays in Redis, read chunk by chunk and ahead; if that fails, from what `rescue` gives.

    `rescue` gives the same bytes from elsewhere. Raises what it raises.
    """

    def __init__(self, chunks: Chunks, run: str, entry: Entry, rescue: Callable[[], Awaitable[Body]]) -> None:
        super().__init__(utf8=entry.utf8)
        self._chunks = chunks
        self._run = run
        self._entry = entry
        self._rescue = rescue
        self._rescued: Body | None = None
        self._ahead = ReadAhead(self._read_part, chunks.parts_ahead)
        self._first = self._end = 0
        self._turned = False

    def expect(self, first: int, end: int) -> None:
        """Do as `Body.expect`."""
        expected = first, min(end, self._entry.length)
        if expected != (self._first, self._end):
            self._first, self._end = expected
            # What was read ahead is cut at other offsets.
            self._turned = True

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return as `Body.read`."""
        if offset >= self._entry.length or size <= 0:
            return b""
        if self._rescued is None:
            try:
                return await self._read(offset, min(size, BLOCK))
            except StoreError:
                await self._ahead.let_go()
                self._rescued = await self._rescue()
        return await self._rescued.read(offset, size)

    async def _read(self, offset: int, size: int) -> bytes | memoryview:
        number = offset // CHUNK
        if self._turned:
            self._turned = False
            await self._ahead.let_go()
        if not self._first <= offset < self._end or (size < BLOCK and offset + size < self._end):
            # What a slow reader takes in small blocks does not wait in RAM before it.
            await self._ahead.let_go()
            return await self._chunks.read(self._run, self._entry, offset, size)
        part = await self._ahead.take(number, chunk_count(self._end))
        start = offset - max(number * CHUNK, self._first)
        return part if start == 0 and size >= len(part) else memoryview(part)[start : start + size]

    async def _read_part(self, number: int) -> bytes:
        """Return the bytes of a chunk that are expected to be read."""
        first, end = max(number * CHUNK, self._first), min((number + 1) * CHUNK, self._end)
        return await self._chunks.read(self._run, self._entry, first, end - first)

    async def measure(self) -> int:
        """Return as `Body.measure`."""
        return self._entry.length

    async def close(self) -> None:
        """Do as `Body.close`."""
        await self._ahead.let_go()
        rescued, self._rescued = self._rescued, None
        if rescued is not None:
            await rescued.close()
