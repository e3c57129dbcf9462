"""Paths of the REST API to frozen targets, and back."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, assert_never

from proxy.errors import IdentifierError
from proxy.model import AccountSid, MediaRef, MessageRef, Provider

_PATH: Final = re.compile(
    r"(?P<laml>/api/laml)?/2010-04-01/Accounts/(?P<account>[^/.]+)/"
    r"(?:Messages(?:/(?P<only>[^/.]+))?|Messages?/(?P<message>[^/.]+)/Media(?:/(?P<media>[^/.]+))?)"
    r"(?P<suffix>\.json|\.xml)?",
    re.ASCII,
)


class Form(enum.StrEnum):
    """The notation of properties, lists and errors."""

    JSON = "json"
    XML = "xml"


@dataclass(frozen=True, slots=True)
class MessageList:
    """The messages of an account."""

    account: AccountSid
    form: Form


@dataclass(frozen=True, slots=True)
class MessageProperties:
    """One message."""

    ref: MessageRef
    form: Form


@dataclass(frozen=True, slots=True)
class MediaList:
    """The media of a message."""

    parent: MessageRef
    form: Form


@dataclass(frozen=True, slots=True)
class MediaProperties:
    """What is known of one media."""

    ref: MediaRef
    form: Form


@dataclass(frozen=True, slots=True)
class MediaContent:
    """The bytes of one media."""

    ref: MediaRef


Documented = MessageList | MessageProperties | MediaList | MediaProperties
Target = Documented | MediaContent


def parse(path: str, provider: Provider) -> Target | None:
    """The target that a path names under that provider's habits, or None.

    Without a suffix a list is XML with Twilio and JSON with SignalWire, whose page URIs have none.
    """
    match = _PATH.fullmatch(path)
    if match is None or (match["laml"] and provider is not Provider.SIGNALWIRE):
        return None
    suffix = match["suffix"]
    form = Form(suffix[1:]) if suffix else _unsaid(provider)
    try:
        if match["media"]:
            ref = MediaRef.parse(match["account"], match["message"], match["media"])
            return MediaProperties(ref, form) if suffix else MediaContent(ref)
        if match["message"]:
            return MediaList(MessageRef.parse(match["account"], match["message"]), form)
        if match["only"]:
            return MessageProperties(MessageRef.parse(match["account"], match["only"]), form)
        return MessageList(AccountSid.parse(match["account"]), form)
    except IdentifierError:
        return None


def error_form(path: str, provider: Provider) -> Form:
    """As the suffix says, and without one as the provider's lists."""
    if path.endswith(".json"):
        return Form.JSON
    return Form.XML if path.endswith(".xml") else _unsaid(provider)


def _unsaid(provider: Provider) -> Form:
    return Form.XML if provider is Provider.TWILIO else Form.JSON


def account_of(target: Target) -> AccountSid:
    """The account that a target belongs to."""
    match target:
        case MessageList(account):
            return account
        case MediaList(parent):
            return parent.account
        case MessageProperties(ref):
            return ref.account
        case MediaProperties(ref) | MediaContent(ref):
            return ref.account
        case _:
            assert_never(target)


def root(account: AccountSid) -> str:
    """The path under which an account's resources lie."""
    match account.provider:
        case Provider.TWILIO:
            return f"/2010-04-01/Accounts/{account}"
        case Provider.SIGNALWIRE:
            return f"/api/laml/2010-04-01/Accounts/{account}"
        case _:
            assert_never(account.provider)


def message_path(ref: MessageRef) -> str:
    """A message's path, with no suffix."""
    return f"{root(ref.account)}/Messages/{ref.message}"


def media_path(ref: MediaRef) -> str:
    """A media's path, with no suffix: the one of its bytes."""
    return f"{message_path(ref.parent)}/Media/{ref.media}"
