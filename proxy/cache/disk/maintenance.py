"""What the disk tier does about its folder every few minutes: it holds its bound, forgets, and reclaims."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from proxy.cache.disk.files import on
from proxy.cache.disk.folder import Folder
from proxy.cache.disk.index import Index
from proxy.cache.disk.orphans import old_bodies, reclaim_runs
from proxy.cache.disk.quota import Quota
from proxy.errors import StoreError
from proxy.model import Clock

_SECONDS: Final = 600.0
# Longer than any fill, and than an entry in RAM that is in use stays without being looked up.
_ERASURE_SECONDS: Final = 86_400.0
_LOOK_UPS: Final = 100


class Maintenance:
    """That of one worker's disk tier; `index_thread` is the index's, and `body_threads` are those of the bodies."""

    def __init__(
        self,
        folder: Folder,
        index: Index,
        index_thread: ThreadPoolExecutor,
        body_threads: ThreadPoolExecutor,
        quota: Quota,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._index = index
        self._index_thread = index_thread
        self._body_threads = body_threads
        self._quota = quota
        self._clock = clock

    async def keep(self) -> None:
        """Hold the bound, which may be lower than it was, and reclaim every few minutes, until cancelled."""
        while True:
            with contextlib.suppress(StoreError):
                await self._quota.evict(self._quota.max_bytes)
                await on(self._index_thread, self._index.forget_erasures, self._clock() - _ERASURE_SECONDS)
                await on(self._index_thread, self._index.forget_blocks, self._clock())
            await self.reclaim()
            await asyncio.sleep(_SECONDS)

    async def reclaim(self) -> None:
        """Remove what killed processes left: files of their fills, and bodies without a row."""
        now = self._clock()
        with contextlib.suppress(StoreError):
            await on(self._body_threads, reclaim_runs, self._folder, now)
            for shard in await on(self._body_threads, self._folder.listing, self._folder.path / "bodies"):
                bodies = await on(self._body_threads, old_bodies, self._folder, shard, now)
                for start in range(0, len(bodies), _LOOK_UPS):
                    await on(self._index_thread, self._remove_unknown, bodies[start : start + _LOOK_UPS])

    def _remove_unknown(self, bodies: list[Path]) -> None:
        for path in bodies:
            if not self._index.knows(path.name):
                with contextlib.suppress(OSError):
                    self._folder.unlink_quietly(path)
