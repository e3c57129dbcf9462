"""Messages and their media as frozen values: drafts that come in, and what is stored of them."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path

from proxy.model import MediaRef, MessageRef


class Direction(enum.StrEnum):
    """Who sent a message, in the provider's words."""

    INBOUND = "inbound"
    OUTBOUND_API = "outbound-api"
    OUTBOUND_REPLY = "outbound-reply"


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a new message brings along: a type, a file name for people, and the octets."""

    content_type: str
    name: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that has no identifier yet. `date_created` is Unix time in seconds.

    `from_` is empty where a messaging service is to choose the sender.
    """

    from_: str
    to: str
    body: str
    direction: Direction
    date_created: int
    media: tuple[Attachment, ...] = ()
    messaging_service_sid: str | None = None


@dataclass(frozen=True, slots=True)
class StoredBody:
    """The octets of one media in a file that never changes."""

    path: Path
    size: int
    sha256: str

    def read(self) -> bytes:
        """All the octets; blocks for a read from disk. Raises `OSError` once the last media with them is gone."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts: list[bytes] = []
            position = 0
            while block := os.pread(descriptor, self.size - position, position):
                parts.append(block)
                position += len(block)
        finally:
            os.close(descriptor)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Media:
    """One stored media. `key` names it on the CDN; `number` grows with each stored media; dates are Unix seconds."""

    ref: MediaRef
    number: int
    key: str
    content_type: str
    name: str
    body: StoredBody
    date_created: int

    @property
    def sid(self) -> str:
        return self.ref.media.value

    @property
    def length(self) -> int:
        return self.body.size

    @property
    def sha256(self) -> str:
        return self.body.sha256

    @property
    def etag(self) -> str:
        """The strong entity-tag that the CDN gives, with its quotes."""
        return f'"{self.body.sha256[:32]}"'

    def read(self) -> bytes:
        """All the octets; blocks for a read from disk, so it is for tests and tools.

        Raises `OSError` once the media is deleted or a temporary sandbox has ended.
        """
        return self.body.read()


@dataclass(frozen=True, slots=True)
class Message:
    """One stored message. `number` grows with each message; dates are Unix seconds."""

    ref: MessageRef
    number: int
    from_: str
    to: str
    body: str
    direction: Direction
    date_created: int
    media: tuple[Media, ...] = ()
    messaging_service_sid: str | None = None

    @property
    def sid(self) -> str:
        return self.ref.message.value
