"""A table of blocks in RAM: those of a process without a folder, or those of a folder as a worker knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

from proxy.cache.invalidation.policy import (
    CEILING,
    KINDS,
    Block,
    Blocks,
    Lift,
    is_lifted,
    prolonged,
    require_room,
    takes_room,
)
from proxy.erasure import BlockKind, prefixes

_TIDY_AT: Final = 1_000


class BlockTable:
    """The blocks by kind and prefix: as many as the source has, or as `apply` admits. Times are Unix seconds."""

    def __init__(self) -> None:
        self._until: dict[BlockKind, dict[str, float]] = {kind: {} for kind in KINDS}
        self._tidy_at = _TIDY_AT

    def kinds(self, key: str, now: float) -> BlockKind:
        """Return the kinds of the blocks on a key."""
        kinds = BlockKind.NONE
        for kind, held in self._until.items():
            if held and any(held.get(prefix, 0.0) > now for prefix in prefixes(key)):
                kinds |= kind
        return kinds

    def held_until(self, kind: BlockKind, prefix: str) -> float | None:
        """Return the end of the block on exactly that prefix, which may be past; None if there is none."""
        return self._until[kind].get(prefix)

    def apply(self, invalidation: Block | Lift, now: float, *, most: int = CEILING) -> None:
        """Add or prolong a block, or end those that a lift covers.

        Raises `RevocationsFull` if a block were one more than `most`.
        """
        match invalidation:
            case Block(kind, prefix, until):
                self.require_room((invalidation,), now, most)
                self._put(Block(kind, prefix, prolonged(self.held_until(kind, prefix), until)), now)
            case Lift():
                for block in self.blocks():
                    if is_lifted(block, invalidation):
                        del self._until[block.kind][block.prefix]
            case _:
                assert_never(invalidation)

    def require_room(self, blocks: Sequence[Block], now: float, most: int) -> None:
        """Raise `RevocationsFull` if these blocks together were more than `most`."""
        more = {block.identity for block in blocks if takes_room(self.held_until(*block.identity), block.until, now)}
        if self._size + len(more) > most:
            self._forget_ended(now)
        require_room(self._size, len(more), most)

    def take_over(self, blocks: Blocks, now: float) -> None:
        """Take over the blocks that are new at the source, and the ends of those that have ended there."""
        if blocks.whole:
            self._until = {kind: {} for kind in KINDS}
        for block in blocks.found:
            self._put(block, now)

    def blocks(self) -> tuple[Block, ...]:
        """Return every block that is held, those that have ended and are not forgotten yet included."""
        return tuple(Block(kind, prefix, until) for kind in KINDS for prefix, until in self._until[kind].items())

    @property
    def is_empty(self) -> bool:
        """Return whether no block is held, an ended one included."""
        return not any(self._until.values())

    @property
    def _size(self) -> int:
        return sum(map(len, self._until.values()))

    def _put(self, block: Block, now: float) -> None:
        held = self._until[block.kind]
        if block.until <= now:
            held.pop(block.prefix, None)
            return
        held[block.prefix] = block.until
        if self._size > self._tidy_at:
            self._forget_ended(now)
            # So each block is looked at once in the time in which as many come.
            self._tidy_at = max(_TIDY_AT, 2 * self._size)

    def _forget_ended(self, now: float) -> None:
        for held in self._until.values():
            for prefix in [prefix for prefix, until in held.items() if until <= now]:
                del held[prefix]
