"""Tests of places, the board and the bells, between processes that may end at any time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator

import pytest

from proxy.node import Key, Node, Seat, Share

KEY = Seat.key("AC1")


@pytest.fixture
def node() -> Iterator[Node]:
    with contextlib.closing(Node(3)) as made:
        yield made


def in_a_worker(work: Callable[[], object]) -> Iterator[int]:
    """Do that in a process forked from here, which then stays until it is killed; yields its id."""
    done, tells = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            work()
            os.write(tells, b"1")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tells)
    try:
        assert os.read(done, 1) == b"1", "the worker has failed"
        yield pid
    finally:
        os.close(done)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


worker = contextlib.contextmanager(in_a_worker)


def take(seat: Seat, most: int, key: Key = KEY, share: Share = Share.CONNECTIONS) -> list[int]:
    """Take all places that can be had."""
    places: list[int] = []
    while (place := seat.take(share, key, most)) is not None:
        places.append(place)
    return places


def is_rung(seat: Seat) -> bool:
    assert seat.bell is not None
    return bool(select.select([seat.bell], [], [], 0)[0])


def test_no_two_workers_hold_the_same_place(node: Node) -> None:
    with worker(lambda: take(node.seat(1), 3)):
        other = node.seat(2)
        assert take(other, 5) == [3, 4]
        assert not other.has_free(Share.CONNECTIONS, KEY, 5)
        other.give_back(Share.CONNECTIONS, KEY, 4)
        assert other.has_free(Share.CONNECTIONS, KEY, 5)
        assert take(other, 5) == [4]


def test_accounts_and_kinds_have_places_of_their_own(node: Node) -> None:
    with worker(lambda: take(node.seat(1), 3)):
        seat = node.seat(2)
        assert take(seat, 3) == []
        assert take(seat, 3, Seat.key("AC2")) == [0, 1, 2]
        assert take(seat, 3, share=Share.UNREAD_FILLS) == [0, 1, 2]


def test_a_killed_worker_gives_back_its_places_and_wakes_others(node: Node) -> None:
    seat = node.seat(2)
    with worker(lambda: take(node.seat(1), 4)) as pid:
        assert take(seat, 4) == []
        seat.wait(KEY, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        node.retire(1)
    assert is_rung(seat)
    assert take(seat, 4) == [0, 1, 2, 3]


def test_a_worker_sees_the_waiting_calls_and_places_of_others(node: Node) -> None:
    first, second, third = (node.seat(row) for row in (1, 2, 3))
    assert first.others(KEY) == (0, 0)
    second.wait(KEY, 4)
    third.wait(KEY, 2)
    take(second, 3)
    third.take(Share.CONNECTIONS, KEY, 9)
    assert first.others(KEY) == (6, 1)
    # Its own calls are not those of others, and a worker in which none waits is in need of nothing.
    assert third.others(KEY) == (4, 3)
    third.wait(KEY, -2)
    assert first.others(KEY) == (4, 3)
    node.retire(2)
    assert first.others(KEY) == (0, 0)


def test_a_place_given_back_wakes_only_workers_that_wait(node: Node) -> None:
    first, second, third = (node.seat(row) for row in (1, 2, 3))
    second.wait(KEY, 1)
    place = first.take(Share.CONNECTIONS, KEY, 1)
    assert place is not None
    first.give_back(Share.CONNECTIONS, KEY, place)
    assert [is_rung(seat) for seat in (first, second, third)] == [False, True, False]
    second.hear()
    assert not is_rung(second)
    second.hear()


def test_who_waits_wakes_those_that_hold_places(node: Node) -> None:
    first, second, third = (node.seat(row) for row in (1, 2, 3))
    take(first, 1)
    take(second, 1)
    second.ring_holding(KEY)
    assert [is_rung(seat) for seat in (first, second, third)] == [True, False, False]


def test_a_process_alone_has_every_place_and_hears_nothing() -> None:
    seat = Seat()
    assert take(seat, 3) == [0, 1, 2]
    assert seat.bell is None
    assert seat.others(KEY) == (0, 0)
    seat.wait(KEY, 1)
    seat.ring_waiting(KEY)
    seat.ring_holding(KEY)
    seat.hear()
