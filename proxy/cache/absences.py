"""Negative caching: media of which the upstream has said that they are not there, for a short while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.cache.remembered import Remembered
from proxy.model import Clock, MediaRef
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy, negative_lifetime

_REMEMBERED: Final = 10_000
"""Media remembered as not there."""


@dataclass(frozen=True, slots=True)
class _Absence:
    """A 404 that is remembered until that Unix time, or the next erasure."""

    until: float
    epoch: int


class Absences:
    """The 404s of a bounded number of media."""

    def __init__(self, policy: FreshnessPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._known: Remembered[_Absence] = Remembered(_REMEMBERED)

    def remember(self, ref: MediaRef, epoch: int) -> None:
        """Note a 404. `epoch` is that from before it was asked for: what was erased since may be answered otherwise."""
        now = self._clock()
        lifetime = negative_lifetime(404, Fields(), now, self._policy)
        if lifetime > 0:
            self._known.put(ref, _Absence(now + lifetime, epoch))

    def holds(self, ref: MediaRef, epoch: int) -> bool:
        """Whether the upstream need not be asked again."""
        absence = self._known.get(ref)
        return absence is not None and absence.until > self._clock() and absence.epoch == epoch
