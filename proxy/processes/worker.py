"""A worker: one process that serves, forked by the supervisor, whose orders come over a socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypedDict

from proxy.errors import SettingsError
from proxy.node import Seat
from proxy.processes.account_changes import AccountChange, read_telling
from proxy.processes.allocator import reuse_freed_memory
from proxy.processes.collector import collect_less
from proxy.processes.listeners import Listeners
from proxy.processes.running import run
from proxy.processes.service import serving
from proxy.settings import LogFormat, Settings
from proxy.telemetry.logs import logging_to
from proxy.telemetry.metrics import Metrics

RETIRE: Final = b"r\n"
"""The order to take no new connection, since another worker does, and to end with those that are open."""
STOP: Final = b"s\n"
"""The order to drain and end, since nobody goes on."""

BAD_SETTINGS: Final = 2
_ORPHANED: Final = 1
_LINE_BYTES: Final = 65_536

_log: Final = logging.getLogger("media_gateway.server")


@dataclass(frozen=True, slots=True)
class Assignment:
    """Means of a worker: sockets that listen, a row to count in, a seat, and its end of the supervisor's line."""

    settings: Settings
    listeners: Listeners
    metrics: Metrics
    seat: Seat
    workers: int
    line: socket.socket


def work(assignment: Assignment) -> int:
    """Serve until the order to end; returns the exit code. What stops the start is told to the supervisor."""
    settings = assignment.settings
    settings = settings.model_copy(update={"memory_bytes": settings.memory_bytes // assignment.workers})
    assignment.line.settimeout(0)
    reuse_freed_memory()
    collect_less()
    with logging_to(as_json=settings.log_format is LogFormat.JSON, level=settings.log_level.value):
        try:
            run(lambda: _serve(assignment, settings), settings.loop)
        except SettingsError as error:
            report(assignment.line, {"problems": [(problem.name, problem.message) for problem in error.problems]})
            return BAD_SETTINGS
        except Exception:
            _log.exception("A worker failed")
            raise
    return 0


class Report(TypedDict, total=False):
    """Either whether it serves, or the problems (name and message) with settings that it cannot start with."""

    serves: bool
    problems: list[tuple[str, str]]


READY: Final[Report] = {"serves": True}
RETIRED: Final[Report] = {"serves": False}
"""It takes connections; it takes none any more."""


def report(line: socket.socket, said: Report) -> None:
    """Tell the supervisor, in one line of JSON."""
    line.send(json.dumps(said).encode() + b"\n")


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
            await orders.told.wait()
            if not orders.stopped.is_set():
                await service.retire()
                report(assignment.line, RETIRED)
                await service.linger(orders.stopped)


class _Orders:
    """Orders of the supervisor so far; `told` is set with either order, `stopped` with that to stop.

    Changes of the accounts are handed on once there is a gateway to take them.
    """

    def __init__(self, line: socket.socket) -> None:
        self.told = asyncio.Event()
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
        self.stopped.set()
        self.told.set()

    def read(self) -> None:
        """Take what has come. Without its supervisor a worker ends at once: nobody would ever stop it."""
        said = b""
        # One that ended with a report unread has reset the line, which is told once and not followed by its end.
        with contextlib.suppress(ConnectionResetError):
            said = self._line.recv(_LINE_BYTES)
        if not said:
            os._exit(_ORPHANED)
        self._said += said
        *lines, rest = bytes(self._said).split(b"\n")
        self._said[:] = rest
        for line in lines:
            if line == STOP.strip():
                self.stop()
            elif line == RETIRE.strip():
                self.told.set()
            else:
                self._changes.append(read_telling(line))
        self._hand_on()


@contextlib.contextmanager
def _orders(line: socket.socket) -> Iterator[_Orders]:
    """Listen to the supervisor meanwhile. SIGTERM, which a service manager may send to every process, means stop."""
    loop = asyncio.get_running_loop()
    orders = _Orders(line)
    loop.add_signal_handler(signal.SIGTERM, orders.stop)
    loop.add_reader(line, orders.read)
    try:
        yield orders
    finally:
        loop.remove_reader(line)
        loop.remove_signal_handler(signal.SIGTERM)
