"""The metadata of a stored response (RFC 9111 §3), and the rules by which a response may be stored."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

from proxy.semantics.allowed_fields import allowed_fields
from proxy.semantics.directives import CacheControl, parse_seconds
from proxy.semantics.fields import EntityTag, Fields, parse_date, split_list
from proxy.semantics.variants import ANY, selecting, vary


@dataclass(frozen=True, slots=True)
class Validators:
    """The means of validating a stored response (RFC 9111 §4.3.1): field values as the upstream sent them."""

    etag: str | None = None
    last_modified: str | None = None

    def __bool__(self) -> bool:
        return self.etag is not None or self.last_modified is not None


@dataclass(frozen=True)
class StoredMetadata:
    """A stored 200 as the rules see it. No verdict of a policy is kept, so that a new one applies to old responses.

    All that follows from the response alone is worked out once.

    `fields` went through `allowed_fields`, `presented` are the upstream request's fields that can select a variant
    (`variants.selecting`). `requested_at` and `answered_at` are request_time and response_time of RFC 9111 §4.2.3 in
    Unix seconds: of the fill, or of the validation that freshened it last.
    """

    fields: Fields
    requested_at: float
    answered_at: float
    presented: Fields

    @classmethod
    def received(cls, fields: Fields, presented: Fields, *, requested_at: float, answered_at: float) -> StoredMetadata:
        """Take a 200 as received and the request as sent; keep only what may be kept of both."""
        return cls(allowed_fields(fields), requested_at, answered_at, selecting(presented))

    @property
    def validators(self) -> Validators:
        """The well-formed validators; a weak entity-tag validates as well as a strong one (RFC 9110 §13.1.2)."""
        etag = self.fields.single("ETag")
        modified = self.fields.single("Last-Modified")
        return Validators(
            etag if etag is not None and EntityTag.parse(etag) else None,
            modified if modified is not None and parse_date(modified, self.answered_at) is not None else None,
        )

    @cached_property
    def control(self) -> CacheControl:
        """The directives of `Cache-Control`."""
        return CacheControl.of(self.fields)

    @cached_property
    def storability(self) -> Storable | NotStorable:
        """Return whether it may be stored as it is now: a 304 may have brought `no-store`, `private` or `Vary: *`."""
        return storable(200, self.fields)

    @cached_property
    def corrected_initial_age(self) -> float:
        """`corrected_initial_age` of RFC 9111 §4.2.3, in seconds."""
        apparent_age = max(0, self.answered_at - generated_at(self.fields, self.answered_at))
        response_delay = max(0, self.answered_at - self.requested_at)
        return max(apparent_age, _age_value(self.fields) + response_delay)


def generated_at(fields: Fields, answered_at: float) -> float:
    """Return `Date`; if it is missing or invalid, the time of receipt (RFC 9110 §6.6.1)."""
    text = fields.single("Date")
    date = None if text is None else parse_date(text, answered_at)
    return answered_at if date is None else date


def _age_value(fields: Fields) -> int:
    """Return `Age`, the first member of a list; a field that is not a number of seconds is ignored (RFC 9111 §5.1)."""
    members = split_list(fields.combined("Age") or "")
    return (parse_seconds(members[0]) or 0) if members else 0


class StoringBar(enum.Enum):
    """The reason why a response is not stored."""

    STATUS = "status"
    NO_STORE = "no-store"
    PRIVATE = "private"
    VARY = "vary"


@dataclass(frozen=True, slots=True)
class Storable:
    """The response may be stored."""


@dataclass(frozen=True, slots=True)
class NotStorable:
    """The response passes through and is not stored."""

    bar: StoringBar


def storable(status: int, fields: Fields) -> Storable | NotStorable:
    """Return whether a response may be stored (RFC 9111 §3). Its length and its wholeness are the engine's affair.

    A fill carries `Authorization`, and §3.5 keeps a shared cache from using the answer to such a request for others.
    Here the gateway is the authenticated user agent: the credentials are its own, the same for every reader, and what
    authorises a reader is the signed link, which is verified before any look-up. So §3.5 does not forbid storing.
    """
    control = CacheControl.of(fields)
    if status != 200:
        return NotStorable(StoringBar.STATUS)
    if control.forbids_storing:
        return NotStorable(StoringBar.PRIVATE if control.private else StoringBar.NO_STORE)
    if vary(fields) is ANY:  # never selected again (§4.1), so not kept
        return NotStorable(StoringBar.VARY)
    return Storable()
