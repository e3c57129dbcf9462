from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.keys import LOG
from proxy.cache.redis.log import InvalidationLog
from proxy.sandbox import Media, Sandbox, SandboxOptions
from proxy.telemetry.metrics import Metrics
from tests.nodes.cluster import Cluster
from tests.redis_server import RedisServer

SIZES = {"small": 60_000, "large": 3_000_000}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(seed=False)) as started:
        yield started


@pytest.fixture
async def cluster(sandbox: Sandbox, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Yield a cluster without nodes, whose Redis has been in service for a while: in a young run an erasure waits."""
    await _begin_long_ago(redis_server)
    async with AsyncExitStack() as stack:
        yield Cluster(stack, sandbox, redis_server, tmp_path / "nodes")


async def _begin_long_ago(redis: RedisServer) -> None:
    client = RedisClient(redis.url, Metrics())
    try:
        log = InvalidationLog(client, time.time)
        await log.exchange(None)
        await log.leave()
    finally:
        await client.close()
    await redis.command("HSET", LOG, "began", 0)


@pytest.fixture
async def small(sandbox: Sandbox) -> Media:
    """Return a media that RAM keeps."""
    return await _added(sandbox, "small")


@pytest.fixture
async def large(sandbox: Sandbox) -> Media:
    """Return a media of 3 MB, which lies on disk."""
    return await _added(sandbox, "large")


@pytest.fixture(params=SIZES)
async def media(request: pytest.FixtureRequest, sandbox: Sandbox) -> Media:
    """Return a media of each size."""
    return await _added(sandbox, str(request.param))


async def _added(sandbox: Sandbox, size: str) -> Media:
    octets = random.Random(size).randbytes(SIZES[size])
    return (await sandbox.add_message([("video/mp4", octets)])).media[0]
