"""The quota of the disk tier: its own bound, and what the file system keeps free. Eviction holds both."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import Final, TypeVar

from proxy.cache.disk.index import Index
from proxy.cache.disk.open_files import SWEEP_SECONDS
from proxy.cache.disk.responses_table import ROW_BYTES
from proxy.cache.disk.threads import on, on_or_undo
from proxy.errors import StoreError
from proxy.telemetry.metrics import Metrics, Tier

T = TypeVar("T")

_FREE_SHARE: Final = 0.05
_FREE_BYTES: Final = 500_000_000


def reserve_of(folder: Path) -> int:
    """Return how many bytes the file system of a folder keeps free by default. It blocks."""
    return min(int(shutil.disk_usage(folder).total * _FREE_SHARE), _FREE_BYTES)


class _Short(Exception):
    """An error for a file system that has less than its reserve."""


class Quota:
    """`max_bytes` as `Usage.footprint` counts them, `reserve` in bytes; `unlink` removes a body, on the index's thread.

    `index_thread` is the index's, and `body_threads` are those of the bodies. `evicted` is called after each removal.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        index_thread: ThreadPoolExecutor,
        body_threads: ThreadPoolExecutor,
        unlink: Callable[[str], None],
        *,
        max_bytes: int,
        reserve: int,
        evicted: Callable[[], None],
        metrics: Metrics | None,
    ) -> None:
        self.max_bytes = max_bytes
        self.reserve = reserve
        self._folder = folder
        self._index = index
        self._index_thread = index_thread
        self._body_threads = body_threads
        self._unlink = unlink
        self._evicted = evicted
        self._metrics = metrics
        self._in_vain_until = -inf

    @property
    def longest_body(self) -> int:
        """Return the bytes of the longest body that fits the bound."""
        return max(0, self.max_bytes - ROW_BYTES)

    def is_exceeded(self) -> bool:
        """Return whether more is stored than the bound allows. It blocks, on the index's thread."""
        return self._index.usage().footprint > self.max_bytes

    async def evict(self, max_bytes: int) -> None:
        """Remove the least recently used responses until their footprint is at most `max_bytes`."""

        def evict() -> int:
            gone = self._index.evict(max_bytes)
            for generation in gone:
                self._unlink(generation)
            return len(gone)

        # In steps, so that look-ups come in between.
        while gone := await on(self._index_thread, evict):
            self._evicted()
            if self._metrics is not None:
                self._metrics.evicted(Tier.DISK, gone)

    async def write(self, call: Callable[[], T], undo: Callable[[T], object]) -> T:
        """Run a blocking call that takes space on the bodies' threads; if the caller is cancelled, undo it there.

        Raises `StoreError`, also if the file system has less than its reserve even after an eviction.
        """

        def guarded() -> T:
            self._require_reserve()
            return call()

        try:
            # Mostly there is room, so that it is looked for on the thread of the call.
            return await on_or_undo(self._body_threads, guarded, undo)
        except _Short:
            tried = asyncio.get_running_loop().time() >= self._in_vain_until
            if tried:
                await self._make()
        try:
            return await on_or_undo(self._body_threads, guarded, undo)
        except _Short:
            if tried:
                # Another worker may still have the removed files open: to evict more now would be in vain.
                self._in_vain_until = asyncio.get_running_loop().time() + 2 * SWEEP_SECONDS
            raise StoreError(note=f"the file system of the disk tier has less than {self.reserve} B free") from None

    async def _make(self) -> None:
        short = self.reserve - await on(self._body_threads, self._free)
        usage = await on(self._index_thread, self._index.usage)
        await self.evict(max(0, usage.footprint - max(0, short)))

    def _require_reserve(self) -> None:
        if self._free() < self.reserve:
            raise _Short

    def _free(self) -> int:
        return shutil.disk_usage(self._folder).free
