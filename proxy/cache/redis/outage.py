"""The policy for an outage of the shared tier: how far a stored response may be used before its upstream is asked.

Invalidations are refused meanwhile: see `follower`, and rule 10 of `cache.invalidation`.

1. A worker that hears of every invalidation uses what is stored by its own lifetime.
2. A stored response from before a gap in what the worker has heard is used only after it was validated. A worker that
   has not reached the tier since it started has such a gap before its start.
3. While the tier is away, `bounded` validates a stored response at most once in a period. Where the upstream cannot be
   asked, what is fresh is used, and what is stale as `stale-if-error` says.
4. `strict` validates each use, and uses nothing that could not be validated.
5. A worker that cannot tell whether the tier is away, since it stood still itself, validates first.

Periods differ by media and by time, so that what was validated together is not validated together again.
"""

from __future__ import annotations

import enum
import zlib
from typing import Final

from proxy.settings import SharedAway

VALIDATION_SECONDS: Final = 10.0
"""The shortest time between two validations of one media while the tier is away."""
SPREAD: Final = 0.25
"""The largest part of `VALIDATION_SECONDS` by which a period is longer."""


class Contact(enum.Enum):
    """The state of a worker's knowledge of the log."""

    CURRENT = "it has heard of every invalidation"
    UNKNOWN = "it has not asked for too long"
    AWAY = "it asked, and had no answer"


class Trust(enum.Enum):
    """The extent to which a stored response may be used."""

    FULL = "by its own lifetime"
    FALLBACK = "where its upstream was asked, and could not say whether it is good"
    NONE = "where its upstream has said that it is good"


def period(key: str, began: float) -> float:
    """Return the seconds that a validation of `key`, which began at that Unix time, is good for."""
    return VALIDATION_SECONDS * (1.0 + SPREAD * zlib.crc32(f"{key} {began!r}".encode()) / 2**32)


def is_recent(key: str, began: float, now: float) -> bool:
    """Return whether a validation that began then is still good; none is if the clock was set back."""
    return 0.0 <= now - began < period(key, began)


def trust(
    mode: SharedAway, contact: Contact, *, behind: bool, key: str, validated_at: float, asked_at: float, now: float
) -> Trust:
    """Return how far the stored response of `key` may be used; times are Unix seconds.

    `behind`: it is from before a gap in what was heard. `validated_at` is when its upstream last said that it is good,
    `asked_at` when any worker of the node last began to ask that (0 for never).
    """
    if behind:
        return Trust.NONE
    if contact is Contact.CURRENT:
        return Trust.FULL
    if contact is Contact.UNKNOWN or mode is SharedAway.STRICT:
        return Trust.NONE
    if is_recent(key, validated_at, now) or is_recent(key, asked_at, now):
        return Trust.FULL
    return Trust.FALLBACK
