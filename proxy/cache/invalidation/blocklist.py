"""The blocks on each media, as a worker knows them: a table in RAM, brought up to date at each new epoch."""

from __future__ import annotations

import asyncio

from proxy.cache.invalidation.block_table import BlockTable
from proxy.cache.invalidation.invalidators import Invalidations
from proxy.erasure import BlockKind
from proxy.model import Clock


class Blocklist:
    """The answer from RAM while the epoch stays; after an invalidation by any worker, what is new is read once.

    Every worker sees the epoch in memory that all of them share. While it is the one of the last reading, no block can
    have been added since, so that a folder that is full or gone makes no doubt. If it is another one and what is new
    cannot be read, there is doubt, and `of` raises. `unwritten` holds the blocks that the folder could not take.
    """

    def __init__(self, invalidations: Invalidations, clock: Clock, unwritten: BlockTable | None = None) -> None:
        self._invalidations = invalidations
        self._clock = clock
        self._table = BlockTable()
        self._unwritten = BlockTable() if unwritten is None else unwritten
        self._epoch: int | None = None
        self._reading = asyncio.Lock()

    def now(self, key: str) -> BlockKind | None:
        """Return the kinds of the blocks on a key; None if something may have changed, and has to be read first."""
        if self._epoch != self._invalidations.epoch:
            return None
        return self._known(key)

    async def of(self, key: str) -> BlockKind:
        """Return the kinds of the blocks on a key, or on all keys that begin with it.

        Raises `StoreError` if that cannot be told.
        """
        kinds = self.now(key)
        if kinds is None:
            await self.catch_up()
            kinds = self._known(key)
        return kinds

    def _known(self, key: str) -> BlockKind:
        now = self._clock()
        kinds = self._table.kinds(key, now)
        return kinds if self._unwritten.is_empty else kinds | self._unwritten.kinds(key, now)

    async def catch_up(self) -> None:
        """Read the blocks that are new. Raises `StoreError`."""
        async with self._reading:
            epoch = self._invalidations.epoch
            if epoch != self._epoch:
                blocks = await self._invalidations.blocks(-1 if self._epoch is None else self._epoch)
                self._table.take_over(blocks, self._clock())
                self._epoch = epoch
