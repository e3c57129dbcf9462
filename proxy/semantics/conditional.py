"""Preconditions (RFC 9110 §13): may a request go on, is the client's copy still good, or has a precondition failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from proxy.semantics.fields import EntityTag, Fields, parse_date, parse_entity_tags

# RFC 9110 §13.2.1: methods that neither select nor modify a representation take no preconditions.
_UNCONDITIONAL: Final = frozenset({"CONNECT", "OPTIONS", "TRACE"})
_CONDITIONS: Final = frozenset({"if-match", "if-unmodified-since", "if-none-match", "if-modified-since"})


@dataclass(frozen=True, slots=True)
class Selected:
    """The validators of the selected representation, with times in Unix seconds by the origin's clock.

    The representation exists: without one the answer is an error, and no precondition is evaluated (RFC 9110 §13.2.1).

    `date` is the stored `Date`, or, if the origin sent none, the time of receipt (RFC 9111 §4.3.2).
    """

    etag: EntityTag | None = None
    last_modified: int | None = None
    date: int | None = None


@dataclass(frozen=True, slots=True)
class Proceed:
    """Every precondition is met: answer as though there were none."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """The client's copy is good: 304."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """A precondition is not met: 412."""


Decision: TypeAlias = Proceed | NotModified | PreconditionFailed


def evaluate(method: str, request: Fields, selected: Selected, now: float) -> Decision:
    """Evaluate the preconditions of a request in the order of RFC 9110 §13.2.2; `If-Range` is `ranges`' own.

    A malformed list of entity-tags matches nothing: under `If-Match` that fails (nothing is done to a representation
    that the client did not name), under `If-None-Match` the answer is whole, and `If-Modified-Since` stays unread.
    """
    if method in _UNCONDITIONAL or not request.has_any(_CONDITIONS):
        return Proceed()
    if (if_match := request.combined("If-Match")) is not None:
        if not _matches(if_match, selected.etag, strong=True):
            return PreconditionFailed()
    elif _modified_after(request.combined("If-Unmodified-Since"), selected.last_modified, now):
        return PreconditionFailed()
    reading = method in ("GET", "HEAD")
    if (if_none_match := request.combined("If-None-Match")) is not None:
        if _matches(if_none_match, selected.etag, strong=False):
            return NotModified() if reading else PreconditionFailed()
    elif reading and _unmodified_since(request.combined("If-Modified-Since"), selected, now):
        return NotModified()
    return Proceed()


def if_range_passes(value: str, selected: Selected, now: float) -> bool:
    """Return whether a `Range` may be honoured under this `If-Range` (RFC 9110 §13.1.5); a malformed one does not pass.

    An entity-tag passes by strong comparison. A date passes if it is exactly `Last-Modified`, and that is a strong
    validator: the origin's `Date` is known and at least a second later (RFC 9110 §8.8.2.2).
    """
    tag = EntityTag.parse(value)
    if tag is not None:
        return selected.etag is not None and tag.strongly_equals(selected.etag)
    if selected.last_modified is None or selected.date is None:
        return False
    strong = selected.date - selected.last_modified >= 1
    return strong and parse_date(value, now) == selected.last_modified


def _matches(value: str, etag: EntityTag | None, *, strong: bool) -> bool:
    """Return whether `*` or a list of entity-tags names the selected representation (RFC 9110 §13.1.1, §13.1.2)."""
    if value == "*":
        return True
    tags = parse_entity_tags(value)
    if tags is None or etag is None:
        return False
    return any(tag.strongly_equals(etag) if strong else tag.weakly_equals(etag) for tag in tags)


def _modified_after(value: str | None, last_modified: int | None, now: float) -> bool:
    """Return whether `If-Unmodified-Since` is false (RFC 9110 §13.1.4); it is ignored without two valid dates."""
    if value is None or last_modified is None:
        return False
    date = parse_date(value, now)
    return date is not None and last_modified > date


def _unmodified_since(value: str | None, selected: Selected, now: float) -> bool:
    """Return whether `If-Modified-Since` is false (RFC 9110 §13.1.3).

    It is compared with `Last-Modified`, or without one with `Date` (RFC 9111 §4.3.2).
    """
    if value is None:
        return False
    modified = selected.date if selected.last_modified is None else selected.last_modified
    date = parse_date(value, now)
    return modified is not None and date is not None and modified <= date
