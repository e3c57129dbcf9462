"""The CDN's answer to the preconditions and the range of a GET or HEAD: one decision, made from values alone."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from email.utils import parsedate
from functools import lru_cache
from typing import Final, NamedTuple

_RANGE: Final = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_DIGIT_LIMIT: Final = 18
_TAG: Final = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')


class Selection(NamedTuple):
    """The status of an answer and the octets in it: 200 with all, 206 with some, 304, 412 or 416 with none."""

    status: int
    octets: range = range(0)


@lru_cache(1_024)
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
            return Selection(412)
    elif (since := parse_date(headers.get("If-Unmodified-Since"))) is not None and (
        last_modified is not None and last_modified > since
    ):
        return Selection(412)
    if (other := headers.get("If-None-Match")) is not None:
        if _names(other, etag, weak=True):
            return Selection(304)
    elif (since := parse_date(headers.get("If-Modified-Since"))) is not None and (
        last_modified is not None and last_modified <= since
    ):
        return Selection(304)
    wanted = headers.get("Range")
    part = _range(wanted, size) if wanted and _resumes(headers.get("If-Range"), etag, last_modified) else None
    if part is None:
        return Selection(200, range(size))
    return Selection(206, part) if part else Selection(416)


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


def _range(value: str, size: int) -> range | None:
    """Return the octets of a single range: no octets if it cannot be satisfied, None if the field does not count."""
    match = _RANGE.fullmatch(value.strip())
    if match is None or not any(match.groups()) or max(map(len, match.groups())) > _DIGIT_LIMIT:
        return None
    start, end = match.groups()
    if not start:
        return range(max(size - int(end), 0), size)
    if end and int(end) < int(start):
        return None
    return range(int(start), min(int(end) + 1, size) if end else size)
