"""All connections of a server: how many there may be, how many requests run, and how both come to their end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Final

from proxy.errors import Overloaded
from proxy.reasons import reason_phrase
from proxy.telemetry.metrics import CacheOutcome, CutBy, Metrics, Route
from proxy.web.http.problems import PROBLEM_TYPE, SERVER, problem_body

_log: Final = logging.getLogger("media_gateway.server")

_LINGER_SECONDS: Final = 1.0
_AT_ONCE: Final = 100
_RETRY_SECONDS: Final = 5


class Connections:
    """The connections of one server: its limits, and counts of what is open and what runs. Times in seconds."""

    def __init__(self, *, most: int, header_seconds: float, send_seconds: float, metrics: Metrics) -> None:
        self.most = most
        self.header_seconds = header_seconds
        self.send_seconds = send_seconds
        self._metrics = metrics
        self._refusals = _Refusals()
        self._open = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def opened(self) -> None:
        """Count a connection that was opened."""
        self._open += 1
        self._empty.clear()
        self._metrics.connections(+1)

    def closed(self) -> None:
        """Count a connection that was closed."""
        self._open -= 1
        if not self._open:
            self._empty.set()
        self._metrics.connections(-1)

    def refuse(self, transport: asyncio.Transport) -> None:
        """Answer a connection beyond the limit with 503, and close it."""
        self._refusals.take(transport)
        self.unheard(Overloaded.status)

    def unheard(self, status: int) -> None:
        """Count an answer to a request that came to no handler."""
        self._metrics.answered(Route.OTHER, status, CacheOutcome.NONE, 0.0, 0)

    def aborted(self, by: CutBy) -> None:
        """Count an answer that broke off outside every handler."""
        self._metrics.aborted(by)

    def request_began(self) -> None:
        """Count a request that runs."""
        self._running += 1
        self._idle.clear()

    def request_ended(self) -> None:
        """Count a request that runs no longer."""
        self._running -= 1
        if not self._running:
            self._idle.set()

    async def emptied(self) -> None:
        """Wait until no connection is open."""
        await self._empty.wait()

    async def drain(self, seconds: float) -> None:
        """Wait until no request runs, at most `seconds`.

        A connection that is kept open stays open meanwhile: a request that its client has just sent is answered,
        and the answer says that it is the last.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("%s requests were cut off: they took longer than the time for draining", self._running)

    def close(self) -> None:
        """Close the connections that are being refused."""
        self._refusals.close()


class _Refusals:
    """Connections that are being refused: a bounded number, each for at most a second."""

    def __init__(self) -> None:
        self._under_way: set[_Refusal] = set()

    def take(self, transport: asyncio.Transport) -> None:
        """Answer 503 and close; close at once if many are being refused already."""
        if len(self._under_way) >= _AT_ONCE:
            transport.abort()
            return
        refusal = _Refusal(self._under_way, transport)
        transport.set_protocol(refusal)
        refusal.answer()

    def close(self) -> None:
        """Close every one now."""
        for refusal in tuple(self._under_way):
            refusal.end()


class _Refusal(asyncio.Protocol):
    """One refused connection.

    What its client sends is read and dropped: closing a socket on unread bytes would reset it, and the client would
    lose the answer (RFC 9112 §9.6).
    """

    def __init__(self, under_way: set[_Refusal], transport: asyncio.Transport) -> None:
        self._under_way = under_way
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.end)
        under_way.add(self)

    def answer(self) -> None:
        self._transport.write(_full())
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def end(self) -> None:
        self._timer.cancel()
        self._under_way.discard(self)
        self._transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.end()


def _full() -> bytes:
    error = Overloaded("The gateway has as many connections as it can.", retry_after=_RETRY_SECONDS)
    request_id = secrets.token_hex(16)
    body = problem_body(error, request_id)
    fields = {
        "Content-Type": PROBLEM_TYPE,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Connection": "close",
        "Server": SERVER,
        "X-Request-Id": request_id,
        **error.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {error.status} {reason_phrase(error.status)}\r\n{head}\r\n".encode() + body
