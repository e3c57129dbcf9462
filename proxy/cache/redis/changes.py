"""What the log of changes tells: that something is erased, that a block holds, or that blocks have ended."""

from __future__ import annotations

import enum
import math
from typing import Final, assert_never

import msgspec

from proxy.cache.invalidation.invalidators import Invalidations
from proxy.cache.invalidation.policy import FARTHEST, KINDS, LONGEST_PREFIX, Block
from proxy.erasure import BlockKind


class Action(enum.StrEnum):
    """What a change does; each of them erases. `RESTORE` is a `JUDGE` that is not told where it holds already."""

    ERASE = "erase"
    JUDGE = "judge"
    LIFT = "lift"
    RESTORE = "restore"


class Change(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A change of every key that begins with `prefix`. `till`: the end of a block, or of those that are lifted.

    `kind` is that of a block, 0 for none.
    """

    action: Action
    prefix: str
    kind: int = 0
    till: float | None = None

    @classmethod
    def erase(cls, prefix: str) -> Change:
        return cls(Action.ERASE, prefix)

    @classmethod
    def judge(cls, block: Block, *, restore: bool = False) -> Change:
        """A block holds; with `restore` it is one that should be known already."""
        action = Action.RESTORE if restore else Action.JUDGE
        return cls(action, block.prefix, block.kind.value, block.until)

    @classmethod
    def lift(cls, kind: BlockKind, prefix: str, till: float | None) -> Change:
        return cls(Action.LIFT, prefix, kind.value, till)

    @property
    def sound(self) -> bool:
        """Return whether the change says all that its action needs, within bounds."""
        named = len(self.prefix) <= LONGEST_PREFIX and (self.prefix.isprintable() or not self.prefix)
        known = self.kind in (_NO_KIND if self.action is Action.ERASE else _KINDS)
        if self.till is None:
            return named and known and self.action in {Action.ERASE, Action.LIFT}
        return named and known and math.isfinite(self.till) and 0 <= self.till <= FARTHEST

    @property
    def block(self) -> Block | None:
        """The block that it lets hold, if it does."""
        if self.action in {Action.JUDGE, Action.RESTORE}:
            return Block(BlockKind(self.kind), self.prefix, self.till or 0.0)
        return None

    async def apply(self, invalidations: Invalidations, now: float) -> None:
        """Let it hold. A change may be applied any number of times. Raises `StoreError`."""
        match self.action:
            case Action.ERASE:
                await invalidations.erase(self.prefix, now)
            case Action.JUDGE | Action.RESTORE:
                await invalidations.adopt(Block(BlockKind(self.kind), self.prefix, self.till or 0.0), now)
            case Action.LIFT:
                await invalidations.lift(BlockKind(self.kind), self.prefix, now, self.till)
            case _ as never:
                assert_never(never)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Change)
_NO_KIND: Final = frozenset({0})
_KINDS: Final = frozenset(kind.value for kind in KINDS)
_DIGITS: Final = 18
"""The digits that a change's number may have."""


def encode_change(change: Change) -> bytes:
    """MessagePack."""
    return _encoder.encode(change)


def decode_change(member: object) -> tuple[int, Change] | None:
    """A change and its number, as the log holds them; None for anything else."""
    if not isinstance(member, bytes):
        return None
    number, space, encoded = member.partition(b" ")
    if not space or not number.isdigit() or len(number) > _DIGITS:
        return None
    try:
        change = _decoder.decode(encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return (int(number), change) if change.sound else None


def block_name(kind: BlockKind, prefix: str) -> str:
    """A block's name in the table of those that hold."""
    return f"{kind.value}/{prefix}"


def named_block(name: bytes, until: float) -> Block | None:
    """The block of that name; None where it is none. One without end holds for as long as there can be."""
    kind, slash, prefix = name.partition(b"/")
    try:
        change = Change(Action.JUDGE, prefix.decode(), int(kind), min(until, FARTHEST))
    except ValueError:
        return None
    return change.block if slash and change.sound else None
