"""Gateways without their servers, each over a cache folder of its own, on one Redis and one scripted origin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from proxy.cache.disk.store import DiskStore, open_disk
from proxy.cache.engine import Engine
from proxy.cache.fills.registry import FillBounds
from proxy.cache.invalidation.invalidators import Invalidations, LoneInvalidations
from proxy.cache.invalidation.policy import DEFAULT
from proxy.cache.ram.store import RamStore
from proxy.cache.redis.store import SharedTier, open_shared
from proxy.cache.tiers import Tiers
from proxy.semantics.freshness import FreshnessPolicy
from proxy.settings import SharedAway
from proxy.telemetry.metrics import Metrics
from tests.unit.cache.scripted import HeldClock, Script, ScriptedOrigin

KEEP = 300_000
"""Bytes that RAM holds of a body: more than a chunk."""


class Monotonic:
    """Time that a test can make jump, as it does for a process that stood still."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@dataclass
class Node:
    """One gateway's cache; its end is that of its `stack`."""

    engine: Engine
    shared: SharedTier
    metrics: Metrics
    stack: AsyncExitStack

    @property
    def tiers(self) -> Tiers:
        return self.engine.tiers

    async def stop(self) -> None:
        await self.stack.aclose()


class Nodes:
    """The starter of nodes; all of them end with the test."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._started = 0
        self.clock = HeldClock()
        self.origin = ScriptedOrigin(self.clock, Script())

    async def start(
        self,
        url: str,
        *,
        name: str | None = None,
        disk: bool = True,
        max_bytes: int = 16_000_000,
        revocations: int = DEFAULT,
        policy: FreshnessPolicy | None = None,
        away: SharedAway = SharedAway.BOUNDED,
        fills: int = 10,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Node:
        """Start one more node; one of an earlier `name` has that one's folder."""
        self._started += 1
        folder = self._folder / (name or f"node-{self._started}")
        own = await self._stack.enter_async_context(AsyncExitStack())
        metrics = Metrics()
        store = await own.enter_async_context(self._disk(folder, revocations)) if disk else None
        invalidations: Invalidations = store.invalidations if store is not None else LoneInvalidations(revocations)
        shared = await own.enter_async_context(
            open_shared(
                url, invalidations, folder if disk else None, self.clock, max_bytes=max_bytes, away=away,
                metrics=metrics, revocations=revocations, monotonic=monotonic,
            )
        )  # fmt: skip
        tiers = Tiers(
            RamStore(50_000_000, metrics), store, ram_object_bytes=KEEP, clock=self.clock, metrics=metrics,
            invalidations=invalidations, shared=shared,
        )  # fmt: skip
        engine = await own.enter_async_context(
            Engine(
                self.origin, tiers, policy or FreshnessPolicy(default_lifetime=100), self.clock,
                FillBounds(most=fills, spool_bytes=50_000_000),
            )
        )  # fmt: skip
        return Node(engine, shared, metrics, own)

    def _disk(self, folder: Path, revocations: int) -> AbstractAsyncContextManager[DiskStore]:
        return open_disk(folder, 100_000_000, self.clock, revocations=revocations)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that has no event."""
    while not holds():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.01)
