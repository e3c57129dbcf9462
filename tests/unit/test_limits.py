"""Failures are counted by key in windows of a minute, in a table that is bounded."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from proxy.limits import FailureLimit, sender


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_so_many_failures_pass_and_the_next_has_to_wait() -> None:
    limit = FailureLimit(3, Clock())
    assert [limit.fail("a") for _ in range(4)] == [0, 0, 0, 61]


def test_keys_are_counted_apart() -> None:
    limit = FailureLimit(1, Clock())
    assert [limit.fail("a"), limit.fail("b"), limit.fail("a") > 0] == [0, 0, True]


def test_the_wait_shrinks_to_the_windows_end_and_then_all_is_forgotten() -> None:
    clock = Clock()
    limit = FailureLimit(1, clock)
    limit.fail("a")
    clock.now += 59.5
    assert limit.fail("a") == 1
    clock.now += 0.5
    assert limit.fail("a") == 0


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    clock = Clock()
    limit = FailureLimit(1, clock)
    limit.fail("a")
    clock.now -= 500
    assert limit.fail("a") == 0
    assert limit.fail("a") == 61


def test_the_least_recently_failing_key_is_forgotten_first() -> None:
    limit = FailureLimit(1, Clock(), capacity=2)
    for key in ("a", "b", "a", "c"):
        limit.fail(key)
    assert limit.fail("a") > 0
    assert limit.fail("b") == 0


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(-100, 100)), max_size=60), st.integers(1, 4))
def test_the_table_stays_within_its_bound_and_waits_within_the_window(
    events: list[tuple[str, float]], capacity: int
) -> None:
    clock = Clock()
    limit = FailureLimit(2, clock, capacity=capacity)
    for key, step in events:
        clock.now += step
        assert 0 <= limit.fail(key) <= 61
        assert len(limit) <= capacity


def test_an_ipv6_sender_is_its_whole_64() -> None:
    assert sender(ip_address("2001:db8::1")) == sender(ip_address("2001:db8::ffff")) == "2001:db8::/64"
    assert sender(ip_address("192.0.2.1")) != sender(ip_address("192.0.2.2"))
