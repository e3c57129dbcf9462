"""The supervisor: binds the sockets, forks the workers that serve from them, and keeps as many as there should be.

It has one thread and no event loop, so that a fork copies nothing that is in use. A worker belongs to a generation: the
workers under one reading of the settings. A reload starts a generation on the same sockets, and lets the one before
retire when the new one serves; so no connection finds the sockets closed.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from proxy.errors import GatewayError, SettingProblem, SettingsError
from proxy.node import Node
from proxy.processes.accounts_watch import FolderWatch, log_folder
from proxy.processes.direct_log import DirectLog
from proxy.processes.forking import Processes
from proxy.processes.listeners import Listeners, open_listeners
from proxy.processes.sd_notify import Notices
from proxy.processes.signals import SignalQueue
from proxy.processes.worker import RETIRE, STOP
from proxy.processes.worker_pool import Generation, Place, Stage, Worker
from proxy.settings import Settings
from proxy.telemetry.metrics import RELOADS, WORKERS_LOST, Reload, make_cells

_log: Final = logging.getLogger("media_gateway.server")

ReadSettings = Callable[[Settings | None], Settings]
"""Reads the settings; given those that were read before, a file of accounts that cannot be used keeps its own."""

_START_TRIES: Final = 3
"""Workers that may die without a word before the first generation serves."""
_RETIRING: Final = 3
"""Generations that may retire at once; a reload waits for the first of more."""
_GENERATIONS: Final = _RETIRING + 2  # and one that serves, one that starts


def supervise(read_settings: ReadSettings, workers: int, environ: Mapping[str, str]) -> None:
    """Serve with so many workers until SIGTERM or SIGINT, then drain; SIGHUP reads the settings again.

    A second signal ends everything at once, with 128 and its number. SIGUSR1, by which programs are told to open their
    logs again, is for none: standard output and error are another's. Raises `SettingsError`, and `GatewayError` where
    the workers die before they serve.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    settings = read_settings(None)
    listeners = open_listeners(settings, environ)
    log = DirectLog(settings)
    try:
        with SignalQueue((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)) as signals:
            supervisor = Supervisor(read_settings, settings, listeners, signals, log, Notices(environ), workers)
            supervisor.run()
    finally:
        listeners.close()
        log.close()


