"""The sweeper: RAM gives back what is erased, whichever worker or command erased it.

A look-up already drops what was erased, since the epoch has moved on. The sweeper is for what is not looked up any
more: an operator who erases a media wants it gone from the memory of every process, not only out of reach.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from proxy.cache.invalidation.invalidators import Invalidations
from proxy.cache.ram.store import RamStore
from proxy.errors import StoreError

LOOK_SECONDS: Final = 0.25
"""The time between two looks at the epoch, a number in memory that the workers share."""


class Sweeper:
    """The sweeper of one worker's RAM tier. `swept` is called after each sweep that it has begun by itself."""

    def __init__(self, memory: RamStore, invalidations: Invalidations, swept: Callable[[], Awaitable[None]]) -> None:
        self._memory = memory
        self._invalidations = invalidations
        self._swept = swept
        self._epoch = invalidations.epoch
        self._one_at_a_time = asyncio.Lock()

    async def sweep(self) -> None:
        """Remove from RAM what was erased by now. Raises `StoreError` if that cannot be found out."""
        async with self._one_at_a_time:
            while self._epoch < (epoch := self._invalidations.epoch):
                erased = await self._invalidations.erased_since(self._epoch)
                await self._memory.sweep(erased)
                # If none is left, those up to the published number are forgotten already.
                self._epoch = max(erased.values(), default=epoch)

    @asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """Sweep soon after each erasure, meanwhile."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._epoch < self._invalidations.epoch:
                # A sweep that fails is tried again at the next look.
                with contextlib.suppress(StoreError):
                    await self.sweep()
                    await self._swept()
