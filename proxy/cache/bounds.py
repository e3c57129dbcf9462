"""Bounds of the numbers and names in a tier: each one that is read back is checked before it is used.

A disk, a Redis or a file may hold what a fault, another version or another program left there. One stored length of
2⁶⁰ bytes would end a process that makes a list from it. A value out of bounds was not written by this version: it
counts as not stored, or as damage.
"""

from __future__ import annotations

from typing import Final, TypeGuard

LONGEST_BODY: Final = 2**40
"""Bytes of a stored body, at most: no media is longer, and the shared tier has 4 million chunks of one."""

LAST_NUMBER: Final = 2**62
"""The last epoch that an entry may have: microseconds since 1970 or a little more; 2⁵⁸ is the year 9999."""

LAST_EPOCH: Final = 2**60
"""The largest number of an invalidation: there has to be a larger one for what is stored after it."""

LAST_LOGGED: Final = 2**52
"""The last number in the shared log: Redis counts in doubles, which are exact up to there."""

LATEST: Final = 253_402_300_799.0
"""The last second of the year 9999, in Unix time: later moments have no date in HTTP (RFC 9110 §5.6.7)."""

LONGEST_TEXT: Final = 512
"""Characters of a key, a prefix, or the name of a run or generation, at most; a media's key has about a hundred."""

MOST_WORKERS: Final = 2_000
"""Workers of one folder whose reports are read."""


def is_count(value: object, most: int) -> TypeGuard[int]:
    """Return whether a value is a whole number from 0 to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_length(value: object) -> TypeGuard[int]:
    """Return whether a value may be the length of a body, in bytes."""
    return is_count(value, LONGEST_BODY)


def is_number(value: object) -> TypeGuard[int]:
    """Return whether a value may be the number of an erasure."""
    return is_count(value, LAST_NUMBER)


def is_time(value: object) -> TypeGuard[float]:
    """Return whether a value may be a moment, in Unix seconds: neither NaN nor infinite, and one that has a date."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LATEST


def is_text(value: object) -> TypeGuard[str]:
    """Return whether a value may be a key, a prefix or a name."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT
