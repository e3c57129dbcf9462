"""The reach of an invalidation, and the kinds of block that a media may be under: revoked, or gone.

The key of a media is `ACCOUNT/MESSAGE/MEDIA`. An invalidation reaches a prefix of keys, so that one row stands for any
number of media, those that are still being fetched among them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from proxy.model import AccountSid, MediaRef, MessageRef


class BlockKind(enum.Flag):
    """The kinds of the blocks that cover a media; both may. Of a link, revocation is asked first."""

    NONE = 0
    REVOKED = enum.auto()
    """The kind of a revocation: no link opens the media, and none is minted."""
    GONE = enum.auto()
    """The kind of a deletion at the provider through the gateway: no reader gets the media."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The media whose key begins with `prefix`: empty for everything, else whole identifiers."""

    prefix: str

    @classmethod
    def of(cls, erased: MediaRef | MessageRef | AccountSid | None) -> Reach:
        """Return the reach of all that belongs to a media, a message or an account; None is everything."""
        match erased:
            case None:
                return cls("")
            case MediaRef():
                return cls(str(erased))
            case MessageRef() | AccountSid():
                return cls(f"{erased}/")

    def covers(self, ref: MediaRef) -> bool:
        """Return whether the media is within the reach."""
        return str(ref).startswith(self.prefix)

    def __str__(self) -> str:
        """Return `ACCOUNT/MESSAGE/MEDIA`, `ACCOUNT/MESSAGE`, `ACCOUNT`, or `*` for everything."""
        return self.prefix.rstrip("/") or "*"


def prefixes(key: str) -> tuple[str, ...]:
    """Return the prefix of every reach that covers a key, the widest first: none, whole identifiers, the key."""
    return ("", *(key[: place + 1] for place, char in enumerate(key) if char == "/"), key)
