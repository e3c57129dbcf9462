"""One connection: answers at once, time limits of heads and answers, and the answer to what is not HTTP.

Leans on these internals of aiohttp's `RequestHandler`: `connection_made`, `connection_lost`, `data_received`,
`pause_writing`, `resume_writing`, `handle_error`, `log_exception`, `_handle_request`, `_messages` (parsed and waiting,
or `_ErrInfo`), `_current_request` and `_manager`, whose `_connections` it counts; the express lane on some more, which
it looks for before it is used.
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
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.errors import BadRequest, GatewayError, StoreError
from proxy.http_server.connections import Connections
from proxy.http_server.express.lane import ExpressLane
from proxy.http_server.express.memo import Answer, FileAnswer, Peer
from proxy.http_server.file_transfer import FileTransfer
from proxy.telemetry.metrics import CutBy
from proxy.web.http.connection_reset import reset
from proxy.web.http.problems import problem

UNSENT_BYTES: Final = 262_144
"""Bytes of an answer that the kernel takes besides those on their way to the client (TCP_NOTSENT_LOWAT).

Without this bound, the kernel takes up to 4 MB for each client that reads slowly.
"""
_log: Final = logging.getLogger("media_gateway.server")


class GatewayProtocol(RequestHandler):
    """One client's connection."""

    __slots__ = (
        "_answered",
        "_candidate",
        "_connections",
        "_descriptor",
        "_head_timer",
        "_lane",
        "_late",
        "_leaving",
        "_peer",
        "_send_timer",
        "_stands_between",
        "_transfer",
    )

    def __init__(
        self,
        server: web.Server,
        connections: Connections,
        lane: ExpressLane | None,
        *,
        loop: asyncio.AbstractEventLoop,
        **kwargs: object,
    ) -> None:
        super().__init__(server, loop=loop, **kwargs)  # type: ignore[arg-type]
        self._connections = connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._lane = lane
        self._peer: Peer | None = None
        self._descriptor: int | None = None
        # Whether the next byte is the first one of a message; False if that is not certain.
        self._stands_between = True
        self._transfer: FileTransfer | None = None
        # The body of the last request that was answered, which may still be coming.
        self._answered: StreamReader | None = None
        # Whether the client was cut off because it took next to nothing.
        self._late = False
        # Whether the transfer is an answer of the lane: nothing is read meanwhile.
        self._leaving = False
        # The bytes of the message that is being answered, if nothing else had come.
        self._candidate: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._manager is not None
        # aiohttp's own table has each connection until its handler has ended too.
        if len(self._manager._connections) >= self._connections.most:
            # A stream server's transports are always these; uvloop's do not inherit from them.
            self._connections.refuse(cast("asyncio.Transport", transport))
            return
        super().connection_made(transport)
        self._connections.opened()
        _bound_unsent(transport)
        if self._lane is not None:
            self._peer = self._lane.peer(transport.get_extra_info("peername"))
            connection = transport.get_extra_info("socket")
            self._descriptor = None if connection is None else connection.fileno()
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_came()
        self._stop_send_timer()
        self._connections.closed()
        if self._paused and not self._request_in_progress:
            # No handler waits for an answer of the express lane: the rest of it is lost.
            self._connections.aborted(CutBy.CLIENT)
        if self._transfer is not None:
            self._transfer.abort()
        super().connection_lost(exc)
        if self._answered is not None:
            # No more of it comes: a reader is not to wait for it.
            self._answered.feed_eof()

    @contextlib.contextmanager
    def ends_with_it(self, transfer: FileTransfer) -> Iterator[None]:
        """End a transfer, which goes past the transport, with the connection; a context manager."""
        self._transfer = transfer
        try:
            yield
        finally:
            self._transfer = None

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            # Reading is paused. Bytes that came all the same would be answered in the middle of an answer.
            self.force_close()
            return
        # Before the first message, aiohttp's loop over messages may not have begun.
        waiter = self._waiter
        waiting = (not waiter.done() if waiter is not None else self._request_count == 0) and not self._messages
        lane = self._lane
        if lane is not None and waiting and self._stands_between and not self._paused and self._peer is not None:
            answer = lane.answer(data, self._peer)
            if answer is not None and self._sent_at_once(answer):
                return
        came = len(self._messages)
        self._candidate = None
        super().data_received(data)
        if lane is not None:
            alone = waiting and self._stands_between
            self._stands_between = self._ended_a_message(data, came)
            self._candidate = data if alone and self._stands_between else None
        self._break_body()
        if self._messages or self._current_request is not None:
            self._head_came()
        elif self._head_timer is None:
            # These are the first bytes of a head on a connection that was kept open.
            self._await_head()

    def _sent_at_once(self, answer: Answer) -> bool:
        """Send an answer of the express lane; return False if the request has to go the ordinary way."""
        transport, manager = self.transport, self._manager
        assert transport is not None
        assert manager is not None
        if isinstance(answer, FileAnswer):
            if not self._sends_file(transport, answer):
                answer.body.release()
                return False
        else:
            self._write_at_once(transport, *answer)
        if self._head_timer is not None:
            self._head_came()
        manager.requests_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            # No ordinary answer has started the timer of idle connections.
            self._keepalive = True
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        return True

    def _write_at_once(self, transport: asyncio.Transport, head: bytes, body: bytes | memoryview) -> None:
        """Write past the transport, which would copy the body; it gets only what the kernel does not take.

        A broken connection is left for the transport to find.
        """
        sent = 0
        if self._descriptor is not None and not transport.get_write_buffer_size():
            try:
                sent = os.writev(self._descriptor, (head, body))
            except OSError:
                sent = 0
        if sent == len(head) + len(body):
            return
        if sent < len(head):
            transport.write(b"".join((head[sent:], body)))
        else:
            transport.write(memoryview(body)[sent - len(head) :])

    def _sends_file(self, transport: asyncio.Transport, answer: FileAnswer) -> bool:
        """Start a transfer past the transport, and read nothing until it ends; return False if that cannot be done."""
        connection = transport.get_extra_info("socket")
        if connection is None or transport.get_write_buffer_size():
            return False

        def ended(error: Exception | None) -> None:
            self._transfer = None
            answer.ended(transfer.sent)
            if self._leaving:
                self._leaving = False
                self._connections.request_ended()
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                if not transport.is_closing():
                    transport.resume_reading()
            if isinstance(error, StoreError):
                facts = {"request_id": answer.request_id}
                _log.warning("A stored body could not be read: %s", error.note, extra={"facts": facts})
            if error is not None:
                self._connections.aborted(CutBy.GATEWAY if isinstance(error, StoreError) else CutBy.CLIENT)
            if error is not None and not transport.is_closing():
                # The client must not take a part for the whole.
                reset(transport)

        try:
            transfer = FileTransfer(
                connection, answer.head, answer.body, answer.span, self._connections.send_seconds, ended
            )
        except OSError:
            # No descriptor is left.
            return False
        self._transfer = transfer
        transfer.start()
        if self._transfer is not None:
            self._leaving = True
            self._connections.request_began()
            transport.pause_reading()
        return True

    def _process_keepalive(self) -> None:
        if self._leaving:
            # A transfer is under way: the connection is not idle.
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def _ended_a_message(self, data: bytes, came: int) -> bool:
        """Return whether the parser was just given the end of a message without a body, and nothing after it."""
        if len(self._messages) != came + 1 or self._upgraded or self._buffer_paused:
            return False
        message, payload = self._messages[-1]
        return payload is EMPTY_PAYLOAD and isinstance(message, RawRequestMessage) and data.endswith(b"\r\n\r\n")

    def _break_body(self) -> None:
        """Tell the reader of a body now that its framing is broken; otherwise only its timer would."""
        current = self._current_request
        broken = bool(self._messages) and isinstance(self._messages[-1][0], _ErrInfo)
        if broken and current is not None and not current.content.is_eof():
            current.content.set_exception(web.RequestPayloadError("the framing of the body is broken"))

    def _await_head(self) -> None:
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(self._connections.header_seconds, self._head_late)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        self.force_close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer = asyncio.get_running_loop().call_later(self._connections.send_seconds, self._send_late)

    def resume_writing(self) -> None:
        self._stop_send_timer()
        super().resume_writing()

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _send_late(self) -> None:
        """Cut off a client that has taken next to nothing of what waits for it for too long."""
        self._send_timer = None
        self._late = True
        reset(self.transport)

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        """Handle one request, counted as running until its answer is written to the end."""
        self._connections.request_began()
        try:
            response, gone = await super()._handle_request(request, start_time, request_handler)
        finally:
            self._connections.request_ended()
        self._answered = request.content
        if gone or self._late:
            # This counts what aiohttp writes after the handler; `web` counts what a handler writes.
            self._connections.aborted(CutBy.CLIENT)
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
        """Answer bytes that could not be parsed with a problem that repeats none of them, and close the connection."""
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionResetError("an answer was under way, or its client is gone")
        request_id = secrets.token_hex(16)
        error: GatewayError
        if status == 400:
            error = BadRequest("The request is not well-formed HTTP.")
        else:
            facts = {"request_id": request_id}
            _log.error("A request failed outside every handler", exc_info=exc, extra={"facts": facts})
            error = GatewayError("The request could not be answered.")
        response = problem(error, request_id)
        make_last(response)
        self._connections.unheard(error.status)
        return response

    def log_exception(self, *args: object, **kw: object) -> None:
        """Log no traceback of a body that is not well-formed: that is its sender's fault."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)


def _bound_unsent(transport: asyncio.BaseTransport) -> None:
    """Let the kernel hold little for a client that reads slowly; bytes on their way to a distant one have no bound."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
        # The client may be gone already.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def make_last(response: web.StreamResponse) -> None:
    """Close the connection after this answer, and say so in it (RFC 9112 §9.6)."""
    response.force_close()
    response.headers["Connection"] = "close"
