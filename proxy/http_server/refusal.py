"""Connections beyond the limit: each is told so, and closed."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from proxy.errors import Overloaded
from proxy.reasons import reason_phrase
from proxy.web.http.problems import PROBLEM_TYPE, SERVER, problem_body

_LINGER_SECONDS: Final = 1.0
_AT_ONCE: Final = 100
_RETRY_SECONDS: Final = 5


class Refusals:
    """The connections that are being refused: a bounded number, each for a second at most."""

    def __init__(self) -> None:
        self._under_way: set[_Refusal] = set()

    def take(self, transport: asyncio.Transport) -> None:
        """Answer 503 and close; where many are being refused already, close at once."""
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
    """One connection. What its client sends is read and dropped: closing a socket on unread bytes would reset it, and
    the client would lose the answer (RFC 9112 §9.6).
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
