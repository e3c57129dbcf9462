"""Young messages."""

from __future__ import annotations

import pytest

from proxy.model import MediaSid, MessageRef
from proxy.web.services.young_messages import YoungMessages


def message(number: int) -> MessageRef:
    return MessageRef.parse("AC" + "0" * 32, f"MM{number:032x}")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_message_is_young_for_two_minutes() -> None:
    clock = Clock()
    messages = YoungMessages(clock)
    assert messages.meet(message(1))
    clock.now += 119
    assert messages.meet(message(1))
    clock.now += 1
    assert not messages.meet(message(1))
    assert messages.meet(message(2))


def test_what_was_met_first_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(YoungMessages, "_MESSAGES", 2)
    clock = Clock()
    messages = YoungMessages(clock)
    for number in (1, 2, 3):
        messages.meet(message(number))
    clock.now += 500
    assert [messages.meet(message(number)) for number in (3, 2, 1)] == [False, False, True]


def test_a_media_is_as_young_as_its_message() -> None:
    clock = Clock()
    messages = YoungMessages(clock)
    messages.meet(message(1))
    clock.now += 120
    media = MediaSid.parse("ME" + "0" * 32)
    assert not messages.meet(message(1).media(media))
    assert messages.meet(message(2).media(media))
