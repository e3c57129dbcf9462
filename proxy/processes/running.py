"""From settings to a served socket, and back: start, signals, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from proxy.errors import SettingProblem, SettingsError
from proxy.processes.listeners import open_listeners
from proxy.processes.service import serving
from proxy.settings import EventLoop, Settings
from proxy.telemetry.metrics import Metrics

_log: Final = logging.getLogger("media_gateway.server")
T = TypeVar("T")


@asynccontextmanager
async def running(settings: Settings, *, open_console: bool = False) -> AsyncIterator[Settings]:
    """A gateway that serves in this process alone; gives the settings with the port that was bound. Leaving it drains.

    Raises `SettingsError` where it cannot start.
    """
    listeners = await asyncio.to_thread(open_listeners, settings, os.environ)
    try:
        settings = settings.at_port(listeners.main.port or 0)
        async with serving(settings, listeners, metrics=Metrics(), open_console=open_console):
            # As text: the log's own thread may come to it after the socket is closed.
            _log.info("listening at %s, links begin with %s", str(listeners.main), settings.public_url)
            yield settings
        _log.info("stopped")
    finally:
        await asyncio.to_thread(listeners.close)


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
