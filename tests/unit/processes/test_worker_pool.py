"""Workers in their slots: how long a slot stays empty, and when a pool serves."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.processes.worker_pool import Slot, Stage, Worker, WorkerPool, pause_after
from proxy.settings import load


@pytest.fixture
def pool() -> WorkerPool:
    return WorkerPool.of(load({"GATEWAY_DRAIN_SECONDS": "7"}), 2)


@pytest.fixture
def line() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        yield made


def worker(slot: Slot, line: socket.socket, *, age: float = 0.0) -> Worker:
    made = Worker(1, 1, line, slot)
    made.began -= age
    slot.worker = made
    return made


def test_pauses_double_from_a_tenth_of_a_second_to_ten() -> None:
    assert [pause_after(deaths) for deaths in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


@given(st.integers(0, 1_000_000))
def test_a_pause_is_never_longer_than_ten_seconds(deaths: int) -> None:
    assert 0.1 <= pause_after(deaths) <= 10.0


@pytest.mark.parametrize(("age", "deaths"), [(1.0, 6), (61.0, 1)])
def test_a_minute_of_life_makes_up_for_earlier_deaths(
    pool: WorkerPool, line: socket.socket, age: float, deaths: int
) -> None:
    slot = pool.slots[0]
    slot.deaths = 5
    made = worker(slot, line, age=age)
    slot.vacate()
    assert (slot.deaths, pool.deaths, slot.worker) == (deaths, deaths, None)
    assert slot.due is not None
    assert slot.due - made.began - age == pytest.approx(pause_after(deaths - 1), abs=0.5)


def test_a_pool_serves_when_every_worker_does(pool: WorkerPool, line: socket.socket) -> None:
    assert not pool.serves
    for slot in pool.slots:
        assert not pool.serves
        made = worker(slot, line)
        assert not pool.serves
        made.mark_serving()
    assert pool.serves


def test_a_worker_has_a_deadline_to_start_and_to_leave(pool: WorkerPool, line: socket.socket) -> None:
    made = worker(pool.slots[0], line)
    starting = made.deadline
    made.mark_serving()
    serving = made.deadline
    made.mark_leaving()
    assert (starting, serving, made.stage) == (made.began + 60, None, Stage.LEAVING)
    assert (made.deadline or 0.0) - made.began == pytest.approx(7 + 15, abs=1)
