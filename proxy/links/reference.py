"""A media as an application names it: `ACCOUNT/MESSAGE/MEDIA`, or the URL that its provider gave. Never fetched."""

from __future__ import annotations

import re
from typing import Final

from proxy.errors import IdentifierError
from proxy.model import MediaRef, Provider

_RESOURCE: Final = r"/2010-04-01/Accounts/([^/]+)/Messages?/([^/]+)/Media/([^/]+)"
_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# Host names are compared without case (RFC 3986 §3.2.2); the path is as it is.
_URLS: Final = {
    Provider.TWILIO: re.compile(rf"https://(?i:api(?:\.{_LABEL}){{0,2}}\.twilio\.com)(?::443)?{_RESOURCE}"),
    Provider.SIGNALWIRE: re.compile(rf"https://(?i:{_LABEL}\.signalwire\.com)(?::443)?(?:/api/laml)?{_RESOURCE}"),
}


def parse_reference(text: str) -> MediaRef:
    """`ACCOUNT/MESSAGE/MEDIA`, or a media URL at one of its provider's own API hosts, just as the provider writes it.

    An application has no list of accounts to compare a URL with, so no other host is believed. Raises
    `IdentifierError`, which does not repeat the text.
    """
    if "://" not in text:
        parts = text.split("/")
        if len(parts) != 3:
            raise IdentifierError("is neither ACCOUNT/MESSAGE/MEDIA nor a media URL")
        return MediaRef.parse(*parts)
    for provider, form in _URLS.items():
        match = form.fullmatch(text)
        if match is not None:
            ref = MediaRef.parse(*match.groups())
            if ref.provider is provider:
                return ref
    raise IdentifierError("is no media URL of a provider's")
