"""One request and its answer: the facts that the middleware and the handlers learn, and the id for the log."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from aiohttp import web

from proxy.cache.entry import Representation
from proxy.errors import GatewayError
from proxy.model import IPAddress
from proxy.telemetry.metrics import CacheOutcome


class RequestIds:
    """A source of request ids, of 32 hexadecimal digits: 64 random bits that a worker's ids share, then a number."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(8)
        self._numbers = count(1)

    def make(self) -> str:
        """Return a new id."""
        return f"{self._run}{next(self._numbers):016x}"


class ServerTiming:
    """The times of an answer's steps, one after the other, as the value of `Server-Timing` (W3C Server Timing)."""

    def __init__(self) -> None:
        self._reached = time.perf_counter()
        self._steps: dict[str, float] = {}

    def mark(self, step: str) -> None:
        """Add the time since the last mark to this step."""
        now = time.perf_counter()
        self._steps[step] = self._steps.get(step, 0.0) + now - self._reached
        self._reached = now

    def __str__(self) -> str:
        return ", ".join(f"{step};dur={seconds * 1_000:.3f}" for step, seconds in self._steps.items())


@dataclass(slots=True)
class Exchange:
    """The facts about one request, as they become known.

    `client` is None behind a unix socket that names no address. `answer` is set when its head goes out; `sent` counts
    the bytes of its body that were streamed, and `cache` is where they came from. `timing` is set once a media is open,
    if the settings ask for it. `refusal` makes the answer to an error, given the request's id. `reused` is the stored
    response behind a good answer, if no upstream was asked. `by_proxy`: a trusted proxy is at the other end of the
    connection; `trace_id` is the trace to which that proxy counts the request.
    """

    request_id: str
    client: IPAddress | None
    refusal: Callable[[GatewayError, str], web.Response]
    client_id: str | None = None
    answer: web.StreamResponse | None = None
    sent: int = 0
    cache: CacheOutcome = CacheOutcome.NONE
    timing: ServerTiming | None = None
    reused: Representation | None = None
    by_proxy: bool = False
    trace_id: str | None = None


EXCHANGE: Final = web.RequestKey("exchange", Exchange)
