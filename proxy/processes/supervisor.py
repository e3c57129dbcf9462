"""The supervisor: binds the sockets, forks the workers that serve from them, and keeps as many as there should be.

The rules are numbered in the package's docstring.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from proxy.errors import GatewayError, SettingProblem, SettingsError
from proxy.node import Node
from proxy.processes.children import Children
from proxy.processes.folder_watch import FolderWatch, log_folder
from proxy.processes.listeners import Listeners, open_listeners
from proxy.processes.orders import Leave
from proxy.processes.signals import SignalQueue
from proxy.processes.worker_pool import Slot, Stage, Worker, WorkerPool
from proxy.settings import LogFormat, Settings
from proxy.telemetry.logs import ROOT_LOGGER, JsonFormatter, TextFormatter
from proxy.telemetry.metrics import RELOADS, WORKERS_LOST, Reload, make_cells

_log: Final = logging.getLogger("media_gateway.server")

ReadSettings = Callable[[Settings | None], Settings]
"""Reader of the settings; given those that were read before, a bad file of accounts keeps its account."""

_START_TRIES: Final = 3
"""Workers that may die without a reason before the first pool serves."""
_RETIRING: Final = 3
"""Pools that may retire at once; with more, a reload waits for the first of them."""
_POOLS: Final = _RETIRING + 2  # and one that serves, one that starts


def supervise(read_settings: ReadSettings, workers: int, environ: Mapping[str, str]) -> None:
    """Serve with so many workers until SIGTERM or SIGINT, then drain; SIGHUP reads the settings again.

    A second signal ends everything at once, with 128 and its number. SIGUSR1, which tells programs to open their logs
    again, is ignored: standard output and error belong to another program. Raises `SettingsError`, and `GatewayError`
    if the workers die before they serve.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    settings = read_settings(None)
    listeners = open_listeners(settings, environ)
    log = DirectLog(settings)
    try:
        with SignalQueue((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)) as signals:
            supervisor = Supervisor(read_settings, settings, listeners, signals, log, ServiceManager(environ), workers)
            supervisor.run()
    finally:
        listeners.close()
        log.close()


