"""Paths of the REST API to frozen targets, and back."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import ClassVar, Final, assert_never

from proxy.errors import IdentifierError
from proxy.model import AccountSid, MediaRef, MessageRef, Provider
from proxy.sandbox.faults import Point

_PATH: Final = re.compile(
    r"(?P<laml>/api/laml)?/2010-04-01/Accounts/(?P<account>[^/.]+)/"
    r"(?:Messages(?:/(?P<only>[^/.]+))?|Messages?/(?P<message>[^/.]+)/Media(?:/(?P<media>[^/.]+))?)"
    r"(?P<suffix>\.json|\.xml)?",
    re.ASCII,
)


class Notation(enum.StrEnum):
    """The notation of properties, lists and errors."""

    JSON = "json"
    XML = "xml"


@dataclass(frozen=True, slots=True)
class MessageListing:
    """The messages of an account."""

    methods: ClassVar = ("GET", "HEAD", "POST")
    point: ClassVar = Point.MESSAGES

    account: AccountSid
    notation: Notation


@dataclass(frozen=True, slots=True)
class MessageProperties:
    """One message."""

    methods: ClassVar = ("GET", "HEAD", "DELETE")
    point: ClassVar = Point.MESSAGES

    ref: MessageRef
    notation: Notation

    @property
    def account(self) -> AccountSid:
        return self.ref.account


@dataclass(frozen=True, slots=True)
class MediaListing:
    """The media of a message."""

    methods: ClassVar = ("GET", "HEAD")
    point: ClassVar = Point.LIST

    parent: MessageRef
    notation: Notation

    @property
    def account(self) -> AccountSid:
        return self.parent.account


@dataclass(frozen=True, slots=True)
class MediaProperties:
    """The facts about one media."""

    methods: ClassVar = ("GET", "HEAD", "DELETE")
    point: ClassVar = Point.PROPERTIES

    ref: MediaRef
    notation: Notation

    @property
    def account(self) -> AccountSid:
        return self.ref.account


@dataclass(frozen=True, slots=True)
class MediaContent:
    """The bytes of one media."""

    methods: ClassVar = ("GET", "HEAD", "DELETE")
    point: ClassVar = Point.CONTENT

    ref: MediaRef

    @property
    def account(self) -> AccountSid:
        return self.ref.account


Documented = MessageListing | MessageProperties | MediaListing | MediaProperties
Target = Documented | MediaContent


def parse(path: str, provider: Provider) -> Target | None:
    """Return the target that a path names under that provider's habits, or None."""
    match = _PATH.fullmatch(path)
    if match is None or (match["laml"] and provider is not Provider.SIGNALWIRE):
        return None
    notation = error_notation(path, provider)
    try:
        if match["media"]:
            ref = MediaRef.parse(match["account"], match["message"], match["media"])
            return MediaProperties(ref, notation) if match["suffix"] else MediaContent(ref)
        if match["message"]:
            return MediaListing(MessageRef.parse(match["account"], match["message"]), notation)
        if match["only"]:
            return MessageProperties(MessageRef.parse(match["account"], match["only"]), notation)
        return MessageListing(AccountSid.parse(match["account"]), notation)
    except IdentifierError:
        return None


def error_notation(path: str, provider: Provider) -> Notation:
    """Return the notation that a path's suffix names; without one it is Twilio's XML or SignalWire's JSON."""
    if path.endswith((".json", ".xml")):
        return Notation(path.rpartition(".")[2])
    return Notation.XML if provider is Provider.TWILIO else Notation.JSON


def root(account: AccountSid) -> str:
    """Return the path under which an account's resources lie."""
    match account.provider:
        case Provider.TWILIO:
            return f"/2010-04-01/Accounts/{account}"
        case Provider.SIGNALWIRE:
            return f"/api/laml/2010-04-01/Accounts/{account}"
        case _:
            assert_never(account.provider)


def message_path(ref: MessageRef) -> str:
    """Return a message's path, with no suffix."""
    return f"{root(ref.account)}/Messages/{ref.message}"


def media_path(ref: MediaRef) -> str:
    """Return the path of a media's bytes, which has no suffix."""
    return f"{message_path(ref.parent)}/Media/{ref.media}"
