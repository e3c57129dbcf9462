"""The access log: one line for each answer, noted at once and written with many others.

A line may cost more than its answer. So an answer is noted as facts, whose text is made once for all lines that share
them, and the lines of a tenth of a second go to the log together.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol
from weakref import WeakSet

from proxy.model import IPAddress
from proxy.telemetry.redaction import HIDDEN, redact

ACCESS_LOGGER: Final = "media_gateway.access"
FLUSH_SECONDS: Final = 0.1
MOST: Final = 1_000
"""Answers in one batch; a full one is handed over at once."""

_LONGEST_TARGET: Final = 2_048
_LONGEST_AGENT: Final = 256
_CLIENTS: Final = 1_024
_AGENTS: Final = 256
# A link without claims and without a mount path, in which nothing but the signature can be a secret: the name of a key
# that could pass for a secret is too long for this.
_PLAIN_LINK: Final = re.compile(
    r"(/media/(?:[0-9A-Za-z-]{34,36}/){2}[0-9A-Za-z-]{34,36}\?expires=[0-9]{1,12}&key=[A-Za-z0-9._-]{1,42}&signature=)"
    r"[A-Za-z0-9_-]{43}"
)

_log: Final = logging.getLogger(ACCESS_LOGGER)

Fact = str | int | float | bool


class Style(Protocol):
    """A form of log lines."""

    def words(self, facts: Mapping[str, Fact]) -> str:
        """Return facts in their order, with the separator before the next fact."""
        ...


class Words:
    """Facts that many lines share; their text is made once for each style."""

    __slots__ = ("_facts", "_style", "_text")

    def __init__(self, facts: Mapping[str, Fact]) -> None:
        self._facts = facts
        self._style: Style | None = None
        self._text = ""

    def text(self, style: Style) -> str:
        """Return the facts in that style."""
        if self._style is not style:
            self._text, self._style = style.words(self._facts), style
        return self._text


class Sentence:
    """The facts of one line, put together from words; its text is also made once for each style."""

    __slots__ = ("_style", "_text", "_words")

    def __init__(self, client: Words, target: Words, answer: Words, agent: Words) -> None:
        self._words = (client, target, answer, agent)
        self._style: Style | None = None
        self._text = ""

    def text(self, style: Style) -> str:
        """Return the facts in that style."""
        if self._style is not style:
            self._text, self._style = "".join([words.text(style) for words in self._words]), style
        return self._text


Noted = tuple[float, float, str, Sentence]
"""The Unix time of an answer, the seconds that it took, its request id, and the facts that many lines may share."""


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """The facts about one answer.

    `sent` counts bytes of body, and `seconds` is the time from the request's head to the answer's end. `client` is an
    address, `client_id` a gateway client, `cache` the `Cache-Status`, `kind` the slug of a problem, and `trace_id` the
    trace to which a trusted proxy counts the request; each may be None. `aborted`: the connection was cut before the
    answer's end.
    """

    request_id: str
    client: IPAddress | None
    method: str
    target: str
    status: int
    sent: int
    seconds: float
    user_agent: str | None = None
    client_id: str | None = None
    cache: str | None = None
    kind: str | None = None
    aborted: bool = False
    trace_id: str | None = None

    def noted(self, now: float) -> Noted:
        """Return the answer as a batch takes it. `now` is the Unix time of the answer's end."""
        answer: dict[str, Fact] = {"status": self.status, "bytes": self.sent}
        if self.cache is not None:
            answer["cache"] = self.cache
        if self.kind is not None:
            answer["problem"] = self.kind
        if self.client_id is not None:
            answer["client_id"] = self.client_id
        if self.aborted:
            answer["aborted"] = True
        if self.trace_id is not None:
            answer["trace_id"] = self.trace_id
        target = Words({"method": self.method, "target": shown_target(self.target)})
        client, agent = client_words(self.client), agent_words(self.user_agent)
        return now, self.seconds, self.request_id, Sentence(client, target, Words(answer), agent)


@lru_cache(_CLIENTS)
def client_words(address: IPAddress | None) -> Words:
    """Return the words for a client at that address; none for a unix socket."""
    return Words({} if address is None else {"client": str(address)})


@lru_cache(_AGENTS)
def agent_words(agent: str | None) -> Words:
    """Return the words for a request with that `User-Agent`; none if it has no such field."""
    return Words({} if agent is None else {"user_agent": _shown_agent(agent)})


def shown_target(target: str) -> str:
    """Return a target without its secrets, and cut.

    The secrets go first: most of a signature would be as good as the whole.
    """
    plain = _PLAIN_LINK.fullmatch(target)
    return redact(target)[:_LONGEST_TARGET] if plain is None else plain[1] + HIDDEN


def _shown_agent(agent: str) -> str:
    return redact(agent)[:_LONGEST_AGENT]


class AccessBatch:
    """The answers of the last tenth of a second, at most `MOST`, that are noted and not yet written.

    A batch belongs to one event loop, whose thread alone notes and flushes.
    """

    def __init__(self) -> None:
        self._noted: list[Noted] = []
        self._timer: asyncio.TimerHandle | None = None
        _batches.add(self)

    @property
    def wanted(self) -> bool:
        """Return whether an access log is written at all."""
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
        """Hand over what is noted, from any thread; the timer goes on."""
        if self._noted:
            noted, self._noted = self._noted, []
            _log.info("access", extra={"batch": noted})


_batches: Final[WeakSet[AccessBatch]] = WeakSet()


def hand_over_all() -> None:
    """Hand over what every batch has noted, because the log ends before the batches do."""
    for batch in tuple(_batches):
        batch.hand_over()
