"""Media that fail again and again, and are left alone for a while. There is no I/O: callers pass the time in.

A media that always fails is asked for as long as a page shows it. Left alone it cannot storm the provider, and it is
asked for again soon enough for a reader that waits for it.

A fetch counts once, however often it is tried. Only a failure of the media itself counts: a 404 is an answer, and a
host that is away or too busy says nothing of its media.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from proxy.bounded_table import BoundedTable
from proxy.errors import MediaNotFound, UpstreamBusy, UpstreamError
from proxy.model import MediaRef

_FAILURES: Final = 5
_WINDOW_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 10.0
"""The longest time for which a media is left alone."""
_REMEMBERED: Final = 10_000
"""The most media that are remembered as failing."""


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A media is not asked for; `seconds` are left of the pause, and `failure` is what its last fetch failed with."""

    seconds: float
    failure: UpstreamError

    def refusal(self) -> UpstreamBusy:
        """Return the error for a reader that wants the media meanwhile."""
        error = UpstreamBusy(
            "The media fails at the provider again and again, and is left alone for a while.",
            retry_after=ceil(self.seconds),
            note=f"the media is not asked for: its fetches fail again and again, the last one as {self.failure.kind}",
        )
        error.facts = self.failure.facts
        return error


@dataclass(frozen=True, slots=True)
class _Failing:
    """The moments of a media's last failures in a row, beginning with the oldest, and the last of these failures."""

    moments: tuple[float, ...]
    failure: UpstreamError

    @property
    def until(self) -> float | None:
        """Return when the media may be asked for again; None if it never was left alone."""
        first, last = self.moments[0], self.moments[-1]
        return last + PAUSE_SECONDS if len(self.moments) == _FAILURES and last - first <= _WINDOW_SECONDS else None


class FailingMedia:
    """The failures of a bounded number of media. Times are a monotonic clock's, in seconds."""

    def __init__(self) -> None:
        self._known: BoundedTable[MediaRef, _Failing] = BoundedTable(_REMEMBERED)

    def failed(self, ref: MediaRef, failure: UpstreamError, now: float) -> bool:
        """Count a failed fetch, and return whether the media is left alone from now on."""
        if failure.host_away or isinstance(failure, UpstreamBusy):
            return False
        if isinstance(failure, MediaNotFound):
            self.answered(ref)
            return False
        before = self._known.get(ref)
        moments = () if before is None else before.moments
        failing = _Failing((*moments, now)[-_FAILURES:], failure)
        self._known.put(ref, failing)
        return failing.until is not None

    def answered(self, ref: MediaRef) -> None:
        """Forget the failures of a media: the upstream has answered about it."""
        self._known.pop(ref)

    def left_alone(self, ref: MediaRef, now: float) -> LeftAlone | None:
        """Return what is known of a media that is left alone now; None for any other."""
        failing = self._known.get(ref)
        if failing is None or failing.until is None or now >= failing.until:
            return None
        return LeftAlone(failing.until - now, failing.failure)
