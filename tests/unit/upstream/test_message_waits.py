"""The waits after a 404: once a message, at the same moments for all its media."""

from __future__ import annotations

import pytest

from proxy.model import MessageRef
from proxy.upstream.message_waits import MessageWaits


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def message(number: int) -> MessageRef:
    return MessageRef.parse("AC" + "0" * 32, f"MM{number:032x}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def waits(clock: Clock) -> MessageWaits:
    return MessageWaits((1.0, 3.0), clock)


def test_a_404_is_waited_for_one_second_and_then_three(waits: MessageWaits, clock: Clock) -> None:
    assert waits.next(message(1), 0) == 1.0
    clock.now += 1.0
    assert waits.next(message(1), 1) == 3.0
    clock.now += 3.0
    assert waits.next(message(1), 2) is None


def test_all_media_of_a_message_share_its_moments(waits: MessageWaits, clock: Clock) -> None:
    assert waits.next(message(1), 0) == 1.0
    clock.now += 0.25
    assert waits.next(message(1), 0) == 0.75
    clock.now += 0.75
    assert waits.next(message(1), 0) == 3.0


def test_a_media_first_missed_after_the_waits_costs_none(waits: MessageWaits, clock: Clock) -> None:
    waits.next(message(1), 0)
    clock.now += 4.0
    assert waits.next(message(1), 0) is None
    assert waits.next(message(2), 0) == 1.0


def test_an_early_timer_does_not_wait_for_its_moment_twice(waits: MessageWaits, clock: Clock) -> None:
    waits.next(message(1), 0)
    clock.now += 0.75
    assert waits.next(message(1), 1) == 3.25


def test_a_slow_404_waits_for_what_is_left(waits: MessageWaits, clock: Clock) -> None:
    waits.next(message(1), 0)
    clock.now += 3.5
    assert waits.next(message(1), 1) == 0.5
    clock.now += 2.0
    assert waits.next(message(1), 2) is None


def test_without_waits_nothing_is_waited_for(clock: Clock) -> None:
    assert MessageWaits((), clock).next(message(1), 0) is None


def test_messages_are_forgotten_beyond_the_bound(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.upstream.message_waits._MESSAGES", 2)
    waits = MessageWaits((1.0, 3.0), clock)
    for number in (1, 2, 3):
        waits.next(message(number), 0)
    clock.now += 10
    assert [waits.next(message(number), 0) for number in (3, 2, 1)] == [None, None, 1.0]
