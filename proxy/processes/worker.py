"""A worker: one process that serves, forked by the supervisor, which sends its orders over a socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from proxy.errors import SettingsError
from proxy.node import Seat
from proxy.processes.event_loop import run
from proxy.processes.listeners import Listeners
from proxy.processes.orders import READY, RETIRED, AccountChange, Leave, Report, read_order, report
from proxy.processes.service import serving
from proxy.processes.tuning import collect_less, reuse_freed_memory
from proxy.settings import LogFormat, Settings
from proxy.telemetry.logs import logging_to
from proxy.telemetry.metrics import Metrics

BAD_SETTINGS: Final = 2
_ORPHANED: Final = 1
_LINE_BYTES: Final = 65_536

_log: Final = logging.getLogger("media_gateway.server")


@dataclass(frozen=True, slots=True)
class Assignment:
    """Means of one of so many `workers`: sockets that listen, a row to count in, a seat, and its end of the `line`."""

    settings: Settings
    listeners: Listeners
    metrics: Metrics
    seat: Seat
    workers: int
    line: socket.socket


def work(assignment: Assignment) -> int:
    """Serve until an order to leave, and return the exit code. Problems that prevent the start are reported."""
    settings = assignment.settings
    settings = settings.model_copy(update={"memory_bytes": settings.memory_bytes // assignment.workers})
    assignment.line.settimeout(0)
    reuse_freed_memory()
    collect_less()
    with logging_to(as_json=settings.log_format is LogFormat.JSON, level=settings.log_level.value):
        try:
            run(lambda: _serve(assignment, settings), settings.loop)
        except SettingsError as error:
            report(assignment.line, Report.of(error.problems))
            return BAD_SETTINGS
        except Exception:
            _log.exception("A worker failed")
            raise
    return 0


async def _serve(assignment: Assignment, settings: Settings) -> None:
    with _orders(assignment.line) as orders:
        async with serving(
            settings,
            assignment.listeners,
            metrics=assignment.metrics,
            seat=assignment.seat,
            workers=assignment.workers,
        ) as service:
            orders.follow(service.change_accounts)
            report(assignment.line, READY)
            await orders.leaving.wait()
            if not orders.stopped.is_set():
                await service.retire()
                report(assignment.line, RETIRED)
                await service.linger(orders.stopped)


class _Orders:
    """Orders of the supervisor so far; `leaving` is set by either order to leave, `stopped` by the one to stop.

    Changes of the accounts are handed on once there is a gateway to take them.
    """

    def __init__(self, line: socket.socket) -> None:
        self.leaving = asyncio.Event()
        self.stopped = asyncio.Event()
        self._line = line
        self._said = bytearray()
        self._changes: list[AccountChange] = []
        self._follower: Callable[[AccountChange], None] | None = None

    def follow(self, follower: Callable[[AccountChange], None]) -> None:
        """Hand over the changes that have come, and those to come."""
        self._follower = follower
        self._hand_on()

    def _hand_on(self) -> None:
        if self._follower is not None:
            changes, self._changes = self._changes, []
            for change in changes:
                self._follower(change)

    def stop(self) -> None:
        """Carry out the order to stop."""
        self.stopped.set()
        self.leaving.set()

    def read(self) -> None:
        """Read and carry out what has come. A worker without a supervisor exits: nothing else would stop it."""
        said = b""
        # A supervisor that ended with a report unread has reset the line. That is reported once, with no end after it.
        with contextlib.suppress(ConnectionResetError):
            said = self._line.recv(_LINE_BYTES)
        if not said:
            os._exit(_ORPHANED)
        self._said += said
        *lines, rest = bytes(self._said).split(b"\n")
        self._said[:] = rest
        for line in lines:
            order = read_order(line)
            match order:
                case Leave.STOP:
                    self.stop()
                case Leave.RETIRE:
                    self.leaving.set()
                case AccountChange():
                    self._changes.append(order)
                case _:
                    assert_never(order)
        self._hand_on()


@contextlib.contextmanager
def _orders(line: socket.socket) -> Iterator[_Orders]:
    """Carry out the supervisor's orders meanwhile. SIGTERM, which a service manager may send to all, means stop."""
    loop = asyncio.get_running_loop()
    orders = _Orders(line)
    loop.add_signal_handler(signal.SIGTERM, orders.stop)
    loop.add_reader(line, orders.read)
    try:
        yield orders
    finally:
        loop.remove_reader(line)
        loop.remove_signal_handler(signal.SIGTERM)
