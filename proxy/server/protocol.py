"""Connections: how many, how long a request's head may take, and what is answered to what is no HTTP.

Leans on these internals of aiohttp's `RequestHandler`: `data_received`, `connection_made`, `connection_lost`,
`handle_error`, `_messages` (parsed and waiting) and `_current_request`; and on `Server.request_handler`,
`request_factory` and `_kwargs`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.errors import BadRequest, GatewayError, Overloaded
from proxy.web.problems import PROBLEM_TYPE, problem, problem_body

_log: Final = logging.getLogger("media_gateway.server")


class GatewayProtocol(RequestHandler):
    """One client's connection."""

    __slots__ = ("_head_timer", "_limits")

    def __init__(self, server: GatewayServer, loop: asyncio.AbstractEventLoop, **kwargs: object) -> None:
        super().__init__(server, loop=loop, **kwargs)  # type: ignore[arg-type]
        self._limits = server
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self._limits.connections) > self._limits.max_connections:
            assert isinstance(transport, asyncio.WriteTransport)
            transport.write(_full())
            self.force_close()
            return
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages or self._current_request is not None:
            self._head_came()
        elif self._head_timer is None:
            # The first bytes of a head on a connection that was kept open.
            self._await_head()

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
        response.force_close()
        return response


class GatewayServer(web.Server):
    """Makes a `GatewayProtocol` for each connection. Times in seconds."""

    def __init__(self, inner: web.Server, *, max_connections: int, header_seconds: float) -> None:
        super().__init__(inner.request_handler, request_factory=inner.request_factory, **inner._kwargs)
        self.max_connections = max_connections
        self.header_seconds = header_seconds

    def __call__(self) -> GatewayProtocol:
        return GatewayProtocol(self, loop=self._loop, **self._kwargs)


class GatewayRunner(web.AppRunner):
    """An `AppRunner` whose connections are bounded."""

    def __init__(
        self,
        app: web.Application,
        *,
        max_connections: int,
        header_seconds: float,
        keepalive_seconds: float,
        drain_seconds: float,
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=keepalive_seconds,
            shutdown_timeout=drain_seconds,
            handler_cancellation=False,
        )
        self._max_connections = max_connections
        self._header_seconds = header_seconds

    async def _make_server(self) -> web.Server:
        inner = await super()._make_server()
        return GatewayServer(inner, max_connections=self._max_connections, header_seconds=self._header_seconds)


def _full() -> bytes:
    error = Overloaded("The gateway has as many connections as it can.", retry_after=5)
    body = problem_body(error, secrets.token_hex(16))
    head = (
        f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"Retry-After: {error.retry_after}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
