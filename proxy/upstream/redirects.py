"""The decision whether a redirect is followed, and with or without credentials. Pure.

Credentials go to the configured origin alone, and only for as long as the walk has not left it and asks for that
media's own path. All other hops go to places on the account's list, without them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urljoin

from yarl import URL

from proxy.errors import UpstreamMalformed, UpstreamRedirectRefused
from proxy.model import MediaRef
from proxy.semantics.fields import Fields
from proxy.upstream.providers import Account, WebOrigin, media_path, media_paths

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_HOPS: Final = 3
"""The most redirects that are followed for one media."""

_MAX_LOCATION: Final = 8_192
# Printable ASCII, without white space and without the backslash that some parsers take for a slash.
_LOCATION: Final = re.compile(r"[!-\[\]-~]+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ABSOLUTE: Final = re.compile(r"(?P<scheme>[^:/?#]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?")


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of the walk to a media. `number` is 0 for the origin's own, then counts the redirects."""

    origin: WebOrigin
    target: str
    """Path and query as they go out, byte for byte."""
    credentials: bool
    number: int = 0

    @property
    def url(self) -> URL:
        return URL(f"{self.origin}{self.target}", encoded=True)


def first_hop(account: Account, ref: MediaRef) -> Hop:
    """Return the hop that the walk begins with, which carries the account's credentials."""
    return Hop(account.origin, media_path(ref), credentials=True)


def follow(account: Account, ref: MediaRef, hop: Hop, fields: Fields) -> Hop:
    """Return the next hop after a redirect that answered `hop` with these fields.

    Raises `UpstreamMalformed` if there is not one usable `Location`, `UpstreamRedirectRefused` if it leads to a
    place that is not allowed. What they note for the log never holds a path or a query.
    """
    location = _location(fields)
    if hop.number == MAX_HOPS:
        raise UpstreamRedirectRefused(note=f"more than {MAX_HOPS} redirects")
    origin, path, query = _resolve(hop, location)
    own = origin == account.origin and path in media_paths(ref)
    if hop.credentials and own:
        return Hop(origin, path + query, credentials=True, number=hop.number + 1)
    # Dot segments could lead out of the folder that a place is limited to, on a server that resolves them late.
    if not {".", ".."}.isdisjoint(re.split(r"[/\\]", unquote(path))):
        raise UpstreamRedirectRefused(note=f"a path with dot segments at {origin}")
    if not any(place.origin == origin and path.startswith(place.path_prefix) for place in account.places):
        raise UpstreamRedirectRefused(note=f"{origin} is not a place that a redirect of {account.sid} may lead to")
    return Hop(origin, path + query, credentials=False, number=hop.number + 1)


def _location(fields: Fields) -> str:
    values = fields.all("Location")
    if len(values) != 1:
        raise UpstreamMalformed(note=f"a redirect with {len(values)} Location fields")
    (value,) = values
    if len(value) > _MAX_LOCATION or not _LOCATION.fullmatch(value):
        raise UpstreamMalformed(note="a redirect whose Location is not a URI reference")
    # The fragment is the user agent's own and is never sent (RFC 9110 §7.1).
    return value.partition("#")[0]


def _resolve(hop: Hop, location: str) -> tuple[WebOrigin, str, str]:
    """Return origin, path and query of a Location (RFC 3986 §5.2); path and query as they were written."""
    if _SCHEME.match(location):
        absolute = location
    elif location.startswith("//"):
        absolute = f"{hop.origin.scheme}:{location}"
    else:
        absolute = urljoin(f"{hop.origin}{hop.target}", location)
    match = _ABSOLUTE.fullmatch(absolute)
    if match is None:
        raise UpstreamMalformed(note="a redirect whose Location is not a URL")
    if "@" in match["authority"]:
        raise UpstreamRedirectRefused(note="a redirect with user information")
    origin = WebOrigin.parse(f"{match['scheme']}://{match['authority']}".lower())
    if origin is None:
        raise UpstreamRedirectRefused(note="a redirect that leads to no http or https origin")
    return origin, match["path"] or "/", match["query"] or ""
