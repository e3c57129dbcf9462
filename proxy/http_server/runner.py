"""The server's run: it is set up, accepts, stops accepting, drains, and ends.

Leans on these internals of aiohttp's `Server`: `request_handler`, `request_factory`, `_kwargs` and `_loop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from aiohttp import web

from proxy.errors import ContentTooLarge
from proxy.http_server.connections import Connections
from proxy.http_server.express.lane import ExpressLane, express_lane
from proxy.http_server.protocol import GatewayProtocol, make_last
from proxy.telemetry.metrics import Metrics
from proxy.web.services.gateway import GATEWAY

BACKLOG: Final = 4096
"""Connections that the kernel holds until they are accepted."""
_ACCEPT_TURNS: Final = 3
"""Turns of the loop within which a connection that was accepted begins."""
_CUT_SECONDS: Final = 0.1
"""Time for a handler to end in, once the time for draining is over."""
_LINGER_SECONDS: Final = 3.0
"""Time for which the rest of a body is read and dropped after an early answer, so that its sender can read that."""


async def _close_after_unread(request: web.Request, response: web.StreamResponse) -> None:
    """Close the connection after an answer that does not wait for the whole of its request (RFC 9112 §9.3).

    So does the answer to a body that is too large, and the one to a request for another protocol: that is not granted,
    and aiohttp parses nothing that comes after it.
    """
    too_large = response.status == ContentTooLarge.status
    if too_large or not request.content.is_eof() or request._message.upgrade:
        make_last(response)


class GatewayServer(web.Server):
    """A factory of `GatewayProtocol`s, one for each connection."""

    def __init__(self, inner: web.Server, connections: Connections, lane: ExpressLane | None) -> None:
        super().__init__(inner.request_handler, request_factory=inner.request_factory, **inner._kwargs)
        self.lane = lane
        self._counts = connections

    def __call__(self) -> GatewayProtocol:
        return GatewayProtocol(self, self._counts, self.lane, loop=self._loop, **self._kwargs)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's signature
        """Close every connection, also those that are being refused."""
        self._counts.close()
        await super().shutdown(timeout)
        if self.lane is not None:
            self.lane.close()


class GatewayRunner(web.AppRunner):
    """An `AppRunner` whose connections are bounded, and which drains before it closes them. Times in seconds."""

    def __init__(
        self,
        app: web.Application,
        *,
        max_connections: int,
        header_seconds: float,
        send_seconds: float,
        keepalive_seconds: float,
        drain_seconds: float,
        express: bool,
        metrics: Metrics,
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=keepalive_seconds,
            shutdown_timeout=_CUT_SECONDS,
            handler_cancellation=False,
            lingering_time=_LINGER_SECONDS,
            # A compressed body is not unpacked: a few bytes may stand for gigabytes.
            auto_decompress=False,
        )
        self._connections = Connections(
            most=max_connections, header_seconds=header_seconds, send_seconds=send_seconds, metrics=metrics
        )
        self._drain_seconds = drain_seconds
        self._listening: list[socket.socket] = []
        self._express = express
        app.on_response_prepare.append(_close_after_unread)

    async def _make_server(self) -> web.Server:
        inner = await super()._make_server()
        return GatewayServer(inner, self._connections, express_lane(self.app[GATEWAY]) if self._express else None)

    async def serve_at(self, listening: socket.socket) -> None:
        """Accept connections at a socket, which remains its owner's."""
        await web.SockSite(self, listening, backlog=BACKLOG).start()
        self._listening.append(listening)

    async def stop_accepting(self) -> None:
        """Accept nothing more, and go on with the connections that are open."""
        loop = asyncio.get_running_loop()
        while self._listening:
            # When its server closes, asyncio drops what its reader has accepted and not begun. uvloop does not, and
            # refuses to remove the reader.
            with contextlib.suppress(RuntimeError):
                loop.remove_reader(self._listening.pop())
        for _ in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)
        for site in self.sites:
            await site.stop()

    async def emptied(self) -> None:
        """Wait until no connection is open."""
        await self._connections.emptied()

    async def cleanup(self) -> None:
        """Accept nothing more, drain, and close what is left."""
        await self.stop_accepting()
        # Connections that were accepted just now may begin.
        await asyncio.sleep(0)
        await self._connections.drain(self._drain_seconds)
        await super().cleanup()
