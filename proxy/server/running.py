"""From settings to a served socket, and back: start, signals, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from aiohttp import web

from proxy.app import create_app, open_gateway
from proxy.errors import SettingProblem, SettingsError
from proxy.server.listeners import BACKLOG, open_listener
from proxy.server.protocol import GatewayRunner
from proxy.settings import EventLoop, Settings

_log: Final = logging.getLogger("media_gateway.server")
T = TypeVar("T")


@asynccontextmanager
async def running(settings: Settings, *, open_console: bool = False) -> AsyncIterator[Settings]:
    """A gateway that serves; gives the settings with the port that was bound. Leaving it drains.

    Raises `SettingsError` where it cannot start.
    """
    listener = await asyncio.to_thread(open_listener, settings.listen, os.environ)
    try:
        if listener.socket.family is not socket.AF_UNIX:
            settings = settings.at_port(listener.socket.getsockname()[1])
        async with open_gateway(settings) as gateway:
            app = create_app(gateway, console=settings.console, open_console=open_console)
            runner = GatewayRunner(
                app,
                max_connections=settings.limits.connections,
                header_seconds=settings.limits.header_seconds,
                send_seconds=settings.limits.send_seconds,
                keepalive_seconds=settings.limits.keepalive_seconds,
                drain_seconds=settings.drain_seconds,
            )
            await runner.setup()
            try:
                site = web.SockSite(runner, listener.socket, backlog=BACKLOG)
                await site.start()
                _log.info("listening at %s, links begin with %s", site.name, settings.public_url)
                yield settings
            finally:
                gateway.readiness.draining = True
                await runner.cleanup()
                _log.info("stopped")
    finally:
        await asyncio.to_thread(listener.close)


async def until_signalled() -> None:
    """Wait for SIGTERM or SIGINT; a second one ends the process at once, with 128 and its number."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def stop(number: int) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    await told.wait()


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises `SettingsError` where it cannot start."""
    stopped = asyncio.create_task(until_signalled())
    try:
        async with running(settings):
            await stopped
    finally:
        stopped.cancel()


def run(main: Callable[[], Coroutine[object, object, T]], loop: EventLoop | None) -> T:
    """Run a coroutine to its end on the loop that is asked for; None is uvloop where it is installed.

    Raises `SettingsError` where uvloop is asked for and not there.
    """
    with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
        return runner.run(main())


def _loop_factory(loop: EventLoop | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if loop is EventLoop.ASYNCIO:
        return None
    try:
        import uvloop
    except ImportError:
        if loop is EventLoop.UVLOOP:
            raise SettingsError([SettingProblem("GATEWAY_LOOP", "uvloop is not installed")]) from None
        return None
    return uvloop.new_event_loop
