"""The contract of what applies and knows invalidations, and the invalidations of one process alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, assert_never

from proxy.cache.invalidation.block_table import BlockTable
from proxy.cache.invalidation.policy import (
    CEILING,
    DEFAULT,
    Block,
    Blocks,
    Erase,
    Invalidation,
    Lift,
    has_erased,
)


class Invalidator(Protocol):
    """An owner of invalidations. Calls raise `StoreError`; times are Unix seconds."""

    async def apply(self, invalidation: Invalidation, now: float) -> None:
        """Apply an invalidation: it holds for every worker when this returns.

        Raises `RevocationsFull` if it is a block, and one too many.
        """
        ...

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        """Raise `RevocationsFull` if these blocks together are too many; nothing is changed."""
        ...


class Invalidations(Invalidator, Protocol):
    """The invalidations that hold here. Each has a number, larger than all before it. Calls raise `StoreError`."""

    @property
    def epoch(self) -> int:
        """The number of the last invalidation."""
        ...

    @property
    def losses(self) -> int:
        """The number of times that this worker has met a loss of what was written; blocks may be missing after one."""
        ...

    async def adopt(self, invalidation: Invalidation, now: float) -> None:
        """Apply an invalidation that was admitted elsewhere, whatever the bound is here."""
        ...

    async def erased(self, key: str, since: int) -> bool:
        """Return whether a key was, or may have been, erased after the invalidation of that number."""
        ...

    async def erased_since(self, number: int) -> Mapping[str, int]:
        """Return what some of the first erasures after that number cover: prefixes, each with its last number.

        Ask until nothing is new. The empty prefix stands for what cannot be told.
        """
        ...

    async def blocks(self, since: int) -> Blocks:
        """Return the blocks that were added, prolonged or lifted after the invalidation of that number."""
        ...


class LoneInvalidations:
    """The invalidations of one process without a folder to share: each erasure counts for every key."""

    def __init__(self, revocations: int = DEFAULT) -> None:
        self.epoch = 0
        self.losses = 0
        self._last_erasure = 0
        self._table = BlockTable()
        self._revocations = revocations

    async def apply(self, invalidation: Invalidation, now: float) -> None:
        self._apply(invalidation, now, self._revocations)

    async def adopt(self, invalidation: Invalidation, now: float) -> None:
        self._apply(invalidation, now, CEILING)

    def _apply(self, invalidation: Invalidation, now: float, most: int) -> None:
        erases = True
        match invalidation:
            case Erase():
                pass
            case Block(kind, prefix):
                erases = not has_erased(invalidation, self._table.held_until(kind, prefix), now)
                self._table.apply(invalidation, now, most=most)
            case Lift():
                self._table.apply(invalidation, now)
            case _:
                assert_never(invalidation)
        self.epoch += 1
        if erases:
            self._last_erasure = self.epoch

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        self._table.require_room(blocks, now, self._revocations)

    async def erased(self, key: str, since: int) -> bool:
        return since < self._last_erasure

    async def erased_since(self, number: int) -> Mapping[str, int]:
        return {"": self._last_erasure} if number < self._last_erasure else {}

    async def blocks(self, since: int) -> Blocks:
        return Blocks(self._table.blocks(), whole=True)
