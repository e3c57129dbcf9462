"""Who knows what was erased and what blocks hold: a folder, for all of its workers, or one process alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from proxy.cache.disk.index import Index
from proxy.cache.disk.invalidations_table import Epoch
from proxy.cache.disk.threads import on
from proxy.cache.invalidation.block_table import BlockTable
from proxy.cache.invalidation.policy import CEILING, DEFAULT, Block, Blocks
from proxy.erasure import BlockKind, has_erased


class Changes(Protocol):
    """What can be changed. Calls raise `StoreError`; times are Unix seconds."""

    async def erase(self, prefix: str, now: float) -> None:
        """Erase every key that begins with `prefix`."""
        ...

    async def judge(self, block: Block, now: float) -> None:
        """Let a block hold, or hold longer, and erase what it covers unless `has_erased` says that it did.

        Raises `RevocationsFull` if it is one too many.
        """
        ...

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        """Raise `RevocationsFull` if these blocks together are too many; nothing is changed."""
        ...

    async def lift(self, kind: BlockKind, prefix: str, now: float, until: float | None = None) -> None:
        """End the blocks of that kind on every key that begins with `prefix`, and erase those.

        With `until` those blocks alone that end by then.
        """
        ...


class Invalidations(Changes, Protocol):
    """Every change has a number, larger than all before it. Calls raise `StoreError`."""

    @property
    def epoch(self) -> int:
        """The number of the last change."""
        ...

    @property
    def losses(self) -> int:
        """How often what was written down was lost, as far as this worker has met it; blocks may be missing then."""
        ...

    async def adopt(self, block: Block, now: float) -> None:
        """Do as `judge` does for a block that was admitted elsewhere, whatever the bound is here."""
        ...

    async def erased(self, key: str, since: int) -> bool:
        """Whether a key was, or may have been, erased after the change of that number."""
        ...

    async def erased_since(self, number: int) -> Mapping[str, int]:
        """Return what some of the first changes after that number erased: prefixes, each with its last number.

        Ask until nothing is new. The empty prefix stands for what cannot be told.
        """
        ...

    async def blocks(self, since: int) -> Blocks:
        """Those of the changes after that number."""
        ...


class FolderInvalidations:
    """Those of a folder: they hold for each of its workers from the moment that the call returns."""

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
        return self._index.changes

    async def erase(self, prefix: str, now: float) -> None:
        await self._change(lambda above: self._index.erase(prefix, now, above))

    async def erased(self, key: str, since: int) -> bool:
        return await on(self._thread, self._index.erased, key, since)

    async def erased_since(self, number: int) -> Mapping[str, int]:
        return await on(self._thread, self._index.erasures, number)

    async def judge(self, block: Block, now: float) -> None:
        await self._change(lambda above: self._index.judge(block, now, above, most=self._revocations))

    async def adopt(self, block: Block, now: float) -> None:
        await self._change(lambda above: self._index.judge(block, now, above, most=CEILING))

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        await on(self._thread, self._index.require_room, blocks, now, self._revocations)

    async def lift(self, kind: BlockKind, prefix: str, now: float, until: float | None = None) -> None:
        await self._change(lambda above: self._index.lift(kind, prefix, now, above, until=until))

    async def blocks(self, since: int) -> Blocks:
        return await on(self._thread, self._index.blocks, since)

    async def _change(self, write: Callable[[int], int]) -> None:
        """Write a change, given the number that it has to be above, then tell every worker its own."""
        await on(self._thread, lambda: self._epoch.publish(write(self._epoch.current)))


class LoneInvalidations:
    """Those of one process, where there is no folder to share: each erasure counts for every key."""

    def __init__(self, revocations: int = DEFAULT) -> None:
        self.epoch = 0
        self.losses = 0
        self._last_erasure = 0
        self._table = BlockTable()
        self._revocations = revocations

    async def erase(self, prefix: str, now: float) -> None:
        self._changed(erases=True)

    async def erased(self, key: str, since: int) -> bool:
        return since < self._last_erasure

    async def erased_since(self, number: int) -> Mapping[str, int]:
        return {"": self._last_erasure} if number < self._last_erasure else {}

    async def judge(self, block: Block, now: float) -> None:
        self._judge(block, now, self._revocations)

    async def adopt(self, block: Block, now: float) -> None:
        self._judge(block, now, CEILING)

    def _judge(self, block: Block, now: float, most: int) -> None:
        erases = not has_erased(block.kind, self._table.held_until(block.kind, block.prefix), now)
        self._table.judge(block, now, most=most)
        self._changed(erases=erases)

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        self._table.require_room(blocks, now, self._revocations)

    async def lift(self, kind: BlockKind, prefix: str, now: float, until: float | None = None) -> None:
        self._table.lift(kind, prefix, until)
        self._changed(erases=True)

    def _changed(self, *, erases: bool) -> None:
        self.epoch += 1
        if erases:
            self._last_erasure = self.epoch

    async def blocks(self, since: int) -> Blocks:
        return Blocks(self._table.blocks(), whole=True)
