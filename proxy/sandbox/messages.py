"""Messages and their media as frozen values: drafts that come in, and what is stored of them."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path

from proxy.model import MediaRef, MessageRef


class Direction(enum.StrEnum):
    """The sender of a message, in the provider's words."""

    INBOUND = "inbound"
    OUTBOUND_API = "outbound-api"
    OUTBOUND_REPLY = "outbound-reply"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a new message: a type, a name for people, and the octets."""

    content_type: str
    name: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that has no identifier yet. `date_created` is Unix time in seconds.

    `from_` is empty if a messaging service is to choose the sender.
    """

    from_: str
    to: str
    body: str
    direction: Direction
    date_created: int
    media: tuple[Attachment, ...] = ()
    messaging_service_sid: str | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """One stored media, and the file that has its octets and never changes.

    `key` names it on the CDN; `number` grows with each stored media; dates are Unix seconds.
    """

    ref: MediaRef
    number: int
    key: str
    content_type: str
    name: str
    path: Path
    length: int
    sha256: str
    date_created: int

    @property
    def sid(self) -> str:
        return self.ref.media.value

    @property
    def etag(self) -> str:
        """The strong entity-tag that the CDN gives, with its quotes."""
        return f'"{self.sha256[:32]}"'

    def read(self) -> bytes:
        """Return all the octets; this blocks on the disk, so it is for tests and tools.

        Raises `OSError` once the last media with these octets is deleted or a temporary sandbox has ended.
        """
        # `os.pread` and no file object, so that a test whose loop refuses blocking calls on files may call it.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            octets = bytearray()
            while block := os.pread(descriptor, self.length - len(octets), len(octets)):
                octets += block
        finally:
            os.close(descriptor)
        return bytes(octets)


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
