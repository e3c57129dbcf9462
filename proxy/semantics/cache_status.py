"""`Cache-Status` (RFC 9211): what this cache did with a request, as a structured field (RFC 9651)."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from proxy.semantics.fields import quote

CACHE_NAME: Final = "media-gateway"

_SF_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")  # RFC 9651 §3.3.4
_SF_STRING: Final = re.compile(r"[\x20-\x7e]*")  # RFC 9651 §3.3.3
_SF_LARGEST: Final = 999_999_999_999_999  # RFC 9651 §3.3.1


class Fwd(enum.StrEnum):
    """The reason why a request went forward to the upstream: those that are registered (RFC 9211 §2.2)."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    MISS = "miss"
    REQUEST = "request"
    STALE = "stale"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatus:
    """This cache's member of the field. Raises `ValueError` for facts that exclude each other.

    `hit` and `fwd` exclude each other; with neither, the answer is the gateway's own (RFC 9211 §2.1). `fwd_status`,
    `stored` and `collapsed` describe a forwarded request. `ttl` is the remaining freshness in whole seconds, negative
    when stale. `detail` is free ASCII text. There is no `key`: it would tell what the link is for.
    """

    hit: bool = False
    fwd: Fwd | None = None
    fwd_status: int | None = None
    stored: bool = False
    collapsed: bool = False
    ttl: int | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        if self.hit and self.fwd is not None:
            raise ValueError("a hit was not forwarded")
        if self.fwd is None and (self.fwd_status is not None or self.stored or self.collapsed):
            raise ValueError("fwd-status, stored and collapsed need fwd")
        if self.detail is not None and not _SF_STRING.fullmatch(self.detail):
            raise ValueError("detail is printable ASCII")

    def __str__(self) -> str:
        """Return the field value."""
        parameters: list[str] = []
        if self.hit:
            parameters.append("hit")
        if self.fwd is not None:
            parameters.append(f"fwd={self.fwd}")
        if self.fwd_status is not None:
            parameters.append(f"fwd-status={self.fwd_status}")
        if self.stored:
            parameters.append("stored")
        if self.collapsed:
            parameters.append("collapsed")
        if self.ttl is not None:
            parameters.append(f"ttl={max(-_SF_LARGEST, min(self.ttl, _SF_LARGEST))}")
        if self.detail is not None:
            parameters.append(f"detail={self.detail if _SF_TOKEN.fullmatch(self.detail) else quote(self.detail)}")
        return "; ".join([CACHE_NAME, *parameters])
