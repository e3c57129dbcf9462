"""The tally of the express lane."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.cache.counters import Counter, Counters
from proxy.telemetry.metrics import ANSWERS, SENT, Metrics
from proxy.web.services import lane_tally
from proxy.web.services.lane_tally import LaneTally


@dataclass
class Alike:
    """Answers of 5 bytes each."""

    answers: int = 0
    counter: Counter = Counter.RAM_HITS
    status: int = 200
    size: int = 5


async def test_answers_are_counted_once_when_the_tally_is_settled() -> None:
    metrics, counters = Metrics(), Counters()
    tally, alike = LaneTally(metrics, counters), Alike(answers=3)
    tally.add(alike)
    assert metrics.totals()[ANSWERS.first] == 0
    for _ in range(2):
        tally.settle()
        assert (metrics.totals()[ANSWERS.first], metrics.totals()[SENT.first]) == (3, 15)
        assert counters.unwritten() == {Counter.RAM_HITS: 3}
    assert alike.answers == 0


async def test_a_full_tally_is_settled_at_once() -> None:
    metrics = Metrics()
    tally = LaneTally(metrics, Counters())
    for _ in range(lane_tally._MOST):
        tally.add(Alike(answers=1))
    assert metrics.totals()[ANSWERS.first] == lane_tally._MOST
