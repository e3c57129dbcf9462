"""The access log, whose lines may cost more than answers: facts are noted at once, lines are made many at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol
from weakref import WeakSet

ACCESS_LOGGER: Final = "media_gateway.access"
FLUSH_SECONDS: Final = 0.1
MOST: Final = 1_000
"""Answers in one batch; a full one is handed over at once."""

_log: Final = logging.getLogger(ACCESS_LOGGER)

Fact = str | int | float | bool


class Style(Protocol):
    """How facts look in a line."""

    def words(self, facts: Mapping[str, Fact]) -> str:
        """Facts in their order, with what stands before the next one."""
        ...


class Words:
    """Facts that stand in many lines alike; how they look is made once for each style."""

    __slots__ = ("_facts", "_style", "_text")

    def __init__(self, facts: Mapping[str, Fact]) -> None:
        self._facts = facts
        self._style: Style | None = None
        self._text = ""

    def text(self, style: Style) -> str:
        """As that style writes them."""
        if self._style is not style:
            self._text, self._style = style.words(self._facts), style
        return self._text


class Sentence:
    """What a line says of an answer, put together from words; also made once for each style."""

    __slots__ = ("_style", "_text", "_words")

    def __init__(self, client: Words, target: Words, answer: Words, agent: Words) -> None:
        self._words = (client, target, answer, agent)
        self._style: Style | None = None
        self._text = ""

    def text(self, style: Style) -> str:
        """As that style writes it."""
        if self._style is not style:
            self._text, self._style = "".join([words.text(style) for words in self._words]), style
        return self._text


Noted = tuple[float, float, str, Sentence]
"""Unix time of the answer, seconds that it took, request id, and the rest, which many lines may have in common."""


class AccessBatch:
    """Answers that are noted and not written yet: those of the last tenth of a second, `MOST` at the most.

    It belongs to one event loop, whose thread alone notes and flushes.
    """

    def __init__(self) -> None:
        self._noted: list[Noted] = []
        self._timer: asyncio.TimerHandle | None = None
        _batches.add(self)

    @property
    def wanted(self) -> bool:
        """Whether an access log is written at all."""
        return _log.isEnabledFor(logging.INFO)

    def note(self, noted: Noted) -> None:
        """Take one more answer."""
        self._noted.append(noted)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        elif len(self._noted) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Hand over what is noted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.hand_over()

    def hand_over(self) -> None:
        """The same from any thread; the timer stays."""
        if self._noted:
            noted, self._noted = self._noted, []
            _log.info("access", extra={"batch": noted})


_batches: Final[WeakSet[AccessBatch]] = WeakSet()


def hand_over_all() -> None:
    """Hand over what every batch has noted: for the end of a log that ends before they do."""
    for batch in tuple(_batches):
        batch.hand_over()
