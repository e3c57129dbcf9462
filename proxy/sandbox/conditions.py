"""What a CDN answers to the preconditions and the range of a GET or HEAD: one decision, made from values alone.

Kept apart from the gateway's own rules on purpose: a stand-in that shared them would share their mistakes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from proxy.semantics.fields import EntityTag, Fields, parse_date, parse_entity_tags

_RANGE: Final = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_DIGIT_LIMIT: Final = 18


@dataclass(frozen=True, slots=True)
class Whole:
    """200 with everything."""


@dataclass(frozen=True, slots=True)
class Part:
    """206 with the octets from `first` to `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class NotModified:
    """304."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """412."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416."""


Selection = Whole | Part | NotModified | PreconditionFailed | Unsatisfiable


def select(fields: Fields, etag: str | None, last_modified: int | None, size: int, now: float) -> Selection:
    """In the order of RFC 9110 §13.2.2. `etag` has its quotes; several ranges count as none."""
    if (matching := fields.combined("If-Match")) is not None:
        if not _names(matching, etag, weak=False):
            return PreconditionFailed()
    elif (since := _date(fields, "If-Unmodified-Since", now)) is not None and _later(last_modified, since):
        return PreconditionFailed()
    if (other := fields.combined("If-None-Match")) is not None:
        if _names(other, etag, weak=True):
            return NotModified()
    elif (since := _date(fields, "If-Modified-Since", now)) is not None and (
        last_modified is not None and last_modified <= since
    ):
        return NotModified()
    wanted = fields.single("Range")
    if wanted is None or not _still_the_same(fields, etag, last_modified, now):
        return Whole()
    return _range(wanted, size)


def _date(fields: Fields, name: str, now: float) -> int | None:
    value = fields.single(name)
    return None if value is None else parse_date(value, now)


def _later(last_modified: int | None, since: int) -> bool:
    return last_modified is not None and last_modified > since


def _names(value: str, etag: str | None, *, weak: bool) -> bool:
    if value == "*":
        return True
    own = EntityTag.parse(etag) if etag else None
    if own is None:
        return False
    tags = parse_entity_tags(value) or ()
    return any(own.weakly_equals(tag) if weak else own.strongly_equals(tag) for tag in tags)


def _still_the_same(fields: Fields, etag: str | None, last_modified: int | None, now: float) -> bool:
    # RFC 9110 §13.1.5: an entity-tag by strong comparison, a date by exact match.
    condition = fields.single("If-Range")
    if condition is None:
        return "If-Range" not in fields
    tag = EntityTag.parse(condition)
    if tag is not None:
        own = EntityTag.parse(etag) if etag else None
        return own is not None and own.strongly_equals(tag)
    moment = parse_date(condition, now)
    return moment is not None and moment == last_modified


def _range(value: str, size: int) -> Selection:
    match = _RANGE.fullmatch(value.strip())
    if match is None or len(match[1]) > _DIGIT_LIMIT or len(match[2]) > _DIGIT_LIMIT:
        return Whole()
    start, end = match[1], match[2]
    if not start:
        if not end:
            return Whole()
        length = min(int(end), size)
        return Part(size - length, size - 1) if length else Unsatisfiable()
    first, last = int(start), int(end) if end else size - 1
    if end and last < first:
        return Whole()
    return Part(first, min(last, size - 1)) if first < size else Unsatisfiable()
