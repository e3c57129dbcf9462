"""The states of a breaker: what opens it, how long, and what closes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.metrics import BreakerState
from proxy.upstream.breaker import NO_TRIAL, RETRY, TRIAL_WAIT, Breaker, BreakerPolicy

POLICY = BreakerPolicy(failures=3, window=10.0, pause=5.0, longest_pause=60.0)
T = 1_000.0
OTHER = "a subject that has not failed"
BROKEN = "one that fails"


def opened(policy: BreakerPolicy = POLICY, *, at: float = T, random: float = 0.0) -> Breaker:
    breaker = Breaker(policy)
    for _ in range(policy.failures):
        breaker.failed(object(), at, random)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_it_opens_with_so_many_failures_in_a_row() -> None:
    breaker = Breaker(POLICY)
    for seconds in (0, 4):
        breaker.failed(object(), T + seconds, 0.5)
        assert (
            breaker.state,
            breaker.wait(OTHER, T + seconds, failing=False),
            breaker.admit(OTHER, T, failing=False),
        ) == (BreakerState.CLOSED, 0.0, 0)
    breaker.failed(object(), T + 10, 0.5)
    assert breaker.state is BreakerState.OPEN
    assert breaker.wait(OTHER, T + 10, failing=False) == pytest.approx(5 * 0.875)


def test_an_answer_between_them_starts_the_count_anew() -> None:
    breaker = Breaker(POLICY)
    states: list[BreakerState] = []
    for answered in (False, False, True, False, False, False):
        if answered:
            breaker.answered()
        else:
            breaker.failed(object(), T, 0.5)
        states.append(breaker.state)
    assert states == [BreakerState.CLOSED] * 5 + [BreakerState.OPEN]


def test_a_subject_that_fails_again_and_again_counts_once() -> None:
    breaker = Breaker(POLICY)
    for _ in range(100):
        breaker.failed(BROKEN, T, 0.5)
    states: list[BreakerState] = []
    for subject in (OTHER, BROKEN, "a third"):
        breaker.failed(subject, T, 0.5)
        states.append(breaker.state)
    assert states == [BreakerState.CLOSED, BreakerState.CLOSED, BreakerState.OPEN]


def test_a_subject_s_last_failure_is_the_one_that_counts() -> None:
    breaker = Breaker(POLICY)
    for subject, seconds in ((BROKEN, 0), (OTHER, 9), (BROKEN, 12), ("a third", 19)):
        breaker.failed(subject, T + seconds, 0.5)
    assert breaker.state is BreakerState.OPEN


def test_failures_that_lie_too_far_apart_do_not_open_it() -> None:
    breaker = Breaker(POLICY)
    states: list[BreakerState] = []
    for seconds in (0, 6, 12, 18, 20):
        breaker.failed(object(), T + seconds, 0.5)
        states.append(breaker.state)
    # The last three count, whatever came before them.
    assert states == [BreakerState.CLOSED] * 4 + [BreakerState.OPEN]


def test_it_never_opens_where_no_number_of_failures_is_set() -> None:
    breaker = Breaker(replace(POLICY, failures=0))
    for _ in range(100):
        breaker.failed(object(), T, 0.0)
    assert (breaker.state, breaker.wait(OTHER, T, failing=False)) == (BreakerState.CLOSED, 0.0)


def test_after_the_pause_one_call_goes_and_others_wait() -> None:
    breaker = opened()
    assert breaker.wait(OTHER, T + 3.74, failing=False) == pytest.approx(0.01)
    assert breaker.wait(OTHER, T + 3.75, failing=False) == 0.0
    assert breaker.admit(OTHER, T, failing=False) > 0
    assert (breaker.state, breaker.wait(OTHER, T + 100, failing=False)) == (BreakerState.HALF_OPEN, TRIAL_WAIT)


def test_a_failed_trial_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now, pauses = opened(random=0.0), T, list[float]()
    for _ in range(6):
        pauses.append(breaker.wait(OTHER, now, failing=False) / 0.75)
        now += breaker.wait(OTHER, now, failing=False)
        breaker.failed(object(), now, 0.0, trial=breaker.admit(OTHER, T, failing=False))
        assert breaker.state is BreakerState.OPEN
    assert pauses == pytest.approx([5, 10, 20, 40, 60, 60])


def test_an_answer_closes_it_and_resets_the_pause() -> None:
    breaker = opened()
    breaker.failed(object(), T + 5, 0.0, trial=breaker.admit(OTHER, T, failing=False))
    breaker.admit(OTHER, T, failing=False)
    breaker.answered()
    assert (breaker.state, breaker.wait(OTHER, T + 5, failing=False)) == (BreakerState.CLOSED, 0.0)
    for _ in range(POLICY.failures):
        breaker.failed(object(), T + 6, 0.0)
    assert breaker.wait(OTHER, T + 6, failing=False) == pytest.approx(5 * 0.75)


def test_an_earlier_call_s_answer_closes_it_too() -> None:
    breaker = opened()
    breaker.answered()
    assert breaker.state is BreakerState.CLOSED


def test_an_earlier_call_s_failure_changes_nothing() -> None:
    breaker = opened()
    before = breaker.wait(OTHER, T + 1, failing=False)
    breaker.failed(object(), T + 1, 0.9)
    assert breaker.wait(OTHER, T + 1, failing=False) == before
    breaker.admit(OTHER, T, failing=False)
    breaker.failed(object(), T + 5, 0.9)
    assert breaker.state is BreakerState.HALF_OPEN


def test_the_failure_of_a_trial_that_is_over_changes_nothing() -> None:
    breaker = opened()
    late = breaker.admit(OTHER, T, failing=False)
    breaker.answered()
    for _ in range(POLICY.failures):
        breaker.failed(object(), T, 0.0)
    current = breaker.admit(OTHER, T, failing=False)
    states: list[BreakerState] = []
    for trial in (late, current):
        breaker.failed(object(), T, 0.0, trial=trial)
        states.append(breaker.state)
    assert states == [BreakerState.HALF_OPEN, BreakerState.OPEN]
    breaker.admit(OTHER, T, failing=False)
    breaker.abandoned(current)
    assert breaker.wait(OTHER, T + 100, failing=False) == TRIAL_WAIT


def test_after_an_abandoned_trial_the_next_call_is_one() -> None:
    breaker = opened()
    breaker.abandoned(breaker.admit(OTHER, T, failing=False))
    assert (breaker.state, breaker.wait(OTHER, T + 5, failing=False)) == (BreakerState.OPEN, 0.0)
    assert breaker.admit(OTHER, T, failing=False) > 0


def test_a_subject_that_fails_is_never_the_trial() -> None:
    breaker = opened()
    assert breaker.wait(BROKEN, T + 3.74, failing=True) == pytest.approx(0.01)
    assert breaker.wait(BROKEN, T + 3.75, failing=True) == 0.0
    assert breaker.admit(BROKEN, T + 3.75, failing=True) == RETRY
    breaker.failed(BROKEN, T + 4, 0.0, trial=RETRY)
    # The way of the trial is free as before, and the pause no longer.
    assert breaker.wait(OTHER, T + 4, failing=False) == 0.0
    assert breaker.admit(OTHER, T + 4, failing=False) > 0
    breaker.failed(OTHER, T + 4, 0.0, trial=1)
    assert breaker.wait(OTHER, T + 4, failing=False) == pytest.approx(10 * 0.75)


def test_failing_subjects_share_one_call_in_a_pause_by_turns() -> None:
    breaker = opened()
    breaker.admit(BROKEN, T + 4, failing=True)
    assert breaker.wait("another that fails", T + 4, failing=True) == pytest.approx(5)
    assert breaker.wait(BROKEN, T + 9, failing=True) == pytest.approx(5)
    assert breaker.wait("another that fails", T + 9, failing=True) == 0.0
    assert breaker.admit("another that fails", T + 9, failing=True) == RETRY
    assert breaker.wait(BROKEN, T + 14, failing=True) == 0.0


def test_the_answer_about_a_subject_that_failed_closes_it() -> None:
    breaker = opened()
    breaker.admit(BROKEN, T + 4, failing=True)
    breaker.answered()
    assert breaker.admit(OTHER, T + 4, failing=False) == NO_TRIAL


def test_a_first_pause_above_the_longest_is_cut() -> None:
    assert opened(replace(POLICY, pause=100.0)).wait(OTHER, T, failing=False) == pytest.approx(60 * 0.75)


@given(
    st.builds(
        BreakerPolicy,
        failures=st.integers(1, 5),
        window=st.floats(1, 20),
        pause=st.floats(1, 50),
        longest_pause=st.floats(1, 100),
    ),
    st.lists(
        st.tuples(st.sampled_from(["call", "retry", "answer", "fail", "leave"]), st.floats(0, 30), st.floats(0, 0.999))
    ),
)
def test_there_is_never_a_second_trial_or_longer_wait(
    policy: BreakerPolicy, events: list[tuple[str, float, float]]
) -> None:
    breaker, now, running = Breaker(policy), T, list[int]()
    for event, passed, random in events:
        now += passed
        failing = event == "retry"
        subject = BROKEN if failing else OTHER
        if event in {"call", "retry"}:
            if breaker.wait(subject, now, failing=failing) == 0:
                running.append(breaker.admit(subject, now, failing=failing))
                assert not (failing and running[-1] > 0)
        elif running:
            trial = running.pop(0)
            match event:
                case "answer":
                    breaker.answered()
                case "fail":
                    breaker.failed(object(), now, random, trial=trial)
                case _:
                    breaker.abandoned(trial)
        # Sums of times are rounded.
        longest = max(policy.longest_pause, TRIAL_WAIT) + 1e-9
        assert 0 <= breaker.wait(OTHER, now, failing=False) <= longest
        # The one that was retried last leaves one turn to others.
        assert 0 <= breaker.wait(BROKEN, now, failing=True) <= 2 * longest
        if breaker.state is BreakerState.HALF_OPEN:
            # The one that everybody waits for is under way.
            assert max(running) > 0
            assert breaker.wait(OTHER, now, failing=False) > 0
