"""The access log of answers that cost less than a log line: facts are noted at once, lines are made many at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

from proxy.telemetry.access import ACCESS_LOGGER

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


Noted = tuple[float, float, str, Words, Words, Words, Words]
"""Unix time of the answer, seconds that it took, request id; then what many lines have in common, in a line's order: of
the client, of the target, of the answer, of the user agent."""


class AccessBatch:
    """Answers that are noted and not written yet: those of the last tenth of a second, `MOST` at the most."""

    def __init__(self) -> None:
        self._noted: list[Noted] = []
        self._timer: asyncio.TimerHandle | None = None

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
        if self._noted:
            noted, self._noted = self._noted, []
            _log.info("access", extra={"batch": noted})
