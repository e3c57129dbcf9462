"""The gateway in one process: it serves at its sockets, retires or drains, and ends."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from proxy.app import create_app, create_metrics_app, make_account, open_gateway
from proxy.errors import SettingsError
from proxy.http_server.file_responder import FileResponder
from proxy.http_server.runner import GatewayRunner
from proxy.model import Clock
from proxy.node import Seat
from proxy.processes.listeners import Listener, Listeners, open_listeners
from proxy.processes.orders import AccountChange
from proxy.settings import Settings
from proxy.telemetry.metrics import Metrics
from proxy.web.media.delivery import FILE_SENDER
from proxy.web.services.gateway import Gateway

_log: Final = logging.getLogger("media_gateway.server")

_RETIRING_SECONDS: Final = 1.0
"""Time for which an idle connection stays open while another process takes over.

A client that sends one request after the other finds it open, and the answer says that it was the last.
"""
_SCRAPERS: Final = 100


class Service:
    """A gateway that serves in this process."""

    def __init__(self, gateway: Gateway, runner: GatewayRunner) -> None:
        self._gateway = gateway
        self._runner = runner

    def change_accounts(self, change: AccountChange) -> None:
        """Serve the accounts that have come, and not those that are gone. Fills and answers go on to their end."""
        try:
            come = [make_account(account) for account in change.come]
        except SettingsError as error:
            # This cannot be: the supervisor has checked them.
            for problem in error.problems:
                _log.error("%s: %s", problem.name, problem.message)
            return
        self._gateway.media.accounts.change(come, change.gone)

    async def retire(self) -> None:
        """Accept no new connection, because another process does."""
        self._gateway.readiness.retiring = True
        self._gateway.telemetry.metrics.retiring()
        await self._runner.stop_accepting()

    async def linger(self, stopped: asyncio.Event) -> None:
        """Give the clients of open connections time to go to another process.

        This takes a second, or less if no connection is open or `stopped` is set.
        """
        waits = [asyncio.create_task(self._runner.emptied()), asyncio.create_task(stopped.wait())]
        try:
            await asyncio.wait(waits, timeout=_RETIRING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


@asynccontextmanager
async def serving(
    settings: Settings,
    listeners: Listeners,
    *,
    metrics: Metrics,
    seat: Seat | None = None,
    workers: int = 1,
    open_console: bool = False,
    clock: Clock = time.time,
) -> AsyncIterator[Service]:
    """Serve a gateway at these sockets, as one of so many workers. Leaving the scope drains, and closes no socket.

    `seat` is its share in the state of the workers' node. Raises `SettingsError` if it cannot start.
    """
    async with open_gateway(settings, metrics, clock, seat=seat, workers=workers) as gateway:
        app = create_app(
            gateway, console=settings.console, open_console=open_console, with_metrics=listeners.metrics is None
        )
        app[FILE_SENDER] = FileResponder(settings.limits.send_seconds)
        runner = _runner(app, settings, metrics, settings.limits.connections, express=settings.express)
        async with _metrics_served(gateway, settings, listeners.metrics):
            await runner.setup()
            try:
                await runner.serve_at(listeners.main.socket)
                metrics.serving()
                yield Service(gateway, runner)
            finally:
                metrics.retiring()
                gateway.readiness.draining = not gateway.readiness.retiring
                gateway.media.engine.drain()
                await runner.stop_accepting()
                _log.info("draining for up to %s s", settings.drain_seconds)
                await runner.cleanup()


@asynccontextmanager
async def serving_alone(settings: Settings, *, open_console: bool = False) -> AsyncIterator[Settings]:
    """Open the sockets, and serve a gateway in this process alone. Leaving the scope drains, and closes the sockets.

    Yields the settings with the port that was bound. Raises `SettingsError` if the gateway cannot start.
    """
    listeners = await asyncio.to_thread(open_listeners, settings, os.environ)
    try:
        settings = settings.at_port(listeners.main.port or 0)
        async with serving(settings, listeners, metrics=Metrics(), open_console=open_console):
            # Passed as text, since the thread of the log may write it after the socket is closed.
            _log.info("listening at %s, links begin with %s", str(listeners.main), settings.public_url)
            yield settings
        _log.info("stopped")
    finally:
        await asyncio.to_thread(listeners.close)


@asynccontextmanager
async def _metrics_served(gateway: Gateway, settings: Settings, listener: Listener | None) -> AsyncIterator[None]:
    """Serve `/metrics` at an address of its own, if there is one, until the rest has drained."""
    if listener is None:
        yield
        return
    # Its connections are not those of clients, and are not counted with them.
    runner = _runner(create_metrics_app(gateway), settings, Metrics(), _SCRAPERS, express=False)
    await runner.setup()
    try:
        await runner.serve_at(listener.socket)
        yield
    finally:
        await runner.cleanup()


def _runner(
    app: web.Application, settings: Settings, metrics: Metrics, connections: int, *, express: bool
) -> GatewayRunner:
    return GatewayRunner(
        app,
        max_connections=connections,
        header_seconds=settings.limits.header_seconds,
        send_seconds=settings.limits.send_seconds,
        keepalive_seconds=settings.limits.keepalive_seconds,
        drain_seconds=settings.drain_seconds,
        express=express,
        metrics=metrics,
    )
