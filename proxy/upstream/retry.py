"""The rules by which a failed attempt is made again, and after how long. Pure: random number and time are passed in.

Only an attempt that failed before the first byte of an answer comes here.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from typing import Final

from proxy.errors import UpstreamError
from proxy.semantics.fields import Fields, parse_date

_DELTA: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
MAX_RETRY_AFTER: Final = 3_600.0
"""The longest wait in seconds that is believed and passed on."""


class Cause(enum.Enum):
    """The reason why an attempt may be made again."""

    UNREACHABLE = enum.auto()
    """No connection, so nothing was asked."""
    BROKEN = enum.auto()
    """The connection broke before an answer: what was asked may have been done."""
    BUSY = enum.auto()
    """429."""
    UNAVAILABLE = enum.auto()
    """502, 503 or 504."""
    NOT_FOUND = enum.auto()
    """404: the message may be known before its media is."""
    STALE_LOCATION = enum.auto()
    """A later hop's 403: what the first hop gave may have expired."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """All times in seconds. `attempts` counts the first one too."""

    attempts: int = 3
    base: float = 0.25
    longest: float = 4.0
    retry_after_cap: float = 10.0
    not_found_waits: tuple[float, ...] = (1.0, 3.0)
    """The seconds between the requests for the media of a new message, from its first 404 on."""
    within: float = 30.0
    """No attempt begins later than this after the first."""


@dataclass(frozen=True, slots=True)
class Tries:
    """The attempts that have failed so far."""

    failures: int = 0
    not_found: int = 0
    resolved_again: bool = False

    def after(self, cause: Cause) -> Tries:
        """Count one more failed attempt."""
        if cause is Cause.NOT_FOUND:
            return replace(self, not_found=self.not_found + 1)
        if cause is Cause.STALE_LOCATION:
            return replace(self, resolved_again=True)
        return replace(self, failures=self.failures + 1)


def next_wait(
    policy: RetryPolicy,
    cause: Cause,
    tries: Tries,
    *,
    not_found_wait: float | None,
    retry_after: float | None,
    elapsed: float,
    random: float,
) -> float | None:
    """Return the seconds until the next attempt; None if there is none.

    `tries` are the failures before this one; `elapsed` the seconds since the first attempt began; `random` lies in
    [0, 1). `not_found_wait`: that of `MessageWaits` after a 404. A wait that the upstream asks for is kept: if it
    is longer than the cap, there is no other attempt.
    """
    wait: float | None
    match cause:
        case Cause.NOT_FOUND:
            wait = not_found_wait
        case Cause.STALE_LOCATION:
            wait = None if tries.resolved_again else 0.0
        case Cause.UNREACHABLE | Cause.BROKEN | Cause.BUSY | Cause.UNAVAILABLE:
            if tries.failures + 1 >= policy.attempts:
                wait = None
            elif retry_after is not None:
                wait = retry_after if retry_after <= policy.retry_after_cap else None
            else:
                # Full jitter: anywhere between nothing and a bound that doubles.
                wait = random * min(policy.longest, policy.base * 2**tries.failures)
    return wait if wait is not None and elapsed + wait <= policy.within else None


def parse_retry_after(fields: Fields, now: float) -> float | None:
    """Read `Retry-After` in seconds (RFC 9110 §10.2.3), 0 to `MAX_RETRY_AFTER`; None if absent or malformed."""
    value = fields.single("Retry-After")
    if value is None:
        return None
    if _DELTA.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER)
    date = parse_date(value, now)
    return None if date is None else min(max(0.0, date - now), MAX_RETRY_AFTER)


class Setback(Exception):
    """An attempt failed in a way that may pass. `error` is raised if no other attempt is made."""

    def __init__(self, error: UpstreamError, cause: Cause, retry_after: float | None = None) -> None:
        super().__init__(cause.name)
        self.error = error
        self.cause = cause
        self.retry_after = retry_after
