"""The form of an invalidation in Redis: a member of the log, and the name of a block in the table of those that hold.

Gateways of several releases share one log. So the order of a record's fields and the words of its actions stay as they
are: a block is a `judge`.
"""

from __future__ import annotations

import enum
import math
from typing import Final, assert_never

import msgspec

from proxy.cache.invalidation.policy import FARTHEST, KINDS, LONGEST_PREFIX, Block, Erase, Invalidation, Lift
from proxy.erasure import BlockKind


class Action(enum.StrEnum):
    """The action of a record. `RESTORE` is a `BLOCK` that is left out of the log if Redis has it already."""

    ERASE = "erase"
    BLOCK = "judge"
    LIFT = "lift"
    RESTORE = "restore"


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An invalidation of every key that begins with `prefix`, as it is written down.

    `kind` is that of the block or lift, 0 for none. `until`: the end of a block, or of the latest that a lift ends.
    """

    action: Action
    prefix: str
    kind: int = 0
    until: float | None = None

    @classmethod
    def of(cls, invalidation: Invalidation, *, restore: bool = False) -> Record:
        """Return the record of an invalidation; with `restore` of a block that Redis should have already."""
        match invalidation:
            case Erase(prefix):
                return cls(Action.ERASE, prefix)
            case Block(kind, prefix, until):
                return cls(Action.RESTORE if restore else Action.BLOCK, prefix, kind.value, until)
            case Lift(kind, prefix, until):
                return cls(Action.LIFT, prefix, kind.value, until)
            case _:
                assert_never(invalidation)

    @property
    def invalidation(self) -> Invalidation | None:
        """Return the invalidation; None if the record does not say all that its action needs, within bounds."""
        if len(self.prefix) > LONGEST_PREFIX or not (self.prefix.isprintable() or not self.prefix):
            return None
        if self.until is not None and not (math.isfinite(self.until) and 0 <= self.until <= FARTHEST):
            return None
        match self.action:
            case Action.ERASE:
                return Erase(self.prefix) if self.kind == 0 else None
            case _ if self.kind not in _KINDS:
                return None
            case Action.LIFT:
                return Lift(BlockKind(self.kind), self.prefix, self.until)
            case Action.BLOCK | Action.RESTORE:
                return None if self.until is None else Block(BlockKind(self.kind), self.prefix, self.until)
            case _:
                assert_never(self.action)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)
_KINDS: Final = frozenset(kind.value for kind in KINDS)
_DIGITS: Final = 18
"""The digits that the number of an invalidation may have."""


def encode(record: Record) -> bytes:
    """Return a record in MessagePack."""
    return _encoder.encode(record)


def decode_member(member: object) -> tuple[int, Invalidation] | None:
    """Return an invalidation and its number, as a member of the log holds them; None for anything else."""
    if not isinstance(member, bytes):
        return None
    number, space, encoded = member.partition(b" ")
    if not space or not number.isdigit() or len(number) > _DIGITS:
        return None
    try:
        invalidation = _decoder.decode(encoded).invalidation
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return None if invalidation is None else (int(number), invalidation)


def block_name(block: Block) -> str:
    """Return the name of a block in the table of those that hold."""
    return f"{block.kind.value}/{block.prefix}"


def named_block(name: bytes, until: float) -> Block | None:
    """Return the block of that name; None for a bad name. One without an end holds for as long as any can."""
    kind, slash, prefix = name.partition(b"/")
    try:
        found = Record(Action.BLOCK, prefix.decode(), int(kind), min(until, FARTHEST)).invalidation
    except ValueError:
        return None
    return found if slash and isinstance(found, Block) else None
