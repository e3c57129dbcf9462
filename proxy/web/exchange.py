"""One request with its answer: what the handlers and the middleware learn of it, and the id by which logs name it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from typing import Final

from aiohttp import web

from proxy.cache.entry import Representation
from proxy.errors import GatewayError
from proxy.telemetry.metrics import CacheOutcome
from proxy.web.http.problems import problem
from proxy.web.media.server_timing import ServerTiming

Address = IPv4Address | IPv6Address


class RequestIds:
    """Makes the ids of requests, 32 hexadecimal digits: 64 bits by chance for all of a worker's, then a number."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(8)
        self._numbers = count(1)

    def make(self) -> str:
        """One more."""
        return f"{self._run}{next(self._numbers):016x}"


@dataclass(slots=True)
class Exchange:
    """What is learnt of one request on its way.

    `client` is None behind a unix socket that names none. `answer` is set when its head goes out; `sent` counts the
    bytes of its body that were streamed, `cache` is where they came from. `timing` is there once a media is open, where
    it is asked for. `refusal` makes the answer to an error, given the request's id. `reused` is the stored response
    that a good answer came from, where no upstream was asked. `by_proxy`: a trusted proxy is at the connection's other
    end; `trace_id` is the trace that it counts the request to.
    """

    request_id: str
    client: Address | None
    client_id: str | None = None
    answer: web.StreamResponse | None = None
    sent: int = 0
    cache: CacheOutcome = CacheOutcome.NONE
    timing: ServerTiming | None = None
    refusal: Callable[[GatewayError, str], web.Response] = problem
    reused: Representation | None = None
    by_proxy: bool = False
    trace_id: str | None = None


EXCHANGE: Final = web.RequestKey("exchange", Exchange)
