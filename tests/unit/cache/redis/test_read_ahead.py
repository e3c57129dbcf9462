"""Parts of a body are asked for ahead of their reader, in order and within bounds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.body import BLOCK, RamBody
from proxy.cache.entry import Entry
from proxy.cache.redis.chunks import CHUNK, ChunkBody, Chunks
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.read_ahead import AHEAD, ALL_AHEAD, PartsAhead, ReadAhead
from proxy.errors import StoreError
from proxy.telemetry.metrics import Metrics
from tests.nodes.cable import Cable
from tests.redis_server import RedisServer
from tests.unit.cache.redis.nodes import until


@dataclass
class Far:
    """A store whose answers come when the test lets them."""

    under_way: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    most: int = 0

    async def read(self, number: int) -> bytes:
        self.asked.append(number)
        answer = self.under_way[number] = asyncio.get_running_loop().create_future()
        self.most = max(self.most, len(self.under_way))
        try:
            await answer
        finally:
            del self.under_way[number]
        return b"%d" % number

    def answer(self, number: int) -> None:
        self.under_way[number].set_result(None)


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def far() -> Far:
    return Far()


async def test_a_few_parts_are_asked_for_ahead(far: Far) -> None:
    parts_ahead = PartsAhead()
    ahead = ReadAhead(far.read, parts_ahead)
    taking = asyncio.create_task(ahead.take(0, 100))
    await turns()
    assert far.asked == list(range(AHEAD))
    far.answer(0)
    assert await taking == b"0"
    await turns()
    assert far.asked == list(range(AHEAD))
    taking = asyncio.create_task(ahead.take(1, 100))
    await turns()
    assert far.asked == list(range(AHEAD + 1))
    await ahead.let_go()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert (far.under_way, parts_ahead.free, far.most) == ({}, ALL_AHEAD, AHEAD)


async def test_parts_come_in_order_whatever_order_they_arrive_in(far: Far) -> None:
    ahead = ReadAhead(far.read, PartsAhead())
    taken: list[bytes] = []

    async def read_all() -> None:
        taken.extend([await ahead.take(number, 9) for number in range(9)])

    reading = asyncio.create_task(read_all())
    chance = random.Random(7)
    while not reading.done():
        await turns()
        if far.under_way:
            far.answer(chance.choice(list(far.under_way)))
    assert taken == [b"%d" % number for number in range(9)]
    assert sorted(far.asked) == list(range(9))
    await ahead.let_go()


async def test_nothing_behind_the_end_is_asked_for(far: Far) -> None:
    ahead = ReadAhead(far.read, PartsAhead())
    taking = asyncio.create_task(ahead.take(0, 2))
    await turns()
    assert far.asked == [0, 1]
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await ahead.let_go()
    assert far.under_way == {}


async def test_the_bodies_of_a_worker_share_their_places(far: Far) -> None:
    parts_ahead, others = PartsAhead(), [Far() for _ in range(ALL_AHEAD)]
    bodies = [ReadAhead(other.read, parts_ahead) for other in others]
    readers = [asyncio.create_task(body.take(0, 100)) for body in bodies]
    await turns()
    # A body without a place still has its own part asked for.
    assert all(other.asked[0] == 0 for other in others)
    assert sum(len(other.under_way) for other in others) == ALL_AHEAD + (len(others) - ALL_AHEAD // AHEAD)
    assert parts_ahead.free == 0
    for body in bodies:
        await body.let_go()
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert parts_ahead.free == ALL_AHEAD
    assert all(not other.under_way for other in others)


async def test_a_part_that_failed_ahead_fails_when_it_is_taken(far: Far) -> None:
    async def read(number: int) -> bytes:
        if number:
            raise StoreError(note="gone")
        return b"0"

    ahead = ReadAhead(read, PartsAhead())
    assert await ahead.take(0, 3) == b"0"
    await turns()
    with pytest.raises(StoreError):
        await ahead.take(1, 3)
    await ahead.let_go()


def entry(length: int) -> Entry:
    return Entry(
        version=2, generation="g" * 32, etag="one", length=length, checksum="", epoch=0, fields=(), presented=(),
        requested_at=0.0, answered_at=0.0,
    )  # fmt: skip


class Local(Chunks):
    """Chunks without a Redis, which note what is read of them."""

    def __init__(self, content: bytes) -> None:
        self.parts_ahead = PartsAhead()
        self.content = content
        self.read_bytes = 0

    async def read(self, run: str, entry: Entry, offset: int, size: int) -> bytes:
        end = min(offset + size, (offset // CHUNK + 1) * CHUNK, len(self.content))
        self.read_bytes += end - offset
        return self.content[offset:end]


CONTENT = random.Random(3).randbytes(5 * CHUNK + 1_000)


async def no_rescue() -> RamBody:
    raise AssertionError


@given(
    st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(1, len(CONTENT))), min_size=1, max_size=3),
    st.lists(st.sampled_from([1_000, 16_384, BLOCK - 1, BLOCK]), min_size=1, max_size=5),
)
def test_whatever_is_expected_the_bytes_are_those_of_the_body(spans: list[tuple[int, int]], sizes: list[int]) -> None:
    async def check() -> None:
        chunks = Local(CONTENT)
        body = ChunkBody(chunks, "run", entry(len(CONTENT)), no_rescue)
        for first, size in spans:
            end = min(first + size, len(CONTENT))
            body.expect(first, end)
            offset, number = first, 0
            while offset < end:
                block = await body.read(offset, min(end - offset, sizes[number % len(sizes)]))
                assert block == CONTENT[offset : offset + len(block)]
                assert block
                offset, number = offset + len(block), number + 1
        await body.close()
        assert chunks.parts_ahead.free == ALL_AHEAD

    asyncio.run(check())


async def test_a_range_reads_no_byte_that_it_does_not_send() -> None:
    chunks = Local(CONTENT)
    body = ChunkBody(chunks, "run", entry(len(CONTENT)), no_rescue)
    first, end = CHUNK - 10, 3 * CHUNK + 20
    body.expect(first, end)
    offset = first
    while offset < end:
        offset += len(await body.read(offset, min(BLOCK, end - offset)))
    assert chunks.read_bytes == end - first
    await body.close()


async def test_a_slow_reader_keeps_nothing_waiting_in_ram() -> None:
    chunks = Local(CONTENT)
    body = ChunkBody(chunks, "run", entry(len(CONTENT)), no_rescue)
    body.expect(0, len(CONTENT))
    await body.read(0, BLOCK)
    assert chunks.parts_ahead.free == ALL_AHEAD - AHEAD
    assert bytes(await body.read(CHUNK, 1_000)) == CONTENT[CHUNK : CHUNK + 1_000]
    assert chunks.parts_ahead.free == ALL_AHEAD
    await body.close()


class Counted(Chunks):
    """Chunks of a real Redis, with a count of those that are being read."""

    def __init__(self, redis: RedisClient) -> None:
        super().__init__(redis)
        self.under_way = self.most = self.calls = 0
        self.reached = asyncio.Event()

    async def read(self, run: str, entry: Entry, offset: int, size: int) -> bytes:
        self.under_way += 1
        self.calls += 1
        self.most = max(self.most, self.under_way)
        if self.under_way == AHEAD:
            self.reached.set()
        try:
            return await super().read(run, entry, offset, size)
        finally:
            self.under_way -= 1


@asynccontextmanager
async def over_a_far_redis(redis: RedisServer) -> AsyncIterator[tuple[Counted, Entry]]:
    """Yield a body in a Redis that is 80 ms away."""
    async with Cable(redis.port, delay=0.08).laid() as cable:
        client = RedisClient(f"redis://127.0.0.1:{cable.port}", Metrics(), seconds=30.0)
        try:
            chunks, stored = Counted(client), entry(len(CONTENT))

            async def content() -> AsyncIterator[bytes]:
                for start in range(0, len(CONTENT), CHUNK):
                    yield CONTENT[start : start + CHUNK]

            await chunks.write("run", stored.generation, content(), 60)
            yield chunks, stored
        finally:
            await client.close()


@pytest.mark.system("redis-server")
async def test_a_far_redis_is_asked_for_several_chunks_together(redis_server: RedisServer) -> None:
    async with over_a_far_redis(redis_server) as (chunks, stored):
        body = ChunkBody(chunks, "run", stored, no_rescue)
        body.expect(0, len(CONTENT))
        got = bytearray()
        while block := await body.read(len(got), BLOCK):
            got += block
        await body.close()
        assert bytes(got) == CONTENT
        assert (chunks.most, chunks.calls, chunks.under_way) == (AHEAD, 6, 0)


@pytest.mark.system("redis-server")
async def test_what_is_read_ahead_ends_with_its_reader(redis_server: RedisServer) -> None:
    async with over_a_far_redis(redis_server) as (chunks, stored):
        body = ChunkBody(chunks, "run", stored, no_rescue)
        body.expect(0, len(CONTENT))
        reading = asyncio.create_task(body.read(0, BLOCK))
        await chunks.reached.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await body.close()
        await until(lambda: chunks.under_way == 0)
        assert (chunks.parts_ahead.free, chunks.calls) == (ALL_AHEAD, AHEAD)


@pytest.mark.system("redis-server")
async def test_a_chunk_lost_while_it_is_read_ahead_is_rescued(redis_server: RedisServer) -> None:
    async with over_a_far_redis(redis_server) as (chunks, stored):

        async def rescue() -> RamBody:
            return RamBody(CONTENT)

        body = ChunkBody(chunks, "run", stored, rescue)
        body.expect(0, len(CONTENT))
        await redis_server.command("DEL", f"media-gateway:run:chunk:{stored.generation}:2")
        got = bytearray()
        while block := await body.read(len(got), BLOCK):
            got += block
        await body.close()
        assert bytes(got) == CONTENT
        assert (chunks.under_way, chunks.parts_ahead.free) == (0, ALL_AHEAD)