class DirectLog:
    """The supervisor's own log to standard error, written at once and by no thread, since it forks processes."""

    def __init__(self, settings: Settings) -> None:
        self._logger = logging.getLogger(ROOT_LOGGER)
        self._handler = logging.StreamHandler(sys.stderr)
        self._propagated = self._logger.propagate
        self._logger.addHandler(self._handler)
        self._logger.propagate = False
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Write in the form and from the level that these settings say."""
        as_json = settings.log_format is LogFormat.JSON
        self._handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
        self._logger.setLevel(settings.log_level.value.upper())

    def close(self) -> None:
        """Leave the log to others."""
        self._logger.removeHandler(self._handler)
        self._logger.propagate = self._propagated


class ServiceManager:
    """The service manager, told by sd_notify(3) at the socket that `NOTIFY_SOCKET` of `environ` names, if it does."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract address begins with NUL, which a variable cannot hold.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """Tell that the gateway serves, under the settings that were read last."""
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=serving")

    def reloading(self) -> None:
        """Tell that the settings are being read again; `ready` follows."""
        moment = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={moment}\nSTATUS=reloading")

    def stopping(self) -> None:
        """Tell that the gateway ends."""
        self._send("STOPPING=1\nSTATUS=draining")

    def _send(self, notice: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0)
                sender.sendto(notice.encode(), self._address)
        except OSError as error:
            _log.warning("The service manager could not be told: %s", error.strerror)


class Supervisor:
    """The supervisor's state and its one loop; it runs once."""

    def __init__(
        self,
        read_settings: ReadSettings,
        settings: Settings,
        listeners: Listeners,
        signals: SignalQueue,
        log: DirectLog,
        manager: ServiceManager,
        workers: int,
    ) -> None:
        self._read_settings = read_settings
        self._asked = settings
        self._bound = settings.at_port(listeners.main.port or 0)
        self._listeners = listeners
        self._signals = signals
        self._log = log
        self._manager = manager
        self._count = workers
        rows = workers * _POOLS
        self._cells = make_cells(rows)
        self._node = Node(rows)
        self._children = Children(listeners, self._cells, self._node, rows, workers, signals, log.close)
        self._serving: WorkerPool | None = None
        self._coming: WorkerPool | None = None
        self._retiring: WorkerPool | None = None
        self._watch: FolderWatch | None = None
        self._reload_wanted = False
        self._stopping = False
        self._failure: GatewayError | None = None

    def run(self) -> None:
        """Start, keep running, drain. Raises as `supervise`."""
        gc.freeze()  # what is loaded by now is shared by all workers, and is not to be touched by their collections
        log_folder(self._bound.folder)
        try:
            self._begin(self._bound)
            while len(self._children) or not self._stopping:
                self._turn()
        finally:
            self._children.close()
            self._node.close()
        if self._failure is not None:
            raise self._failure
        _log.info("stopped")

    def _turn(self) -> None:
        """Wait for the next thing that happens, and see to all that has happened."""
        for worker in self._children.wait(self._pause()):
            self._serves(worker)
        for number in self._signals.take():
            self._obey(number)
        for worker, code in self._children.reap():
            self._ended(worker, f"signal {-code}" if code < 0 else f"exit code {code}")
        for worker in self._children.kill_late():
            _log.warning("Worker %s is late, and was killed", worker.pid)
        now = time.monotonic()
        for slot in self._slots():
            if slot.due is not None and slot.due <= now:
                self._start(slot)
        if self._retiring is not None and self._serving is not None and not self._retiring.accepts:
            self._reloaded(self._serving)
        if self._reload_wanted:
            self._reload()
        elif self._watch is not None and self._watch.due <= time.monotonic():
            self._follow_folder(self._watch)

    def _pause(self) -> float | None:
        """Return the seconds until something is due; None if nothing is."""
        moments = [worker.deadline for worker in self._children] + [slot.due for slot in self._slots()]
        moments.append(None if self._watch is None else self._watch.due)
        due = [moment for moment in moments if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _slots(self) -> Iterator[Slot]:
        for pool in (self._serving, self._coming):
            if pool is not None:
                yield from pool.slots

    # --- signals ---

    def _obey(self, number: int) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT if self._stopping:
                sys.exit(128 + number)
            case signal.SIGTERM | signal.SIGINT:
                self._stop()
            case signal.SIGHUP:
                self._reload_wanted = not self._stopping
            case _:
                pass  # SIGCHLD, which only wakes the loop

    def _stop(self) -> None:
        self._stopping = True
        self._reload_wanted = False
        self._retiring = None
        self._watch = None
        _log.info("stopping")
        self._manager.stopping()
        # No further connection is taken: the workers close their copies when they obey.
        self._listeners.close()
        for slot in self._slots():
            slot.due = None
        self._children.order_all(Leave.STOP)

    # --- pools ---

    def _begin(self, settings: Settings) -> None:
        self._coming = WorkerPool.of(settings, self._count)
        for slot in self._coming.slots:
            self._start(slot)

    def _start(self, slot: Slot) -> None:
        try:
            self._children.fork(slot)
        except OSError as error:
            _log.error("A worker could not be started: %s", error.strerror)
            slot.vacate()

    def _serves(self, worker: Worker) -> None:
        """Note that a worker serves; with the last one of a pool, the pool takes over."""
        worker.mark_serving()
        pool = worker.slot.pool
        if pool is not self._coming or not pool.serves:
            return
        before, self._serving, self._coming = self._serving, pool, None
        settings = pool.settings
        # What changed in the folder while it was read and the pool started is seen at once.
        self._watch = None if settings.folder is None else FolderWatch(settings.folder)
        if before is None:
            _log.info("listening at %s, links begin with %s", self._listeners.main, settings.public_url)
        else:
            self._log.follow(settings)
            self._children.order_pool(before, Leave.RETIRE)
            self._retiring = before
            return
        self._manager.ready()

    def _reloaded(self, serving: WorkerPool) -> None:
        """Note that every new connection is served under the settings that were read last."""
        self._retiring = None
        self._cells.past[RELOADS.first + Reload.DONE] += 1.0
        _log.info("reloaded, links begin with %s", serving.settings.public_url)
        self._manager.ready()

    def _reload(self) -> None:
        leaving = sum(worker.stage is Stage.LEAVING for worker in self._children)
        changing = self._serving is None or self._coming is not None or self._retiring is not None
        if changing or leaving > (_RETIRING - 1) * self._count:
            return  # the next report, or end of a worker, comes here again
        self._reload_wanted = False
        self._manager.reloading()
        try:
            settings = self._read_settings(self._serving.settings if self._serving is not None else None)
        except SettingsError as error:
            self._refuse(error.problems)
            return
        for name, ours, asked in (
            ("GATEWAY_LISTEN", self._asked.listen, settings.listen),
            ("GATEWAY_METRICS_LISTEN", self._asked.metrics_listen, settings.metrics_listen),
        ):
            if ours != asked:
                _log.warning("%s: a change needs a restart; the address stays as it was", name)
        log_folder(settings.folder)
        self._begin(settings.listening_at(self._bound.listen))

    def _follow_folder(self, watch: FolderWatch) -> None:
        """Look at the folder of accounts, and tell the workers that serve; later ones are forked with the result."""
        change = watch.look()
        serving = self._serving
        if change is None or serving is None:
            return
        serving.settings = serving.settings.with_folder()
        self._children.tell(serving, change)

    def _refuse(self, problems: Sequence[SettingProblem]) -> None:
        """Refuse a reload, and say why."""
        for problem in problems:
            _log.error("The settings stay as they were: %s: %s", problem.name, problem.message)
        self._cells.past[RELOADS.first + Reload.REFUSED] += 1.0
        self._manager.ready()

    # --- workers that end ---

    def _ended(self, worker: Worker, how: str) -> None:
        slot = worker.slot
        if worker.stage is Stage.LEAVING:
            slot.worker = None
            return
        self._cells.past[WORKERS_LOST.first] += 1.0
        slot.vacate()
        if slot.pool is self._coming:
            self._start_failed(slot.pool, worker.problems, how)
            return
        for problem in worker.problems:
            _log.error("%s: %s", problem.name, problem.message)
        _log.warning("Worker %s ended with %s; another one takes its place", worker.pid, how)

    def _start_failed(self, pool: WorkerPool, problems: list[SettingProblem], how: str) -> None:
        """Give up a pool of which a worker has ended before all of them served, or the whole start."""
        if self._serving is not None:
            self._coming = None
            self._children.order_pool(pool, Leave.STOP)
            self._refuse(problems or [SettingProblem("a new worker", f"ended with {how} before it served")])
        elif problems:
            self._give_up(SettingsError(problems))
        elif pool.deaths >= _START_TRIES:
            self._give_up(GatewayError(f"The workers end before they serve, the last one with {how}."))

    def _give_up(self, failure: GatewayError) -> None:
        self._failure = failure
        self._stop()
