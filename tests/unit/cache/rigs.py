"""An engine over a scripted origin and a real disk tier, and the ways in which a test reads from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from proxy.cache.checksum import Checksum
from proxy.cache.disk.files import BodyFile
from proxy.cache.disk.store import open_disk
from proxy.cache.engine import Engine
from proxy.cache.fills.registry import FillBounds
from proxy.cache.ram.store import RamStore
from proxy.cache.result import CacheResult
from proxy.cache.tiers import Tiers
from proxy.errors import StoreError, UpstreamError
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy
from proxy.telemetry.metrics import Metrics
from tests.unit.cache.scripted import NOTHING, REF, HeldClock, Script, ScriptedOrigin

KEEP = 1_000
BIG = bytes(range(256)) * 4_000  # more than RAM keeps, and more than one block
PLAIN = (("Content-Type", "video/mp4"), ("ETag", '"one"'))


def big(fields: tuple[tuple[str, str], ...] = PLAIN, chunk_gate: asyncio.Semaphore | None = None) -> Script:
    chunks = tuple(BIG[at : at + 100_000] for at in range(0, len(BIG), 100_000))
    return Script(chunks=chunks, length=len(BIG), fields=fields, chunk_gate=chunk_gate)


class Rig:
    """An engine, its origin, its clock, and the folder its disk tier is in."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self.folder = folder
        self.clock = HeldClock()
        self.origin = ScriptedOrigin(self.clock, Script())

    async def engine(
        self, policy: FreshnessPolicy | None = None, *, disk: bool = True, bounds: FillBounds | None = None
    ) -> Engine:
        opening = open_disk(self.folder, 100_000_000, self.clock)
        store = await self._stack.enter_async_context(opening) if disk else None
        metrics = Metrics()
        memory = RamStore(50_000_000, metrics)
        tiers = Tiers(memory, store, ram_object_bytes=KEEP, clock=self.clock, metrics=metrics)
        policy = policy or FreshnessPolicy(default_lifetime=100)
        return await self._stack.enter_async_context(
            Engine(
                self.origin,
                tiers,
                policy,
                self.clock,
                bounds or FillBounds(most=10, spool_bytes=10_000_000),
                monotonic=self.clock,
            )
        )


async def read(opened: CacheResult) -> bytes:
    got = bytearray()
    while block := await opened.body.read(len(got), 1 << 20):
        got += block
    return bytes(got)


async def fetch(engine: Engine, request: Fields = NOTHING, *, young: bool = False) -> tuple[bytes, str]:
    """Return a whole body and its `Cache-Status`."""
    async with engine.open(REF, request, young=young) as opened:
        return await read(opened), str(opened.status)


async def settled(engine: Engine) -> None:
    """Wait until no fill is under way."""
    while engine.fills:
        await asyncio.wait([fill.task for fill in engine.fills])
        await asyncio.sleep(0)


async def joined(engine: Engine, readers: int) -> None:
    """Wait until one fill has that many readers."""
    while [fill.readers for fill in engine.fills] != [readers]:  # noqa: ASYNC110 - a count has no event
        await asyncio.sleep(0)


async def persist(engine: Engine) -> bytes:
    """Read as the delivery of a link does: again, if nothing has been read and the budget is not used up."""
    attempt = 1
    while True:
        async with engine.open(REF, NOTHING, attempt=attempt) as opened:
            try:
                return await read(opened)
            except (UpstreamError, StoreError) as error:
                following = engine.next_attempt(opened, error)
                if following is None:
                    raise
                attempt = following


def failing_after(writes: int) -> Callable[..., object]:
    """Return a `BodyFile.write` that fails after so many good writes."""
    left = writes
    write = BodyFile.write

    async def failing(file: BodyFile, blocks: Sequence[bytes], offset: int, checksum: Checksum) -> None:
        nonlocal left
        if not left:
            raise StoreError(note="full")
        left -= 1
        await write(file, blocks, offset, checksum)

    return failing
