"""Purges at a CDN in front, as settings write them. Parsers raise `ValueError`, and repeat nothing of the value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pydantic import SecretStr

from proxy.settings.addresses import UrlOrigin, parse_upstream
from proxy.settings.values import parse_text

_URL: Final = re.compile(r"(?P<origin>(?i:https?)://[^/?#]+)(?P<target>/[!\"$-~]*)?")
_HEADER: Final = re.compile(
    r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*(?P<value>[!-~](?:[ -~]{0,8000}[!-~])?)"
)
# Fields that make up the request itself.
_TAKEN: Final = frozenset(
    {"connection", "content-length", "content-type", "host", "surrogate-key", "te", "trailer", "transfer-encoding"}
)


@dataclass(frozen=True, slots=True)
class PurgeUrl:
    """The URL to which purges are sent: an origin, and path and query as written."""

    origin: UrlOrigin
    target: str = field(repr=False)


def parse_purge_url(written: object) -> PurgeUrl:
    """Parse `https://host[:port]/path?query`, or `http` on a loopback host."""
    match = _URL.fullmatch(parse_text(written))
    if match is None:
        raise ValueError("expected an https URL without a user and a fragment")
    return PurgeUrl(parse_upstream(match["origin"]), match["target"] or "/")


@dataclass(frozen=True, slots=True)
class PurgeHeader:
    """The header field by which the CDN knows the gateway."""

    name: str
    value: SecretStr


def parse_purge_header(written: object) -> PurgeHeader:
    """Parse `Name: value`."""
    match = _HEADER.fullmatch(parse_text(written))
    if match is None:
        raise ValueError("expected a header field, Name: value")
    if match["name"].lower() in _TAKEN:
        raise ValueError("is a header field that the request already has")
    return PurgeHeader(match["name"], SecretStr(match["value"]))
