"""The event loop of a process: which one runs, and the signals that end it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import TypeVar

from proxy.errors import SettingProblem, SettingsError
from proxy.settings import EventLoop

T = TypeVar("T")


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
    """Run a coroutine to its end on the loop that is asked for; None is uvloop if it is installed.

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
