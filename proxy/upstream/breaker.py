"""Whether an origin that fails is asked at all. No I/O: the time and the random number are passed in.

Closed, calls go through. So many failures in a row within a time open it: no call goes through until a pause is over.
Then it is half-open: one call, the trial, goes through. If that fails the next pause is twice as long; any answer
closes it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from proxy.telemetry.metrics import BreakerState

TRIAL_WAIT: Final = 1.0
"""What the others wait, in seconds, while a trial is under way: how long it takes is not known."""

_LEAST_PAUSE: Final = 0.75  # of the whole: workers that opened together do not all ask again together


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """All times in seconds. With 0 `failures` nothing ever opens.

    `window` is the longest time from the first to the last of so many failures that open; `pause` how long that lasts
    at first, `longest_pause` how long at the most.
    """

    failures: int = 10
    window: float = 10.0
    pause: float = 5.0
    longest_pause: float = 60.0


class Breaker:
    """The breaker of one origin. Times are a monotonic clock's, in seconds; random numbers lie in [0, 1)."""

    __slots__ = ("_failures", "_pause", "_policy", "_trial", "_until", "state")

    def __init__(self, policy: BreakerPolicy) -> None:
        self.state = BreakerState.CLOSED
        self._policy = policy
        self._failures: deque[float] = deque(maxlen=policy.failures)
        self._pause = policy.pause
        self._until = 0.0
        self._trial = 0

    def wait(self, now: float) -> float:
        """Seconds for which no call may go through; 0 where one may now."""
        match self.state:
            case BreakerState.CLOSED:
                return 0.0
            case BreakerState.OPEN:
                return max(0.0, self._until - now)
            case BreakerState.HALF_OPEN:
                return TRIAL_WAIT

    def admit(self) -> int:
        """A call goes through, where there is nothing to wait for: the number of the trial that it is, or 0."""
        if self.state is BreakerState.CLOSED:
            return 0
        self.state = BreakerState.HALF_OPEN
        self._trial += 1
        return self._trial

    def answered(self) -> None:
        """The origin is there: some call had an answer."""
        self.state = BreakerState.CLOSED
        self._failures.clear()
        self._pause = self._policy.pause

    def failed(self, now: float, random: float, *, trial: int = 0) -> None:
        """A call failed; what began before it opened, and is no trial, changes nothing any more."""
        if self.state is BreakerState.CLOSED:
            self._failures.append(now)
            if len(self._failures) == self._policy.failures > 0 and now - self._failures[0] <= self._policy.window:
                self._open(now, random)
        elif self._is_under_way(trial):
            self._open(now, random)

    def abandoned(self, trial: int) -> None:
        """A trial ended and told nothing: the next call is one."""
        if self._is_under_way(trial):
            self.state = BreakerState.OPEN

    def _is_under_way(self, trial: int) -> bool:
        return self.state is BreakerState.HALF_OPEN and trial == self._trial

    def _open(self, now: float, random: float) -> None:
        pause = min(self._pause, self._policy.longest_pause)
        self.state = BreakerState.OPEN
        self._until = now + pause * (_LEAST_PAUSE + random * (1 - _LEAST_PAUSE))
        self._pause = pause * 2
