"""The CDN's answer to the preconditions and the range of a GET or HEAD: one decision, made from values alone."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate
from typing import Final

_RANGE: Final = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_DIGIT_LIMIT: Final = 18
_TAG: Final = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')


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


def parse_date(text: str | None) -> int | None:
    """Return the Unix time of an HTTP-date, which is always in UTC (RFC 9110 §5.6.7), or None if it is not one."""
    moment = parsedate(text or "")
    try:
        return None if moment is None else calendar.timegm(moment)
    except ValueError:
        return None


def parse_etags(value: str) -> list[str]:
    """Return the entity-tags of a field, with their quotes and the `W/` of weak ones (RFC 9110 §8.8.3)."""
    return _TAG.findall(value)


def is_same_weakly(tag: str, other: str) -> bool:
    """Return whether two entity-tags are the same by weak comparison (RFC 9110 §8.8.3.2)."""
    return tag.removeprefix("W/") == other.removeprefix("W/")


def select(headers: Mapping[str, str], etag: str | None, last_modified: int | None, size: int) -> Selection:
    """Decide in the order of RFC 9110 §13.2.2.

    `headers` are looked up without case; `etag` has its quotes; `last_modified` is Unix time; `size` counts octets.
    Several ranges count as none.
    """
    if (matching := headers.get("If-Match")) is not None:
        if not _names(matching, etag, weak=False):
            return PreconditionFailed()
    elif (since := parse_date(headers.get("If-Unmodified-Since"))) is not None and (
        last_modified is not None and last_modified > since
    ):
        return PreconditionFailed()
    if (other := headers.get("If-None-Match")) is not None:
        if _names(other, etag, weak=True):
            return NotModified()
    elif (since := parse_date(headers.get("If-Modified-Since"))) is not None and (
        last_modified is not None and last_modified <= since
    ):
        return NotModified()
    wanted = headers.get("Range")
    if wanted is None or not _resumes(headers.get("If-Range"), etag, last_modified):
        return Whole()
    return _range(wanted, size)


def _names(value: str, etag: str | None, *, weak: bool) -> bool:
    if value == "*":
        return True
    if etag is None:
        return False
    tags = parse_etags(value)
    return any(is_same_weakly(etag, tag) for tag in tags) if weak else _is_strong(etag) and etag in tags


def _resumes(condition: str | None, etag: str | None, last_modified: int | None) -> bool:
    # RFC 9110 §13.1.5: an entity-tag by strong comparison, a date by exact match.
    if condition is None:
        return True
    if _TAG.fullmatch(condition):
        return _is_strong(condition) and condition == etag
    moment = parse_date(condition)
    return moment is not None and moment == last_modified


def _is_strong(etag: str) -> bool:
    return not etag.startswith("W/")


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
