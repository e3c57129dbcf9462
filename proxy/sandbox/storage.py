"""Messages and their media: frozen values, and the table that holds them."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import hmac
import itertools
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from proxy.model import AccountSid, MediaRef, MediaSid, MessageRef, MessageSid, Provider


class Body(Protocol):
    """The octets of one media, readable in parts."""

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> str: ...

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The octets from `start` up to, but not with, `stop`."""


@dataclass(frozen=True, slots=True)
class HeldBody:
    """A body held in memory."""

    octets: bytes
    sha256: str

    @classmethod
    def of(cls, octets: bytes) -> HeldBody:
        return cls(octets, hashlib.sha256(octets).hexdigest())

    @property
    def size(self) -> int:
        return len(self.octets)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        return self.octets[start:stop]


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
    body: Body


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that has no identifier yet. `date_created` is Unix time in seconds."""

    from_: str
    to: str
    body: str
    direction: Direction
    date_created: int
    media: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Media:
    """One stored media. `key` names it on the CDN; `number` grows with each stored media; dates are Unix seconds."""

    ref: MediaRef
    number: int
    key: str
    content_type: str
    name: str
    body: Body
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
        """All the octets."""
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

    @property
    def sid(self) -> str:
        return self.ref.message.value


class Storage:
    """The messages of one account, in memory. Identifiers follow from the account and the order of adding alone."""

    def __init__(self, account: AccountSid) -> None:
        self.account = account
        self._messages: dict[MessageRef, Message] = {}
        self._by_key: dict[str, Media] = {}
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages.values())

    def add(self, draft: Draft) -> Message:
        """Store a message with its media, and give it its identifiers."""
        number = next(self._numbers)
        # A message that came or answers with media is MM; one that the API creates may be SM and have media.
        prefix = "MM" if draft.media and draft.direction is not Direction.OUTBOUND_API else "SM"
        parent = MessageRef(self.account, MessageSid.parse(self._name(prefix, number)))
        media = tuple(self._media(parent, attachment, draft.date_created) for attachment in draft.media)
        message = Message(parent, number, draft.from_, draft.to, draft.body, draft.direction, draft.date_created, media)
        self._messages[parent] = message
        self._by_key.update((one.key, one) for one in media)
        return message

    def message(self, ref: MessageRef) -> Message | None:
        return self._messages.get(ref)

    def media(self, ref: MediaRef) -> Media | None:
        message = self._messages.get(ref.parent)
        return next((media for media in message.media if media.ref == ref), None) if message else None

    def media_by_key(self, key: str) -> Media | None:
        """The media that the CDN knows by that key."""
        return self._by_key.get(key)

    def delete_media(self, ref: MediaRef) -> bool:
        """Whether there was such a media; it is gone from the API and the CDN."""
        media = self.media(ref)
        if media is None:
            return False
        message = self._messages[ref.parent]
        left: Iterable[Media] = (other for other in message.media if other.ref != ref)
        self._messages[ref.parent] = dataclasses.replace(message, media=tuple(left))
        del self._by_key[media.key]
        return True

    def _media(self, parent: MessageRef, attachment: Attachment, date_created: int) -> Media:
        number = next(self._numbers)
        ref = parent.media(MediaSid.parse(self._name("ME", number)))
        return Media(
            ref, number, self._digits("key", number), attachment.content_type, attachment.name, attachment.body,
            date_created,
        )  # fmt: skip

    def _digits(self, noun: str, number: int) -> str:
        return hmac.digest(self.account.value.encode(), f"{noun}/{number}".encode(), "sha256").hex()[:32]

    def _name(self, prefix: str, number: int) -> str:
        digits = self._digits(prefix, number)
        return prefix + digits if self.account.provider is Provider.TWILIO else str(uuid.UUID(digits, version=4))
