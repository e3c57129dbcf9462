"""The kinds of faults: a closed union of frozen values, which can also be written in JSON.

Each fault can act at some points of the exchange, and acts at the first of them unless another one is named.
"""

from __future__ import annotations

import enum
from typing import Final, assert_never

import msgspec

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Point(enum.StrEnum):
    """The answer that a fault spoils."""

    CONTENT = "content"
    """The API's answer to a fetch of bytes: the first hop, or the bytes themselves in the direct mode."""
    BYTES = "bytes"
    """The answer that carries the bytes, on either origin."""
    PROPERTIES = "properties"
    """A media's properties."""
    LIST = "list"
    """A message's media list."""
    DELETE = "delete"
    """The deletion of a media or a message."""
    CREATE = "create"
    """A message's creation."""
    MESSAGES = "messages"
    """A message, or the list of messages."""


class _Kind(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    pass


class Status(_Kind, frozen=True, tag="status"):
    """An error in the origin's own form; `retry_after` is sent exactly as given."""

    status: int
    retry_after: str | None = None

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError("status is from 400 to 599")


class Disconnect(_Kind, frozen=True, tag="disconnect"):
    """A connection that closes with no answer."""


class Raw(_Kind, frozen=True, tag="raw"):
    """An answer of exactly these octets, then the connection closes. Base64 in JSON."""

    octets: bytes


class StallHeaders(_Kind, frozen=True, tag="stall-headers"):
    """An answer that begins only when the rule is released, and is then a good one."""


class StallBody(_Kind, frozen=True, tag="stall-body"):
    """A body that stops after `after` octets until the rule is released."""

    after: int

    def __post_init__(self) -> None:
        _positive(self.after)


class Truncate(_Kind, frozen=True, tag="truncate"):
    """A connection that closes after `after` octets of a body whose Content-Length announces all of them."""

    after: int

    def __post_init__(self) -> None:
        _positive(self.after)


class Overrun(_Kind, frozen=True, tag="overrun"):
    """A body with `extra` octets more than Content-Length announces, then the connection closes."""

    extra: int

    def __post_init__(self) -> None:
        if not 1 <= self.extra <= 10**7:
            raise ValueError("extra is from 1 to 10^7 octets")


class Oversize(_Kind, frozen=True, tag="oversize"):
    """A body of `size` octets, the media's again and again; without `announced` it is chunked, its length unsaid."""

    size: int
    announced: bool = True

    def __post_init__(self) -> None:
        _positive(self.size)


class Unlengthed(_Kind, frozen=True, tag="unlengthed"):
    """A whole body with no Content-Length: chunked, or else ended by the connection's close alone."""

    chunked: bool = False


class WrongType(_Kind, frozen=True, tag="wrong-type"):
    """Another Content-Type than the media's."""

    content_type: str


class Headers(_Kind, frozen=True, tag="headers"):
    """Response fields put in place of, or taken from, those of a good answer."""

    put: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()


class RedirectStatus(_Kind, frozen=True, tag="redirect-status"):
    """The usual redirect under another status code."""

    status: int

    def __post_init__(self) -> None:
        _redirect(self.status)


class RedirectHops(_Kind, frozen=True, tag="redirect-hops"):
    """A way of `hops` redirects in all before the bytes, each on the CDN but the first."""

    hops: int = 2
    status: int = 307

    def __post_init__(self) -> None:
        _redirect(self.status)
        if not 1 <= self.hops <= 99:
            raise ValueError("hops is from 1 to 99")


class RedirectLoop(_Kind, frozen=True, tag="redirect-loop"):
    """A way of redirects without an end, each to an address not seen before."""

    status: int = 307

    def __post_init__(self) -> None:
        _redirect(self.status)


class RedirectTo(_Kind, frozen=True, tag="redirect-to"):
    """A redirect to exactly this Location: a downgrade to http, a foreign host, anything."""

    location: str
    status: int = 307

    def __post_init__(self) -> None:
        _redirect(self.status)


Anywhere = Status | Disconnect | Raw | StallHeaders
Dressing = WrongType | Headers
Bodily = StallBody | Truncate | Overrun | Oversize | Unlengthed
Redirecting = RedirectStatus | RedirectHops | RedirectLoop | RedirectTo
Fault = Anywhere | Dressing | Bodily | Redirecting


def _positive(count: int) -> None:
    if not 0 <= count <= 10**12:
        raise ValueError("a count of octets is from 0 to 10^12")


def _redirect(status: int) -> None:
    if status not in _REDIRECTS:
        raise ValueError("a redirect is 301, 302, 303, 307 or 308")


def points(fault: Fault) -> tuple[Point, ...]:
    """Return the points at which a fault can act; it acts at the first one unless another one is named."""
    match fault:
        case Status() | Disconnect() | Raw() | StallHeaders():
            return tuple(Point)
        case WrongType() | Headers():
            return (Point.BYTES, *(point for point in Point if point is not Point.BYTES))
        case StallBody() | Truncate() | Overrun() | Oversize() | Unlengthed():
            return (Point.BYTES,)
        case RedirectStatus() | RedirectHops() | RedirectLoop() | RedirectTo():
            return (Point.CONTENT,)
        case _:
            assert_never(fault)
