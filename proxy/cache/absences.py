"""Negative caching: media of which the upstream has said that they are not there, for a short while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.bounded_table import BoundedTable
from proxy.errors import MediaNotFound
from proxy.model import Clock, MediaRef
from proxy.semantics.freshness import FreshnessPolicy

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
        self._known: BoundedTable[MediaRef, _Absence] = BoundedTable(_REMEMBERED)

    def remember(self, ref: MediaRef, said: MediaNotFound, epoch: int) -> None:
        """Note a 404, for as long as the policy says and the 404 itself allows.

        `epoch` is that from before it was asked for: what was erased since may be answered otherwise.
        """
        lifetime = min(said.memory, self._policy.negative_lifetime, self._policy.negative_maximum)
        if lifetime > 0:
            self._known.put(ref, _Absence(self._clock() + lifetime, epoch))

    def holds(self, ref: MediaRef, epoch: int) -> bool:
        """Whether the upstream need not be asked again."""
        absence = self._known.get(ref)
        return absence is not None and absence.until > self._clock() and absence.epoch == epoch
