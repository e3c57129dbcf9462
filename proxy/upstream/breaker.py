"""The breaker, which decides if a host that fails is asked at all. No I/O: time and random number are passed in.

1. Closed, calls go through. So many different subjects that fail in a row within a time open it, and no call goes
   through until a pause is over. A subject is what a call is about; one that fails again counts as one.
2. After the pause it is half-open: one call, the trial, goes through. If that fails the next pause is twice as long.
3. A subject that failed when it was last asked for is never the trial: its failing says something of itself alone. One
   call for such a subject goes through in each pause instead, since nothing else may be asked for.
4. Any answer closes it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from proxy.telemetry.metrics import BreakerState

TRIAL_WAIT: Final = 1.0
"""Seconds that the other calls wait while a trial is under way, since it is not known how long that takes."""
NO_TRIAL: Final = 0
"""The number of a call that goes through a breaker which is closed."""
RETRY: Final = -1
"""The number of a call for a subject that has failed: an answer closes the breaker, a failure changes nothing."""

_LEAST_PAUSE: Final = 0.75  # of the whole: workers that opened together do not all ask again together


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """All times in seconds. With 0 `failures` nothing ever opens.

    `window` is the longest time from the first to the last of so many failures that open; `pause` how long that lasts
    at first, `longest_pause` how long at most.
    """

    failures: int = 10
    window: float = 10.0
    pause: float = 5.0
    longest_pause: float = 60.0


class Breaker:
    """One breaker. Times are a monotonic clock's, in seconds; random numbers lie in [0, 1).

    `failing` says that the call's subject failed when it was last asked for.
    """

    __slots__ = ("_in_a_row", "_pause", "_policy", "_retried", "_retry_at", "_trial", "_until", "state")

    def __init__(self, policy: BreakerPolicy) -> None:
        self.state = BreakerState.CLOSED
        self._policy = policy
        # The last failure of each subject, the oldest first: no more than open it.
        self._in_a_row: OrderedDict[Hashable, float] = OrderedDict()
        self._pause = 0.0
        self._until = 0.0
        self._retry_at = 0.0
        self._retried: Hashable | None = None
        self._trial = 0

    def wait(self, subject: Hashable, now: float, *, failing: bool) -> float:
        """Return the seconds for which no call for the subject may go through; 0 if one may now."""
        match self.state:
            case BreakerState.CLOSED:
                return 0.0
            case BreakerState.OPEN if failing:
                # The subject that was retried last leaves the next turn to the others.
                turn = self._retry_at + (self._pause if subject == self._retried else 0.0)
                return max(0.0, turn - now)
            case BreakerState.OPEN:
                return max(0.0, self._until - now)
            case BreakerState.HALF_OPEN:
                return TRIAL_WAIT

    def admit(self, subject: Hashable, now: float, *, failing: bool) -> int:
        """Let a call through that has nothing to wait for.

        Returns `NO_TRIAL`, `RETRY`, or the number of the trial, which is above 0.
        """
        if self.state is BreakerState.CLOSED:
            return NO_TRIAL
        if failing:
            self._retry_at, self._retried = now + self._pause, subject
            return RETRY
        self.state = BreakerState.HALF_OPEN
        self._trial += 1
        return self._trial

    def answered(self) -> None:
        """Close: some call had an answer."""
        self.state = BreakerState.CLOSED
        self._in_a_row.clear()

    def failed(self, subject: Hashable, now: float, random: float, *, trial: int = NO_TRIAL) -> None:
        """Count a failed call; one that began before the breaker opened, and is not the trial, changes nothing."""
        if self.state is BreakerState.CLOSED:
            self._in_a_row[subject] = now
            self._in_a_row.move_to_end(subject)
            if len(self._in_a_row) < self._policy.failures:
                return
            _, oldest = self._in_a_row.popitem(last=False)
            if self._policy.failures > 0 and now - oldest <= self._policy.window:
                self._open(now, random)
        elif self._is_under_way(trial):
            self._open(now, random)

    def abandoned(self, trial: int) -> None:
        """End a trial that told nothing: the next call is another one."""
        if self._is_under_way(trial):
            self.state = BreakerState.OPEN

    def _is_under_way(self, trial: int) -> bool:
        return self.state is BreakerState.HALF_OPEN and trial == self._trial

    def _open(self, now: float, random: float) -> None:
        pause = self._policy.pause if self.state is BreakerState.CLOSED else 2 * self._pause
        self._pause = min(pause, self._policy.longest_pause)
        self.state = BreakerState.OPEN
        self._until = self._retry_at = now + self._pause * (_LEAST_PAUSE + random * (1 - _LEAST_PAUSE))
        self._retried = None
        self._in_a_row.clear()
