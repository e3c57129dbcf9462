"""The reach of an invalidation, and the kinds of block that a media may be under: revoked, or gone.

A media's key is `ACCOUNT/MESSAGE/MEDIA`; what is erased is a prefix of it, so that one row stands for any number of
media, those that are still being fetched among them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from proxy.model import AccountSid, MediaRef, MessageRef


class BlockKind(enum.Flag):
    """The kinds of the blocks that cover a media; both may. Of a link, revocation is asked first."""

    NONE = 0
    REVOKED = enum.auto()
    """No link opens it, and none is minted."""
    GONE = enum.auto()
    """It was deleted at the provider through the gateway: it is not there for anyone."""


@dataclass(frozen=True, slots=True)
class Reach:
    """All media whose key begins with `prefix`: empty for everything, else whole identifiers."""

    prefix: str

    @classmethod
    def of(cls, erased: MediaRef | MessageRef | AccountSid | None) -> Reach:
        """None is everything."""
        match erased:
            case None:
                return cls("")
            case MediaRef():
                return cls(str(erased))
            case MessageRef() | AccountSid():
                return cls(f"{erased}/")

    def covers(self, ref: MediaRef) -> bool:
        """Whether the media is among them."""
        return str(ref).startswith(self.prefix)

    def __str__(self) -> str:
        """`ACCOUNT/MESSAGE/MEDIA`, `ACCOUNT/MESSAGE`, `ACCOUNT`, or `*` for everything."""
        return self.prefix.rstrip("/") or "*"


def prefixes(key: str) -> tuple[str, ...]:
    """The prefix of every reach that covers a key, the widest first: nothing, whole identifiers, the key."""
    return ("", *(key[: place + 1] for place, char in enumerate(key) if char == "/"), key)
