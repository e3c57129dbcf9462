"""Negative caching: for a short while, media that the upstream has answered with 404 are not asked for again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.bounded_table import BoundedTable
from proxy.errors import MediaNotFound
from proxy.model import Clock, MediaRef
from proxy.semantics.freshness import FreshnessPolicy

_REMEMBERED: Final = 10_000
"""The most media that are remembered as absent."""


@dataclass(frozen=True, slots=True)
class _Absence:
    """A 404, which is remembered until a Unix time or the next erasure."""

    until: float
    epoch: int


class Absences:
    """The 404s of a bounded number of media."""

    def __init__(self, policy: FreshnessPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._known: BoundedTable[MediaRef, _Absence] = BoundedTable(_REMEMBERED)

    def remember(self, ref: MediaRef, said: MediaNotFound, epoch: int) -> None:
        """Remember a 404 for as long as both the policy and the 404 itself allow.

        `epoch` is the one from before the upstream was asked: it may answer otherwise after a later erasure.
        """
        lifetime = min(said.memory, self._policy.negative_lifetime, self._policy.negative_maximum)
        if lifetime > 0:
            self._known.put(ref, _Absence(self._clock() + lifetime, epoch))

    def holds(self, ref: MediaRef, epoch: int) -> bool:
        """Return whether the upstream need not be asked again."""
        absence = self._known.get(ref)
        return absence is not None and absence.until > self._clock() and absence.epoch == epoch
