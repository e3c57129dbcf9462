"""The stores under the one contract, each with values of its own kind and a clock that a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.cache.backend import Backend
from proxy.cache.disk.store import open_disk
from proxy.cache.entry import Entry
from proxy.cache.ram.store import RamStore
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.log import InvalidationLog
from proxy.cache.redis.metadata import SharedBackend, SharedEntry
from proxy.cache.stored import StoredResponse
from proxy.telemetry.metrics import Metrics
from tests.redis_server import RedisServer, redis_running


class Clock:
    """A clock that stands still until a test moves it, in Unix seconds."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Store:
    """One store under test: `value(n)` makes values that differ by `n`."""

    backend: Backend[Any]
    clock: Clock
    value: Callable[[int], object]


def _entry(number: int) -> Entry:
    return Entry(
        version=2,
        generation=f"{number:032x}",
        etag=f"tag-{number}",
        length=number,
        checksum="0" * 32,
        epoch=1 << 62,
        fields=(("Content-Type", "image/jpeg"),),
        presented=(("Accept-Encoding", "identity"),),
        requested_at=1.0,
        answered_at=2.0,
    )


@asynccontextmanager
async def _memory(folder: Path) -> AsyncIterator[Store]:
    clock = Clock()
    yield Store(RamStore(10_000_000, Metrics()), clock, lambda number: StoredResponse(_entry(number), bytes(number), 0))


@asynccontextmanager
async def _disk(folder: Path) -> AsyncIterator[Store]:
    clock = Clock()
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as disk:
        yield Store(disk.backend, clock, _entry)


@asynccontextmanager
async def _shared(server: RedisServer) -> AsyncIterator[Store]:
    clock = Clock()
    redis = RedisClient(server.url, Metrics())
    try:
        backend = SharedBackend(redis, clock)
        backend.enter_run((await InvalidationLog(redis, clock).exchange(None)).last.run)
        yield Store(backend, clock, lambda number: SharedEntry(0, _entry(number)))
    finally:
        await redis.close()


_STORES: dict[str, Callable[[Path], AbstractAsyncContextManager[Store]]] = {"memory": _memory, "disk": _disk}
_SHARED = pytest.param("shared", marks=pytest.mark.system("redis-server"))


@pytest.fixture(params=[*sorted(_STORES), _SHARED])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, program_path: Callable[[str], str]
) -> AsyncIterator[Store]:
    if request.param == "shared":
        async with redis_running(program_path("redis-server"), tmp_path / "redis") as server, _shared(server) as opened:
            yield opened
        return
    async with _STORES[request.param](tmp_path / "cache") as opened:
        yield opened
