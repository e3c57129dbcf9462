"""A tally of the express lane's answers, which are counted together: to count each at once would slow the lane."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from proxy.cache.counters import Counter, Counters
from proxy.telemetry.metrics import Metrics

_SECONDS: Final = 0.1
_MOST: Final = 1_000


class Tallied(Protocol):
    """Answers from RAM that are alike: so many `answers`, of `size` bytes of body each."""

    answers: int
    counter: Counter
    status: int
    size: int


class LaneTally:
    """The lane's answers of the last tenth of a second, which are not counted yet. It belongs to one event loop."""

    def __init__(self, metrics: Metrics, counters: Counters) -> None:
        self._metrics = metrics
        self._counters = counters
        self._tallied: list[Tallied] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, tallied: Tallied) -> None:
        """Take answers that are not in the tally; the lane goes on to number them."""
        self._tallied.append(tallied)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self.settle)
        elif len(self._tallied) >= _MOST:
            self.settle()

    def settle(self) -> None:
        """Count the answers, and begin again with none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tallied, self._tallied = self._tallied, []
        for one in tallied:
            answers, one.answers = one.answers, 0
            self._counters.add(one.counter, answers)
            self._metrics.express(one.status, one.size * answers, answers)
