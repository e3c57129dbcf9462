"""The invalidations of a folder, for all of its workers: rows of its index, told by the mapped epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from proxy.cache.disk.index import Index
from proxy.cache.disk.invalidations_table import Epoch
from proxy.cache.disk.threads import on
from proxy.cache.invalidation.policy import CEILING, Block, Blocks, Invalidation


class FolderInvalidations:
    """The invalidations of a folder: they hold for each of its workers from the moment that the call returns."""

    def __init__(self, index: Index, epoch: Epoch, thread: ThreadPoolExecutor, revocations: int) -> None:
        self._index = index
        self._epoch = epoch
        self._thread = thread
        self._revocations = revocations

    @property
    def epoch(self) -> int:
        return self._epoch.current

    @property
    def losses(self) -> int:
        return self._index.losses

    async def apply(self, invalidation: Invalidation, now: float) -> None:
        await on(self._thread, self._apply, invalidation, now, self._revocations)

    async def adopt(self, invalidation: Invalidation, now: float) -> None:
        await on(self._thread, self._apply, invalidation, now, CEILING)

    def _apply(self, invalidation: Invalidation, now: float, most: int) -> None:
        # Written first, then published: a worker that sees the number finds the invalidation.
        self._epoch.publish(self._index.apply(invalidation, now, self._epoch.current, most=most))

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        await on(self._thread, self._index.require_room, blocks, now, self._revocations)

    async def erased(self, key: str, since: int) -> bool:
        return await on(self._thread, self._index.erased, key, since)

    async def erased_since(self, number: int) -> Mapping[str, int]:
        return await on(self._thread, self._index.erasures, number)

    async def blocks(self, since: int) -> Blocks:
        return await on(self._thread, self._index.blocks, since)
