"""All connections of a server: how many there may be, and how they come to their end.

Leans on these internals of aiohttp's `Server`: `request_handler`, `request_factory`, `_kwargs` and `_connections`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web

from proxy.http_server.express.lane import ExpressLane
from proxy.http_server.protocol import GatewayProtocol
from proxy.http_server.refusal import Refusals
from proxy.telemetry.metrics import CacheOutcome, CutBy, Metrics, Route

_log: Final = logging.getLogger("media_gateway.server")


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

    def aborted(self, by: CutBy) -> None:
        """Count an answer that broke off outside every handler."""
        self._metrics.aborted(by)

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
