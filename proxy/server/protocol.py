"""Connections: how many, how long a request's head may take, and what is answered to what is no HTTP.

Leans on these internals of aiohttp's `RequestHandler`: `connection_made`, `connection_lost`, `data_received`,
`pause_writing`, `resume_writing`, `handle_error`, `log_exception`, `_handle_request`, `_messages` (parsed and waiting,
or `_ErrInfo`) and `_current_request`; and on `Server.request_handler`, `request_factory`, `_kwargs` and `_connections`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.errors import BadRequest, GatewayError, Overloaded
from proxy.server.express import ExpressLane
from proxy.server.express_memo import Peer
from proxy.server.refusal import Refusals
from proxy.telemetry.metrics import CacheOutcome, Metrics, Route
from proxy.web.cutting import reset
from proxy.web.problems import problem

UNSENT_BYTES: Final = 262_144
"""What the kernel takes of an answer besides what is on its way to the client (TCP_NOTSENT_LOWAT).

Without it the kernel takes up to 4 MB for each client that reads slowly.
"""
_log: Final = logging.getLogger("media_gateway.server")


class GatewayProtocol(RequestHandler):
    """One client's connection."""

    __slots__ = (
        "_candidate",
        "_descriptor",
        "_head_timer",
        "_lane",
        "_limits",
        "_outlet",
        "_peer",
        "_send_timer",
        "_stands_between",
    )

    def __init__(self, server: GatewayServer, loop: asyncio.AbstractEventLoop, **kwargs: object) -> None:
        super().__init__(server, loop=loop, **kwargs)  # type: ignore[arg-type]
        self._limits = server
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._lane = server.lane
        self._peer: Peer | None = None
        self._descriptor: int | None = None
        # Whether what comes next is the first byte of a message; where that is not certain it is not said.
        self._stands_between = True
        self._outlet: socket.socket | None = None
        # The bytes of the one message that is being answered, where that was the whole of what had come.
        self._candidate: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._limits.full:
            # A stream server's transports are always these; uvloop's do not inherit from them.
            self._limits.refusals.take(cast("asyncio.Transport", transport))
            self._limits.unheard(Overloaded.status)
            return
        super().connection_made(transport)
        self._limits.connection_opened()
        _bound_unsent(transport)
        if self._lane is not None:
            self._peer = self._lane.peer(transport.get_extra_info("peername"))
            connection = transport.get_extra_info("socket")
            self._descriptor = None if connection is None else connection.fileno()
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_came()
        self._stop_send_timer()
        self._limits.connection_closed()
        if self._outlet is not None:
            # It may be gone already.
            with contextlib.suppress(OSError):
                self._outlet.shutdown(socket.SHUT_RDWR)
        super().connection_lost(exc)

    @contextlib.contextmanager
    def ends_with_it(self, outlet: socket.socket) -> Iterator[None]:
        """Meanwhile, what goes out through another descriptor of the connection's socket ends with the connection."""
        self._outlet = outlet
        try:
            yield
        finally:
            self._outlet = None

    def data_received(self, data: bytes) -> None:
        # Before the first message it may be that the loop over messages has not begun.
        idle = self._request_count == 0 or (self._waiter is not None and not self._waiter.done())
        waiting = idle and not self._messages
        if waiting and self._stands_between and self._answer_at_once(data):
            return
        came = len(self._messages)
        self._candidate = None
        super().data_received(data)
        if self._lane is not None:
            alone = waiting and self._stands_between
            self._stands_between = self._ended_a_message(data, came)
            self._candidate = data if alone and self._stands_between else None
        self._break_body()
        if self._messages or self._current_request is not None:
            self._head_came()
        elif self._head_timer is None:
            # The first bytes of a head on a connection that was kept open.
            self._await_head()

    def _answer_at_once(self, data: bytes) -> bool:
        """Whether the express lane has the answer, which is sent then."""
        if self._lane is None or self._peer is None or self.transport is None or self._manager is None:
            return False
        if self._paused:
            return False
        answer = self._lane.answer(data, self._peer)
        if answer is None:
            return False
        self._head_came()
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        self._manager.requests_count += 1
        self._write_at_once(self.transport, *answer)
        return True

    def _write_at_once(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        """Past the transport, which would copy the body to put it behind the head; it takes what the kernel does not.

        A broken connection is the transport's to find.
        """
        sent = 0
        if self._descriptor is not None and not transport.get_write_buffer_size():
            with contextlib.suppress(OSError):
                sent = os.writev(self._descriptor, (head, body))
        if sent < len(head):
            transport.write(head[sent:] + body)
        elif sent < len(head) + len(body):
            transport.write(memoryview(body)[sent - len(head) :])

    def _ended_a_message(self, data: bytes, came: int) -> bool:
        """Whether the parser has just been given the end of a message without a body, and nothing behind it."""
        if len(self._messages) != came + 1 or self._upgraded or self._buffer_paused:
            return False
        message, payload = self._messages[-1]
        return payload is EMPTY_PAYLOAD and isinstance(message, RawRequestMessage) and data.endswith(b"\r\n\r\n")

    def _break_body(self) -> None:
        """Where the framing of a body that is being read breaks, its reader learns of it now and not by its timer."""
        current = self._current_request
        broken = bool(self._messages) and isinstance(self._messages[-1][0], _ErrInfo)
        if broken and current is not None and not current.content.is_eof():
            current.content.set_exception(web.RequestPayloadError("the framing of the body is broken"))

    def _await_head(self) -> None:
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(self._limits.header_seconds, self._head_late)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        self.force_close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer = asyncio.get_running_loop().call_later(self._limits.send_seconds, self._send_late)

    def resume_writing(self) -> None:
        self._stop_send_timer()
        super().resume_writing()

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _send_late(self) -> None:
        """The client has taken next to nothing of what waits for it for too long: it is cut off."""
        self._send_timer = None
        reset(self.transport)

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        """One request, counted until its answer is written to the end."""
        self._limits.request_began()
        try:
            response, gone = await super()._handle_request(request, start_time, request_handler)
        finally:
            self._limits.request_ended()
        candidate, self._candidate = self._candidate, None
        if candidate is not None and not gone and self._lane is not None and self._peer is not None:
            self._lane.learn(candidate, request, response, self._peer)
        return response, gone

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What could not be parsed is answered with a problem that repeats none of it; then the connection closes."""
        if request.writer.output_size > 0:
            raise ConnectionResetError("an answer was under way")
        error: GatewayError
        if status == 400:
            error = BadRequest("The request is not well-formed HTTP.")
        else:
            _log.error("A request failed outside every handler", exc_info=exc)
            error = GatewayError("The request could not be answered.")
        response = problem(error, secrets.token_hex(16))
        make_last(response)
        self._limits.unheard(error.status)
        return response

    def log_exception(self, *args: object, **kw: object) -> None:
        """A body that is not well-formed is its sender's fault: no traceback of it goes to the log."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)


def _bound_unsent(transport: asyncio.BaseTransport) -> None:
    """Let the kernel hold little for a client that reads slowly; what is on its way to a distant one has no bound."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
        # A client that is gone already.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


class GatewayServer(web.Server):
    """Makes a `GatewayProtocol` for each connection. Times in seconds."""

    def __init__(
        self,
        inner: web.Server,
        lane: ExpressLane | None,
        *,
        max_connections: int,
        header_seconds: float,
        send_seconds: float,
        metrics: Metrics,
    ) -> None:
        super().__init__(inner.request_handler, request_factory=inner.request_factory, **inner._kwargs)
        self.lane = lane
        self.header_seconds = header_seconds
        self.send_seconds = send_seconds
        self.refusals = Refusals()
        self._max_connections = max_connections
        self._metrics = metrics
        self._open = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __call__(self) -> GatewayProtocol:
        return GatewayProtocol(self, loop=self._loop, **self._kwargs)

    @property
    def full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return len(self._connections) >= self._max_connections

    def connection_opened(self) -> None:
        self._open += 1
        self._empty.clear()
        self._metrics.connections(+1)

    def connection_closed(self) -> None:
        self._open -= 1
        if not self._open:
            self._empty.set()
        self._metrics.connections(-1)

    def unheard(self, status: int) -> None:
        """Count the answer to what did not come to any handler."""
        self._metrics.answered(Route.OTHER, status, CacheOutcome.NONE, 0.0, 0)

    async def emptied(self) -> None:
        """Wait until no connection is open."""
        await self._empty.wait()

    def request_began(self) -> None:
        self._running += 1
        self._idle.clear()

    def request_ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Wait until no request runs, `seconds` at most.

        A connection that is kept open stays open meanwhile: a request that its client has just sent is answered,
        and learns from the answer that it was the last.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("%s requests were cut off: they took longer than the time for draining", self._running)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's signature
        """Close every connection, the refused ones too."""
        self.refusals.close()
        await super().shutdown(timeout)
        if self.lane is not None:
            self.lane.close()


def make_last(response: web.StreamResponse) -> None:
    """Close the connection after this answer, and say so in it (RFC 9112 §9.6)."""
    response.force_close()
    response.headers["Connection"] = "close"
