"""Erasures under load, whatever happens to Redis: no reader is given what a returned erasure has erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from proxy.sandbox import Headers, Media, Sandbox
from tests.nodes.cluster import Cluster, Line, Node, eventually, reach_of

PURGES = 30

pytestmark = pytest.mark.system("redis-server")


@dataclass
class Watch:
    """The answers of readers, and those that they may not be given any more."""

    seen: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    answers: int = 0
    faults: list[str] = field(default_factory=list)
    cut_off: list[str] = field(default_factory=list)

    async def read_on(self, line: Line, url: str, body: bytes) -> None:
        """Ask without a pause, each time judged by what was erased before the asking."""
        while True:
            erased = frozenset(self.erased)
            try:
                reply = await line.ask(url)
            except aiohttp.ClientPayloadError as error:
                self.cut_off.append(str(error))
                return
            if (reply.status, reply.body == body) != (200, True):
                self.faults.append(f"{reply.status}, {len(reply.body)} bytes")
                continue
            tag = reply.headers["ETag"]
            if tag in erased:
                self.faults.append(f"{tag}: {reply.headers['Cache-Status']}")
            self.seen.add(tag)
            self.answers += 1

    async def purge(self, node: Node, media: Media) -> int:
        """Purge; what was seen before a purge that is done may not be seen after it."""
        old = frozenset(self.seen)
        status = await node.purge(reach_of("media", media))
        if status == 204:
            self.erased |= old
        return status


@asynccontextmanager
async def watched(cluster: Cluster, media: Media) -> AsyncIterator[Watch]:
    """Yield a reader at each worker of each node."""
    await cluster.each_worker(media)
    watch = Watch()
    tasks = [
        asyncio.create_task(watch.read_on(line, node.link(media), media.read()))
        for node in cluster.nodes
        for line in node.lines
    ]
    try:
        yield watch
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    # A reader that was cut off has ended by itself.
    assert [error for error in ended if error and not isinstance(error, asyncio.CancelledError)] == []


@pytest.mark.parametrize(
    ("media", "redis"),
    [("small", "stays"), ("large", "stays"), ("small", "is-restarted"), ("large", "is-flushed"), ("large", "hangs")],
    indirect=["media"],
)
async def test_no_reader_gets_what_a_returned_purge_erased(
    cluster: Cluster, sandbox: Sandbox, media: Media, redis: str
) -> None:
    sandbox.fault(Headers(drop=("ETag",)))
    nodes = await cluster.start_three()
    async with watched(cluster, media) as watch:
        for number in range(PURGES):
            before = watch.answers
            if number % 10 == 5:
                await disturb(cluster, redis)

            async def purged(node: Node = nodes[number % 3]) -> bool:
                return await watch.purge(node, media) == 204

            await eventually(purged)

            async def is_read(before: int = before) -> bool:
                return watch.answers >= before + 8

            await eventually(is_read)
            assert watch.faults[:3] == []
    assert len(watch.erased) >= PURGES - 1
    # A Redis that hangs or has lost the body leaves a reader in mid-body. One that then finds it purged is told.
    assert watch.cut_off == [] or redis in {"hangs", "is-flushed"}


async def disturb(cluster: Cluster, redis: str) -> None:
    """Do what happens to Redis."""
    match redis:
        case "is-restarted":
            await cluster.redis.restart()
        case "is-flushed":
            await cluster.redis.command("FLUSHALL")
        case "hangs":
            cluster.redis.pause()
            assert await cluster.nodes[0].purge({"all": True}) == 503
            cluster.redis.resume()
        case _:
            pass
