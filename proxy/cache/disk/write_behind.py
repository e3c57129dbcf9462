"""Batches of what a worker writes to its folder's index a little later: uses of stored responses, and its figures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from proxy.cache.counters import Counters, RamUsage
from proxy.cache.disk.index import Index
from proxy.cache.disk.threads import on
from proxy.errors import StoreError
from proxy.model import Clock

_USES: Final = 1_000
"""Responses whose use is noted between two batches."""
_SECONDS: Final = 5.0


class WriteBehind:
    """The notes of the worker of that name; `thread` is the index's."""

    def __init__(self, index: Index, thread: ThreadPoolExecutor, worker: str, clock: Clock) -> None:
        self._index = index
        self._thread = thread
        self._worker = worker
        self._clock = clock
        self._used: dict[str, float] = {}
        self._counters: Counters | None = None
        self._ram_usage: Callable[[], Awaitable[RamUsage]] | None = None

    def note_use(self, key: str) -> None:
        """Note that a response was used now."""
        if len(self._used) < _USES or key in self._used:
            self._used[key] = self._clock()

    def forget_use(self, key: str) -> None:
        """Drop the noted use of a key whose row is new: the row itself says when it was written."""
        self._used.pop(key, None)

    def report_from(self, counters: Counters, ram_usage: Callable[[], Awaitable[RamUsage]]) -> None:
        """Write the counters and the usage of RAM down too, the latter without what is erased by then."""
        self._counters, self._ram_usage = counters, ram_usage

    async def keep(self) -> None:
        """Write the notes down every few seconds, until cancelled."""
        while True:
            await self.write()
            await asyncio.sleep(_SECONDS)

    async def write_uses(self) -> None:
        """Write the noted uses down now. Raises `StoreError`."""
        used, self._used = self._used, {}
        if used:
            await on(self._thread, self._index.touch, list(used.items()))

    async def close(self) -> None:
        """Write the notes down for the last time, and forget the worker."""
        await self.write()
        with contextlib.suppress(StoreError):
            await on(self._thread, self._index.leave, self._worker)

    async def write(self) -> None:
        """Write all notes down now, as far as that can be done."""
        with contextlib.suppress(StoreError):
            await self.write_uses()
        with contextlib.suppress(StoreError):
            await self._report()

    async def _report(self) -> None:
        if self._counters is None or self._ram_usage is None:
            return
        # The time is taken first: what was erased by then is not in the figures.
        counters, now = self._counters, self._clock()
        ram = await self._ram_usage()

        def report() -> None:
            # In one go on the thread: a caller that is cancelled meanwhile neither loses a count nor doubles it.
            counts = counters.unwritten()
            self._index.report(self._worker, ram, counts, now)
            counters.note_written(counts)

        await on(self._thread, report)
