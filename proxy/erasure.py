"""What an erasure covers: one media, a message, an account or everything.

A media's key is `ACCOUNT/MESSAGE/MEDIA`; what is erased is a prefix of it, so that one row stands for any number of
media, those that are still being fetched among them.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.model import AccountSid, MediaRef, MessageRef


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