class Supervisor:
    """Runs once."""

    def __init__(
        self,
        read_settings: ReadSettings,
        settings: Settings,
        listeners: Listeners,
        signals: SignalQueue,
        log: DirectLog,
        notices: Notices,
        workers: int,
    ) -> None:
        self._read_settings = read_settings
        self._asked = settings
        self._bound = settings.at_port(listeners.main.port or 0)
        self._listeners = listeners
        self._signals = signals
        self._log = log
        self._notices = notices
        self._count = workers
        rows = workers * _GENERATIONS
        self._cells = make_cells(rows)
        self._node = Node(rows)
        self._processes = Processes(listeners, self._cells, self._node, rows, workers, signals, log)
        self._serving: Generation | None = None
        self._coming: Generation | None = None
        self._retiring: Generation | None = None
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
            while len(self._processes) or not self._stopping:
                self._turn()
        finally:
            self._processes.close()
            self._node.close()
        if self._failure is not None:
            raise self._failure
        _log.info("stopped")

    def _turn(self) -> None:
        """Wait for whatever comes next, and see to it."""
        for worker in self._processes.wait(self._pause()):
            self._serves(worker)
        for number in self._signals.take():
            self._obey(number)
        for worker, code in self._processes.bury():
            self._ended(worker, f"signal {-code}" if code < 0 else f"exit code {code}")
        for worker in self._processes.kill_late():
            _log.warning("Worker %s is killed: it is not done in time", worker.pid)
        now = time.monotonic()
        for place in self._places():
            if place.due is not None and place.due <= now:
                self._start(place)
        if self._retiring is not None and self._serving is not None and not self._retiring.accepts:
            self._reloaded(self._serving)
        if self._reload_wanted:
            self._reload()
        elif self._watch is not None and self._watch.due <= time.monotonic():
            self._follow_folder(self._watch)

    def _pause(self) -> float | None:
        """Seconds until something is due; None where nothing is."""
        moments = [worker.deadline for worker in self._processes] + [place.due for place in self._places()]
        moments.append(None if self._watch is None else self._watch.due)
        due = [moment for moment in moments if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _places(self) -> Iterator[Place]:
        for generation in (self._serving, self._coming):
            if generation is not None:
                yield from generation.places

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
                pass  # SIGCHLD, which is there to wake up for

    def _stop(self) -> None:
        self._stopping = True
        self._reload_wanted = False
        self._retiring = None
        self._watch = None
        _log.info("stopping")
        self._notices.stopping()
        # Not a connection more: the workers close their copies when they are told.
        self._listeners.close()
        for place in self._places():
            place.due = None
        self._processes.stop_all()

    # --- generations ---

    def _begin(self, settings: Settings) -> None:
        self._coming = Generation.of(settings, self._count)
        for place in self._coming.places:
            self._start(place)

    def _start(self, place: Place) -> None:
        try:
            self._processes.fork(place)
        except OSError as error:
            _log.error("A worker could not be started: %s", error.strerror)
            place.vacate()

    def _serves(self, worker: Worker) -> None:
        """A worker says that it serves; the last one of a generation lets that take over."""
        worker.serves()
        generation = worker.place.generation
        if generation is not self._coming or not generation.serves:
            return
        before, self._serving, self._coming = self._serving, generation, None
        settings = generation.settings
        # What changed while it was read and started is seen at once.
        self._watch = None if settings.folder is None else FolderWatch(settings.folder)
        if before is None:
            _log.info("listening at %s, links begin with %s", self._listeners.main, settings.public_url)
        else:
            self._log.follow(settings)
            self._dismiss(before, RETIRE)
            self._retiring = before
            return
        self._notices.ready()

    def _reloaded(self, serving: Generation) -> None:
        """Every new connection is served under the settings that were read last."""
        self._retiring = None
        self._cells.past[RELOADS.first + Reload.DONE] += 1.0
        _log.info("reloaded, links begin with %s", serving.settings.public_url)
        self._notices.ready()

    def _dismiss(self, generation: Generation, order: bytes) -> None:
        for place in generation.places:
            if place.worker is not None:
                self._processes.order(place.worker, order)

    def _reload(self) -> None:
        leaving = sum(worker.stage is Stage.LEAVING for worker in self._processes)
        changing = self._serving is None or self._coming is not None or self._retiring is not None
        if changing or leaving > (_RETIRING - 1) * self._count:
            return  # it is looked at again when a worker reports, or ends
        self._reload_wanted = False
        self._notices.reloading()
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
        """Look at the folder of accounts, and tell the workers that serve, and those to come in their places."""
        change = watch.look()
        serving = self._serving
        if change is None or serving is None:
            return
        serving.settings = serving.settings.with_folder()
        self._processes.tell(serving, change)

    def _refuse(self, problems: Sequence[SettingProblem]) -> None:
        """What was read is not taken over."""
        for problem in problems:
            _log.error("The settings stay as they were: %s: %s", problem.name, problem.message)
        self._cells.past[RELOADS.first + Reload.REFUSED] += 1.0
        self._notices.ready()

    # --- workers that end ---

    def _ended(self, worker: Worker, how: str) -> None:
        place = worker.place
        if worker.stage is Stage.LEAVING:
            place.worker = None
            return
        self._cells.past[WORKERS_LOST.first] += 1.0
        place.vacate()
        if place.generation is self._coming:
            self._start_failed(place.generation, worker.problems, how)
            return
        for problem in worker.problems:
            _log.error("%s: %s", problem.name, problem.message)
        _log.warning("Worker %s ended with %s; another one takes its place", worker.pid, how)

    def _start_failed(self, generation: Generation, problems: list[SettingProblem], how: str) -> None:
        """A worker of a generation that does not serve yet has ended."""
        if self._serving is not None:
            self._coming = None
            self._dismiss(generation, STOP)
            self._refuse(problems or [SettingProblem("a new worker", f"ended with {how} before it served")])
        elif problems:
            self._give_up(SettingsError(problems))
        elif generation.deaths >= _START_TRIES:
            self._give_up(GatewayError(f"The workers end before they serve, the last one with {how}."))

    def _give_up(self, failure: GatewayError) -> None:
        self._failure = failure
        self._stop()
