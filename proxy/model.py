"""Identifiers, addresses and the clock: untrusted text becomes a frozen value here, or an `IdentifierError`.

Twilio's identifiers are two letters and 32 hexadecimal digits (`AC` an account, `SM` or `MM` a message, `ME` a
media); SignalWire's are UUIDs. Hexadecimal digits fold to lower case, so that one media is one identity everywhere.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Self

from proxy.errors import IdentifierError

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

Clock = Callable[[], float]
"""Unix time in seconds. Passed in, so that tests can hold it."""

_HEX32: Final = "[0-9a-fA-F]{32}"
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


class Provider(enum.StrEnum):
    """The company whose identifiers, hosts and habits a media follows."""

    TWILIO = "twilio"
    SIGNALWIRE = "signalwire"


class ProviderPart(enum.StrEnum):
    """The part of a provider that is asked: the API, at an account's own origin, or the hosts it redirects to."""

    API = "api"
    CDN = "cdn"


@dataclass(frozen=True, slots=True)
class _Identifier:
    value: str

    @classmethod
    def _twilio(cls) -> re.Pattern[str]:
        raise AssertionError

    @classmethod
    def parse(cls, text: str) -> Self:
        """Fold and check. Raises `IdentifierError`, which does not repeat the text."""
        if cls._twilio().fullmatch(text):
            return cls(text[:2] + text[2:].lower())
        if _UUID.fullmatch(text):
            return cls(text.lower())
        raise IdentifierError(f"is not {cls._noun()}")

    @classmethod
    def _noun(cls) -> str:
        raise AssertionError

    @property
    def provider(self) -> Provider:
        return Provider.SIGNALWIRE if "-" in self.value else Provider.TWILIO

    def __str__(self) -> str:
        return self.value


_ACCOUNT: Final = re.compile(f"AC{_HEX32}", re.ASCII)
_MESSAGE: Final = re.compile(f"(?:SM|MM){_HEX32}", re.ASCII)
_MEDIA: Final = re.compile(f"ME{_HEX32}", re.ASCII)


class AccountSid(_Identifier):
    """`AC` + 32 hex digits, or a SignalWire project's UUID."""

    __slots__ = ()

    @classmethod
    def _twilio(cls) -> re.Pattern[str]:
        return _ACCOUNT

    @classmethod
    def _noun(cls) -> str:
        return "an account SID (AC and 32 hex digits, or a UUID)"


class MessageSid(_Identifier):
    """`SM` or `MM` + 32 hex digits, or a UUID."""

    __slots__ = ()

    @classmethod
    def _twilio(cls) -> re.Pattern[str]:
        return _MESSAGE

    @classmethod
    def _noun(cls) -> str:
        return "a message SID (SM or MM and 32 hex digits, or a UUID)"


class MediaSid(_Identifier):
    """`ME` + 32 hex digits, or a UUID."""

    __slots__ = ()

    @classmethod
    def _twilio(cls) -> re.Pattern[str]:
        return _MEDIA

    @classmethod
    def _noun(cls) -> str:
        return "a media SID (ME and 32 hex digits, or a UUID)"


def _same_provider(first: _Identifier, *rest: _Identifier) -> None:
    if any(other.provider is not first.provider for other in rest):
        raise IdentifierError("mixes the identifiers of two providers")


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A message of an account. Raises `IdentifierError` if the two follow different providers."""

    account: AccountSid
    message: MessageSid

    def __post_init__(self) -> None:
        _same_provider(self.account, self.message)

    @classmethod
    def parse(cls, account: str, message: str) -> Self:
        """Parse untrusted text. Raises `IdentifierError`."""
        return cls(AccountSid.parse(account), MessageSid.parse(message))

    @property
    def provider(self) -> Provider:
        return self.account.provider

    def media(self, media: MediaSid) -> MediaRef:
        """Return the media of this message with that identifier."""
        return MediaRef(self.account, self.message, media)

    def __str__(self) -> str:
        return f"{self.account}/{self.message}"


@dataclass(frozen=True, slots=True)
class MediaRef:
    """The identity of one media: what links sign, the cache stores and the upstream is asked for."""

    account: AccountSid
    message: MessageSid
    media: MediaSid

    def __post_init__(self) -> None:
        _same_provider(self.account, self.message, self.media)

    @classmethod
    def parse(cls, account: str, message: str, media: str) -> Self:
        """Parse untrusted text. Raises `IdentifierError`."""
        return cls(AccountSid.parse(account), MessageSid.parse(message), MediaSid.parse(media))

    @property
    def provider(self) -> Provider:
        return self.account.provider

    @property
    def parent(self) -> MessageRef:
        return MessageRef(self.account, self.message)

    def __hash__(self) -> int:
        # The last identifier tells nearly all media apart, and a text keeps its hash.
        return hash(self.media.value)

    def __str__(self) -> str:
        return f"{self.account}/{self.message}/{self.media}"
