"""A worker's counts: the ends of its requests for media, and the usage of its RAM tier."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from proxy.semantics.cache_status import CacheStatus
from proxy.telemetry.metrics import CacheOutcome

STALE_IF_ERROR = "stale-if-error"
"""The `detail` of an answer that is served stale because the upstream failed (RFC 5861 §4)."""

UNVALIDATED = "unvalidated"
"""The `detail` of an answer that is fresh, but could not be validated as it should have been."""

FROM_SHARED = "shared"
"""The `detail` of an answer that the shared tier had."""


class Counter(enum.StrEnum):
    """The ways in which a request for a media ends. Each request counts once, before its answer is sent."""

    RAM_HITS = "ram_hits"
    """Fresh, with the bytes from RAM."""
    DISK_HITS = "disk_hits"
    """Fresh, with the bytes from disk."""
    SHARED_HITS = "shared_hits"
    """Fresh, with the bytes from the shared tier."""
    STALE = "stale"
    """Stale, as RFC 5861 allows."""
    VALIDATED = "validated"
    """Stored, after the upstream said 304."""
    MISSES = "misses"
    """Fetched from the upstream."""
    COLLAPSED = "collapsed"
    """Answered by the fetch or the validation of another request."""
    NEGATIVE_HITS = "negative_hits"
    """404, from a 404 that is remembered."""
    NOT_FOUND = "not_found"
    """404, as the upstream said."""
    ERRORS = "errors"
    """An error of the upstream or of the gateway."""


_HITS = (Counter.RAM_HITS, Counter.DISK_HITS, Counter.SHARED_HITS, Counter.STALE)
_ANSWERS = (*_HITS, Counter.VALIDATED, Counter.MISSES, Counter.COLLAPSED)


OUTCOMES = MappingProxyType(
    {
        Counter.RAM_HITS: CacheOutcome.HIT_RAM,
        Counter.DISK_HITS: CacheOutcome.HIT_DISK,
        Counter.SHARED_HITS: CacheOutcome.HIT_SHARED,
        Counter.STALE: CacheOutcome.STALE,
        Counter.VALIDATED: CacheOutcome.VALIDATED,
        Counter.MISSES: CacheOutcome.MISS,
        Counter.COLLAPSED: CacheOutcome.COLLAPSED,
    }
)
"""The metric's label for the source of a good answer's bytes."""


def counter_of(status: CacheStatus, *, stale: bool, in_ram: bool) -> Counter:
    """Return the counter of a good answer. `stale`: it was reused stale; `in_ram`: RAM had its bytes before."""
    if stale or status.detail == STALE_IF_ERROR:
        return Counter.STALE
    if status.detail == FROM_SHARED:
        return Counter.SHARED_HITS
    if status.hit or status.detail == UNVALIDATED:
        return Counter.RAM_HITS if in_ram else Counter.DISK_HITS
    if status.collapsed:
        return Counter.COLLAPSED
    return Counter.VALIDATED if status.fwd_status == 304 else Counter.MISSES


def hit_ratio(counts: Mapping[Counter, int]) -> float | None:
    """Return the share of good answers that did not wait for the upstream, from 0 to 1; None if there is none."""
    answers = sum(counts.get(counter, 0) for counter in _ANSWERS)
    return sum(counts.get(counter, 0) for counter in _HITS) / answers if answers else None


class Counters:
    """Counts since the start, which only grow, and the part of them that has been written to the folder.

    The loop's thread adds. One other thread may write them meanwhile, and is the only one that knows what is written.
    """

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Counter, 0)
        self._written = dict.fromkeys(Counter, 0)

    def add(self, counter: Counter, times: int = 1) -> None:
        """Count one more, or `times` more."""
        self._counts[counter] += times

    def unwritten(self) -> dict[Counter, int]:
        """Return the counts that are not written yet."""
        counts = {counter: count - self._written[counter] for counter, count in self._counts.items()}
        return {counter: count for counter, count in counts.items() if count}

    def note_written(self, counts: Mapping[Counter, int]) -> None:
        """Note that these counts, which came from `unwritten`, are written."""
        for counter, count in counts.items():
            self._written[counter] += count


@dataclass(frozen=True, slots=True)
class RamUsage:
    """The contents of a worker's RAM tier: bytes, as its bound counts them, and entries."""

    bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """The counts of all workers of a folder since its index began, and the RAM tiers of those that run now."""

    counts: Mapping[Counter, int]
    workers: Mapping[str, RamUsage]

    @property
    def ram(self) -> RamUsage:
        """The RAM tiers of all workers together."""
        held = self.workers.values()
        return RamUsage(sum(usage.bytes for usage in held), sum(usage.entries for usage in held))
