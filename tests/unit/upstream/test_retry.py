from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.fields import Fields, format_date
from proxy.upstream.retry import MAX_RETRY_AFTER, Cause, RetryPolicy, Tries, next_wait, parse_retry_after

POLICY = RetryPolicy()
NOW = 1_790_000_000.0
PASSING = [Cause.UNREACHABLE, Cause.BROKEN, Cause.BUSY, Cause.UNAVAILABLE]


def _wait(
    cause: Cause,
    tries: Tries | None = None,
    *,
    not_found_wait: float | None = None,
    retry_after: float | None = None,
    elapsed: float = 0.0,
    random: float = 0.5,
) -> float | None:
    return next_wait(
        POLICY,
        cause,
        tries or Tries(),
        not_found_wait=not_found_wait,
        retry_after=retry_after,
        elapsed=elapsed,
        random=random,
    )


@pytest.mark.parametrize("cause", PASSING)
def test_rule_5_a_passing_failure_uses_up_the_attempts(cause: Cause) -> None:
    tries = Tries()
    waits = []
    while (wait := _wait(cause, tries, random=0.999)) is not None:
        waits.append(wait)
        tries = tries.after(cause)
    assert len(waits) == POLICY.attempts - 1
    assert waits == sorted(waits)


@given(st.sampled_from(PASSING), st.integers(0, 30), st.floats(0, 1, exclude_max=True))
def test_rule_5_jitter_is_full_and_bounded(cause: Cause, failures: int, random: float) -> None:
    policy = RetryPolicy(attempts=100)
    tries = Tries(failures)
    wait = next_wait(policy, cause, tries, not_found_wait=None, retry_after=None, elapsed=0, random=random)
    assert wait is not None
    assert 0 <= wait < policy.longest
    assert next_wait(policy, cause, tries, not_found_wait=None, retry_after=None, elapsed=0, random=0.0) == 0


def test_rule_5_retry_after_is_kept_up_to_the_cap() -> None:
    assert _wait(Cause.BUSY, retry_after=7.0) == 7.0
    assert _wait(Cause.BUSY, retry_after=0.0) == 0.0
    assert _wait(Cause.BUSY, retry_after=POLICY.retry_after_cap) == 10.0
    assert _wait(Cause.BUSY, retry_after=POLICY.retry_after_cap + 1) is None


def test_rule_5_a_404_follows_its_message_s_waits() -> None:
    assert _wait(Cause.NOT_FOUND, not_found_wait=2.5) == 2.5
    assert _wait(Cause.NOT_FOUND) is None
    assert _wait(Cause.STALE_LOCATION, not_found_wait=2.5) == 0.0


def test_rule_5_a_later_hop_s_403_is_resolved_again() -> None:
    assert _wait(Cause.STALE_LOCATION) == 0.0
    assert _wait(Cause.STALE_LOCATION, Tries().after(Cause.STALE_LOCATION)) is None


def test_each_kind_of_failure_is_counted_for_itself() -> None:
    tries = Tries().after(Cause.NOT_FOUND).after(Cause.STALE_LOCATION).after(Cause.BUSY)
    assert tries == Tries(failures=1, not_found=1, resolved_again=True)


@pytest.mark.parametrize("cause", [*PASSING, Cause.NOT_FOUND, Cause.STALE_LOCATION])
def test_no_attempt_begins_after_the_whole_time_is_used(cause: Cause) -> None:
    assert _wait(cause, not_found_wait=1.0, elapsed=POLICY.within - 20) is not None
    assert _wait(cause, not_found_wait=1.0, elapsed=POLICY.within + 0.001) is None
    assert _wait(Cause.BUSY, retry_after=5.0, elapsed=POLICY.within - 4) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("007", 7.0),
        ("999999", MAX_RETRY_AFTER),
        (format_date(NOW + 9), 9.0),
        (format_date(NOW - 9), 0.0),
        (format_date(NOW + 1e6), MAX_RETRY_AFTER),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٧", None),
        ("9" * 40, None),
    ],
)
def test_rfc9110_10_2_3_it_is_a_delay_or_date(value: str, seconds: float | None) -> None:
    assert parse_retry_after(Fields.of([("retry-after", value)]), NOW) == seconds


def test_rfc9110_10_2_3_none_or_two_say_nothing() -> None:
    assert parse_retry_after(Fields(), NOW) is None
    assert parse_retry_after(Fields.of([("Retry-After", "1"), ("Retry-After", "2")]), NOW) is None


@given(st.text())
def test_any_retry_after_is_a_bounded_wait_or_nothing(value: str) -> None:
    wait = parse_retry_after(Fields.of([("Retry-After", value)]), NOW)
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER
