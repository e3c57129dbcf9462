"""The states of a breaker: what opens it, how long, and what closes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.metrics import BreakerState
from proxy.upstream.breaker import TRIAL_WAIT, Breaker, BreakerPolicy

POLICY = BreakerPolicy(failures=3, window=10.0, pause=5.0, longest_pause=60.0)
T = 1_000.0


def opened(policy: BreakerPolicy = POLICY, *, at: float = T, random: float = 0.0) -> Breaker:
    breaker = Breaker(policy)
    for _ in range(policy.failures):
        breaker.failed(at, random)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_it_opens_with_so_many_failures_in_a_row() -> None:
    breaker = Breaker(POLICY)
    for seconds in (0, 4):
        breaker.failed(T + seconds, 0.5)
        assert (breaker.state, breaker.wait(T + seconds), breaker.admit()) == (BreakerState.CLOSED, 0.0, 0)
    breaker.failed(T + 10, 0.5)
    assert breaker.state is BreakerState.OPEN
    assert breaker.wait(T + 10) == pytest.approx(5 * 0.875)


def test_an_answer_between_them_starts_the_count_anew() -> None:
    breaker = Breaker(POLICY)
    states: list[BreakerState] = []
    for answered in (False, False, True, False, False, False):
        if answered:
            breaker.answered()
        else:
            breaker.failed(T, 0.5)
        states.append(breaker.state)
    assert states == [BreakerState.CLOSED] * 5 + [BreakerState.OPEN]


def test_failures_that_lie_too_far_apart_do_not_open_it() -> None:
    breaker = Breaker(POLICY)
    states: list[BreakerState] = []
    for seconds in (0, 6, 12, 18, 20):
        breaker.failed(T + seconds, 0.5)
        states.append(breaker.state)
    # The last three count, whatever came before them.
    assert states == [BreakerState.CLOSED] * 4 + [BreakerState.OPEN]


def test_it_never_opens_where_no_number_of_failures_is_set() -> None:
    breaker = Breaker(replace(POLICY, failures=0))
    for _ in range(100):
        breaker.failed(T, 0.0)
    assert (breaker.state, breaker.wait(T)) == (BreakerState.CLOSED, 0.0)


def test_after_the_pause_one_call_goes_through_and_the_others_wait_for_it() -> None:
    breaker = opened()
    assert breaker.wait(T + 3.74) == pytest.approx(0.01)
    assert breaker.wait(T + 3.75) == 0.0
    assert breaker.admit() > 0
    assert (breaker.state, breaker.wait(T + 100)) == (BreakerState.HALF_OPEN, TRIAL_WAIT)


def test_a_trial_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now, pauses = opened(random=0.0), T, list[float]()
    for _ in range(6):
        pauses.append(breaker.wait(now) / 0.75)
        now += breaker.wait(now)
        breaker.failed(now, 0.0, trial=breaker.admit())
        assert breaker.state is BreakerState.OPEN
    assert pauses == pytest.approx([5, 10, 20, 40, 60, 60])


def test_an_answer_closes_it_and_the_next_pause_is_the_first_one_again() -> None:
    breaker = opened()
    breaker.failed(T + 5, 0.0, trial=breaker.admit())
    breaker.admit()
    breaker.answered()
    assert (breaker.state, breaker.wait(T + 5)) == (BreakerState.CLOSED, 0.0)
    for _ in range(POLICY.failures):
        breaker.failed(T + 6, 0.0)
    assert breaker.wait(T + 6) == pytest.approx(5 * 0.75)


def test_the_answer_to_a_call_that_began_before_it_opened_closes_it_too() -> None:
    breaker = opened()
    breaker.answered()
    assert breaker.state is BreakerState.CLOSED


def test_the_failure_of_a_call_that_began_before_it_opened_changes_nothing() -> None:
    breaker = opened()
    before = breaker.wait(T + 1)
    breaker.failed(T + 1, 0.9)
    assert breaker.wait(T + 1) == before
    breaker.admit()
    breaker.failed(T + 5, 0.9)
    assert breaker.state is BreakerState.HALF_OPEN


def test_the_failure_of_a_trial_that_is_over_changes_nothing() -> None:
    breaker = opened()
    late = breaker.admit()
    breaker.answered()
    for _ in range(POLICY.failures):
        breaker.failed(T, 0.0)
    current = breaker.admit()
    states: list[BreakerState] = []
    for trial in (late, current):
        breaker.failed(T, 0.0, trial=trial)
        states.append(breaker.state)
    assert states == [BreakerState.HALF_OPEN, BreakerState.OPEN]
    breaker.admit()
    breaker.abandoned(current)
    assert breaker.wait(T + 100) == TRIAL_WAIT


def test_after_a_trial_that_told_nothing_the_next_call_is_one() -> None:
    breaker = opened()
    breaker.abandoned(breaker.admit())
    assert (breaker.state, breaker.wait(T + 5)) == (BreakerState.OPEN, 0.0)
    assert breaker.admit() > 0


def test_a_first_pause_above_the_longest_is_cut() -> None:
    assert opened(replace(POLICY, pause=100.0)).wait(T) == pytest.approx(60 * 0.75)


@given(
    st.builds(
        BreakerPolicy,
        failures=st.integers(1, 5),
        window=st.floats(1, 20),
        pause=st.floats(1, 50),
        longest_pause=st.floats(1, 100),
    ),
    st.lists(st.tuples(st.sampled_from(["call", "answer", "fail", "leave"]), st.floats(0, 30), st.floats(0, 0.999))),
)
def test_never_is_there_a_second_trial_or_a_wait_beyond_the_longest(
    policy: BreakerPolicy, events: list[tuple[str, float, float]]
) -> None:
    breaker, now, running = Breaker(policy), T, list[int]()
    for event, passed, random in events:
        now += passed
        if event == "call":
            if breaker.wait(now) == 0:
                running.append(breaker.admit())
        elif running:
            trial = running.pop(0)
            match event:
                case "answer":
                    breaker.answered()
                case "fail":
                    breaker.failed(now, random, trial=trial)
                case _:
                    breaker.abandoned(trial)
        assert 0 <= breaker.wait(now) <= max(policy.longest_pause, TRIAL_WAIT)
        if breaker.state is BreakerState.HALF_OPEN:
            # The one that everybody waits for is under way.
            assert max(running) > 0
            assert breaker.wait(now) > 0
