"""Workers in their places: how long a place stays empty, and when a generation serves."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.processes.worker_pool import Generation, Place, Stage, Worker, pause_after
from proxy.settings import load


@pytest.fixture
def generation() -> Generation:
    return Generation.of(load({"GATEWAY_DRAIN_SECONDS": "7"}), 2)


@pytest.fixture
def line() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        yield made


def worker(place: Place, line: socket.socket, *, age: float = 0.0) -> Worker:
    made = Worker(1, 1, line, place)
    made.began -= age
    place.worker = made
    return made


def test_pauses_double_from_a_tenth_of_a_second_up_to_ten() -> None:
    assert [pause_after(deaths) for deaths in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


@given(st.integers(0, 1_000_000))
def test_a_pause_is_never_longer_than_ten_seconds(deaths: int) -> None:
    assert 0.1 <= pause_after(deaths) <= 10.0


@pytest.mark.parametrize(("age", "deaths"), [(1.0, 6), (61.0, 1)])
def test_a_worker_that_lived_for_a_minute_makes_up_for_those_before_it(
    generation: Generation, line: socket.socket, age: float, deaths: int
) -> None:
    place = generation.places[0]
    place.deaths = 5
    made = worker(place, line, age=age)
    place.vacate()
    assert (place.deaths, generation.deaths, place.worker) == (deaths, deaths, None)
    assert place.due is not None
    assert place.due - made.began - age == pytest.approx(pause_after(deaths - 1), abs=0.5)


def test_a_generation_serves_when_every_worker_does(generation: Generation, line: socket.socket) -> None:
    assert not generation.serves
    for place in generation.places:
        assert not generation.serves
        made = worker(place, line)
        assert not generation.serves
        made.serves()
    assert generation.serves


def test_a_worker_has_a_minute_to_start_and_the_time_for_draining_to_end(
    generation: Generation, line: socket.socket
) -> None:
    made = worker(generation.places[0], line)
    starting = made.deadline
    made.serves()
    serving = made.deadline
    made.leaves()
    assert (starting, serving, made.stage) == (made.began + 60, None, Stage.LEAVING)
    assert (made.deadline or 0.0) - made.began == pytest.approx(7 + 15, abs=1)
