"""The values of invalidations, and the policy of blocks: how they are prolonged, bounded and lifted.

Three tables keep blocks: one in RAM (`block_table`), a folder's rows (`disk.blocks_table`) and Redis's sorted sets
(`redis.scripts`). The functions below are the policy, and the first two tables call them. SQL repeats two rules, to
prolong a row and to lift a range of rows. Redis's script repeats all of them, for nothing else decides and writes there
in one step. `tests/contract/test_block_policy.py` is the one table of cases that each form is held to, these functions
alone among them; a change of a rule begins there.

1. A block that holds is prolonged by a later end, never shortened, and takes no more room.
2. Revocations and deletions share one bound, `GATEWAY_LIMIT_REVOCATIONS`. It is heeded where a client asks, by the
   setting of the gateway that is asked, before anything is changed anywhere; one block more is refused.
3. What was admitted anywhere holds everywhere: a gateway that hears of it takes it over whatever its own setting is, up
   to `CEILING`, the highest one there can be. A gateway with a lower setting refuses sooner, and forgets nothing.
4. A block that has ended takes no room.
5. A lift ends the blocks of one kind on every key that begins with its prefix; with an end, only those that end by
   then.
6. A block erases what it covers, unless it is of what is gone and holds already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.erasure import BlockKind
from proxy.errors import RevocationsFull

KINDS: Final = (BlockKind.REVOKED, BlockKind.GONE)
DEFAULT: Final = 100_000
"""The blocks that are remembered at once, unless a setting says otherwise."""
CEILING: Final = 1_000_000
"""The highest bound that can be set; at most so many blocks are taken over from other gateways."""
LONGEST_PREFIX: Final = 128
"""The longest prefix, in characters: longer than the three longest identifiers and what is between them."""
FARTHEST: Final = 1e11
"""A Unix time after every end of a block."""


BlockIdentity = tuple[BlockKind, str]


@dataclass(frozen=True, slots=True)
class Erase:
    """The erasure of every key that begins with `prefix`, what is being fetched included."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Block:
    """A block of that kind on every key that begins with `prefix`, up to `until`, a Unix time."""

    kind: BlockKind
    prefix: str
    until: float

    @property
    def identity(self) -> BlockIdentity:
        """Return its kind and prefix, which are the same when the block is given again."""
        return self.kind, self.prefix


@dataclass(frozen=True, slots=True)
class Lift:
    """The end of the blocks of that kind on every key that begins with `prefix`; with `until`, if they end by then."""

    kind: BlockKind
    prefix: str
    until: float | None = None


Invalidation = Erase | Block | Lift


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks as they are read; with `whole` these are all there are, and no others hold."""

    found: tuple[Block, ...]
    whole: bool


def takes_room(before: float | None, until: float, now: float) -> bool:
    """Return whether a block up to `until` is one more; `before` is its end as it is known, None if it is not."""
    return until > now and (before is None or before <= now)


def require_room(held: int, more: int, most: int) -> None:
    """Raise `RevocationsFull` if `more` blocks beside the `held` ones, which have not ended, are too many."""
    if more and held + more > most:
        raise RevocationsFull(most)


def prolonged(before: float | None, until: float) -> float:
    """Return the end of a block that is given again, up to `until`; `before` is its end as it is known."""
    return until if before is None else max(before, until)


def is_lifted(block: Block, lift: Lift) -> bool:
    """Return whether a lift ends a block."""
    covered = block.kind is lift.kind and block.prefix.startswith(lift.prefix)
    return covered and (lift.until is None or block.until <= lift.until)


def has_erased(block: Block, before: float | None, now: float) -> bool:
    """Return whether what a block covers was erased when the same block was given before, up to `before`.

    While a media is gone nothing of it is stored, and what was being fetched when that began is not kept: erasing it
    again would erase nothing. While it is revoked, clients that need no link may still have it fetched and stored.
    """
    return block.kind is BlockKind.GONE and before is not None and before > now
