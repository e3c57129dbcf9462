"""The header fields of a good answer with a media."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.cache.result import CacheResult
from proxy.links import NO_CLAIMS, Claims
from proxy.model import Clock, MediaRef
from proxy.semantics.conditional import Selected
from proxy.semantics.disposition import (
    content_disposition,
    content_security_policy,
    described,
    display,
    saved_name,
)
from proxy.semantics.fields import format_date, parse_date
from proxy.semantics.freshness import client_lifetime, whole_age
from proxy.semantics.ranges import Multipart, Span, content_range
from proxy.semantics.targeted import for_shared_caches

_FIXED: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to a media until a Unix second, shown as the claims say.

    `shared_caches`: a cache in front may store the answer (`GATEWAY_CDN`), unless the upstream forbids it.
    """

    ref: MediaRef
    expires: int
    claims: Claims = NO_CLAIMS
    shared_caches: bool = False


class AnswerFields:
    """The fields of the answer to one grant, from a representation that has just been opened.

    Ages and lifetimes are those at the call of a method: bytes that had to be waited for are older by then, and less is
    left of the grant.
    """

    def __init__(self, grant: Grant, opened: CacheResult, clock: Clock) -> None:
        self._grant = grant
        self._opened = opened
        self._clock = clock
        self._opened_at = clock()
        metadata = opened.representation.metadata
        fields = metadata.fields
        self._control = metadata.control
        self._shared_caches = grant.shared_caches and not self._control.forbids_storing
        modified, date = fields.single("Last-Modified"), fields.single("Date")
        received = metadata.answered_at
        self.content_type = described(fields.single("Content-Type"), utf8=opened.body.utf8)
        self.selected = Selected(
            opened.representation.etag,
            None if modified is None else parse_date(modified, received),
            int(received) if date is None else parse_date(date, received),
        )

    def not_modified(self) -> dict[str, str]:
        """Return the fields of a 304: those about caching that the 200 would have had (RFC 9110 §15.4.5)."""
        return self._caching()

    def whole(self, length: int | None) -> dict[str, str]:
        """Return the fields of a 200 of `length` bytes; None if the length is not known."""
        headers = self._representation()
        if length is not None:
            headers["Content-Length"] = str(length)
        return headers

    def part(self, span: Span, length: int) -> dict[str, str]:
        """Return the fields of a 206 with one part."""
        headers = self._representation()
        headers["Content-Range"] = content_range(span, length)
        headers["Content-Length"] = str(span.size)
        return headers

    def parts(self, framed: Multipart) -> dict[str, str]:
        """Return the fields of a 206 with several parts."""
        headers = self._representation()
        headers["Content-Type"] = framed.content_type
        headers["Content-Length"] = str(framed.content_length)
        return headers

    def _representation(self) -> dict[str, str]:
        fields = self._opened.representation.metadata.fields
        claims = self._grant.claims
        kind = display(self.content_type, claims.disposition)
        given = fields.single("Content-Disposition")
        filename = claims.filename or saved_name(given, self.content_type, str(self._grant.ref.media))
        headers = self._caching()
        headers["Content-Type"] = self.content_type
        headers["Content-Disposition"] = content_disposition(kind, filename)
        headers["Content-Security-Policy"] = content_security_policy(self.content_type)
        language = fields.combined("Content-Language")
        if language is not None:
            headers["Content-Language"] = language
        return headers

    def _caching(self) -> dict[str, str]:
        opened, grant, now = self._opened, self._grant, self._clock()
        since = max(0.0, now - self._opened_at)
        age = opened.age + since
        # Under `no-cache` neither the gateway nor the client may reuse the response without validation.
        remaining = 0.0 if self._control.no_cache else opened.remaining - since
        lifetime = client_lifetime(age, grant.expires - now, remaining)
        directives = ["public" if self._shared_caches else "private", f"max-age={lifetime}"]
        if self._control.no_store and self._control.forbids_storing:
            directives.append("no-store")
        headers = {
            "ETag": str(opened.representation.etag),
            "Accept-Ranges": "bytes",
            "Age": str(whole_age(age)),
            "Cache-Control": ", ".join(directives),
            "Cache-Status": str(opened.status),
            **_FIXED,
        }
        if self.selected.date is not None:
            headers["Date"] = format_date(self.selected.date)
        if self.selected.last_modified is not None:
            headers["Last-Modified"] = format_date(self.selected.last_modified)
        if self._shared_caches:
            headers |= for_shared_caches(grant.ref, lifetime)
        return headers
