"""A media as an application or a provider names it: `ACCOUNT/MESSAGE/MEDIA`, a URL, or a URL's path. Never fetched.

One grammar for all readers of such names: `LinkMinter`, the command line, and every call that takes a `url`. What a URL
says of its host is the reader's to judge: the gateway compares it with its accounts, a minter knows the providers' own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from proxy.errors import IdentifierError
from proxy.model import MediaRef, Provider

PREFIXES: Final[Mapping[Provider, tuple[str, ...]]] = MappingProxyType(
    {
        Provider.TWILIO: ("/2010-04-01",),
        # SignalWire also answers without the prefix, which an older client of its own uses.
        Provider.SIGNALWIRE: ("/api/laml/2010-04-01", "/2010-04-01"),
    }
)
"""The beginnings of the paths of each provider's API; its own choice first."""

# The suffix names a form of the media's properties, and is the URL's: a media is one with it or without.
_URL: Final = re.compile(
    r"(?:(?P<scheme>https?)://(?P<authority>[A-Za-z0-9_.:\[\]-]+))?"
    r"(?P<prefix>(?:/api/laml)?/2010-04-01)/Accounts/(?P<account>[A-Za-z0-9-]+)"
    r"/Messages?/(?P<message>[A-Za-z0-9-]+)/Media/(?P<media>[A-Za-z0-9-]+)(?:\.json|\.xml)?"
)
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_API_HOSTS: Final = {
    # An edge and a region may stand in the name, or a region alone.
    Provider.TWILIO: re.compile(rf"api(?:\.{_LABEL}){{0,2}}\.twilio\.com"),
    Provider.SIGNALWIRE: re.compile(rf"{_LABEL}\.signalwire\.com"),
}


class MediaUrl(NamedTuple):
    """The media that a URL names, and the place where the URL says it is; only the form is checked.

    `origin` is scheme, host and port as they stand, in lower case (RFC 3986 §3.2.2: a host has no case). It is None
    for a path alone, as the API gives it in `uri`.
    """

    ref: MediaRef
    prefix: str
    origin: str | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL, or the path of one, that names a media and nothing else.

        It has no user, query, fragment, dot segment or empty segment, and its path is one of the provider's whose
        identifiers it holds. Raises `IdentifierError`, which does not repeat the text.
        """
        match = _URL.fullmatch(url)
        if match is None:
            raise IdentifierError("is not the URL of a media at its provider")
        ref = MediaRef.parse(match["account"], match["message"], match["media"])
        if match["prefix"] not in PREFIXES[ref.provider]:
            raise IdentifierError("is not the URL of a media at its provider")
        scheme, authority = match["scheme"], match["authority"]
        return cls(ref, match["prefix"], None if scheme is None else f"{scheme}://{authority.lower()}")


def is_api_host(host: str, provider: Provider) -> bool:
    """Return whether a host, in lower case, is one of the provider's own API."""
    return _API_HOSTS[provider].fullmatch(host) is not None


def is_url(text: str) -> bool:
    """Return whether a reference is written as a URL or the path of one, and not as `ACCOUNT/MESSAGE/MEDIA`."""
    return text.startswith("/") or "://" in text


def parse_reference(text: str) -> MediaRef:
    """Read `ACCOUNT/MESSAGE/MEDIA`, or a media's URL at one of its provider's own API hosts, or the path of that.

    An application has no list of accounts to compare a URL with, so no other host is believed. Raises
    `IdentifierError`, which does not repeat the text.
    """
    if not is_url(text):
        parts = text.split("/")
        if len(parts) != 3:
            raise IdentifierError("is neither ACCOUNT/MESSAGE/MEDIA nor the URL of a media at its provider")
        return MediaRef.parse(*parts)
    named = MediaUrl.parse(text)
    if named.origin is not None:
        scheme, _, authority = named.origin.partition("://")
        if scheme != "https" or not is_api_host(authority.removesuffix(":443"), named.ref.provider):
            raise IdentifierError("is not the URL of a media at its provider")
    return named.ref
