"""Failures are counted by key in windows of a minute, by all workers of a node together."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address

from proxy.limits import FailureLimit, address_key
from proxy.node import Node, Seat


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def make_limit(limit: int, clock: Clock, seat: Seat | None = None, kind: str = "links") -> FailureLimit:
    return FailureLimit(kind, limit, clock, seat or Seat())


def test_so_many_failures_pass_and_the_next_has_to_wait() -> None:
    limit = make_limit(3, Clock())
    assert [limit.fail("a") for _ in range(4)] == [0, 0, 0, 60]


def test_keys_are_counted_apart() -> None:
    limit = make_limit(1, Clock())
    assert [limit.fail("a"), limit.fail("b"), limit.fail("a") > 0] == [0, 0, True]


def test_two_limits_of_a_worker_are_counted_apart() -> None:
    seat = Seat()
    links, clients = make_limit(1, Clock(), seat), make_limit(1, Clock(), seat, "clients")
    assert [links.fail("a"), clients.fail("a"), links.fail("a") > 0] == [0, 0, True]


def test_the_failures_in_all_workers_are_counted_together() -> None:
    with contextlib.closing(Node(3)) as node:
        limits = [make_limit(4, Clock(), node.seat(row)) for row in (1, 2, 3)]
        assert [limits[number % 3].fail("a") for number in range(4)] == [0, 0, 0, 0]
        assert all(limit.fail("a") == 60 for limit in limits)


def test_the_first_failure_in_any_worker_begins_a_minute() -> None:
    clock = Clock()
    with contextlib.closing(Node(2)) as node:
        first, second = (make_limit(1, clock, node.seat(row)) for row in (1, 2))
        first.fail("a")
        clock.now += 40
        assert second.fail("a") == 20
        clock.now += 20
        assert second.fail("a") == 0
        assert first.fail("a") == 60


def test_the_wait_shrinks_until_the_window_ends() -> None:
    clock = Clock()
    limit = make_limit(1, clock)
    limit.fail("a")
    clock.now += 59.5
    assert limit.fail("a") == 1
    clock.now += 0.5
    assert limit.fail("a") == 0


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    clock = Clock()
    limit = make_limit(1, clock)
    limit.fail("a")
    clock.now -= 500
    assert limit.fail("a") == 0
    assert limit.fail("a") == 60


def test_an_ipv6_sender_is_its_whole_64() -> None:
    assert address_key(ip_address("2001:db8::1")) == address_key(ip_address("2001:db8::ffff")) == "2001:db8::/64"
    assert address_key(ip_address("192.0.2.1")) != address_key(ip_address("192.0.2.2"))
