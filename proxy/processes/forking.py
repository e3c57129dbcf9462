"""Forking workers, hearing them, burying them."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from typing import Final

from proxy.errors import SettingProblem
from proxy.node import Node
from proxy.processes.account_changes import AccountChange
from proxy.processes.direct_log import DirectLog
from proxy.processes.listeners import Listeners
from proxy.processes.signals import SignalQueue
from proxy.processes.worker import STOP, Assignment, Report, work
from proxy.processes.worker_pool import Generation, Place, Stage, Worker
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.shared_counters import Cells

_FAULT: Final = 70  # EX_SOFTWARE of sysexits.h
_REPORT_BYTES: Final = 65_536


class Processes:
    """The workers that live; each has a row of `cells` and one of the `node`, so there are at most `rows`."""

    def __init__(
        self,
        listeners: Listeners,
        cells: Cells,
        node: Node,
        rows: int,
        workers: int,
        signals: SignalQueue,
        log: DirectLog,
    ) -> None:
        self._listeners = listeners
        self._cells = cells
        self._node = node
        self._rows = list(range(rows, 0, -1))
        self._count = workers
        self._signals = signals
        self._log = log
        self._selector = selectors.PollSelector()
        self._selector.register(signals, selectors.EVENT_READ)
        self._workers: dict[int, Worker] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    def fork(self, place: Place) -> Worker:
        """A new worker in that place. Raises `OSError` where there can be no further process."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        row = self._rows[-1]
        try:
            with self._signals.held():
                pid = os.fork()
                if not pid:
                    self._become_worker(place, row, theirs, ours)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._rows.pop()
        worker = Worker(pid, row, ours, place)
        place.worker, place.due = worker, None
        self._workers[pid] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _become_worker(self, place: Place, row: int, line: socket.socket, other_end: socket.socket) -> None:
        """In the child: leave everything of the supervisor's behind, and work. Never returns."""
        code = _FAULT
        try:
            self._signals.abandon()
            self._selector.close()
            self._log.close()
            # As long as one of these is open, a worker would not see that the supervisor has gone.
            for end in (other_end, *(worker.line for worker in self)):
                end.close()
            metrics = Metrics(self._cells, row)
            seat = self._node.seat(row)
            code = work(Assignment(place.generation.settings, self._listeners, metrics, seat, self._count, line))
        finally:
            os._exit(code)

    def order(self, worker: Worker, order: bytes) -> None:
        """Tell a worker to go."""
        worker.leaves()
        worker.untold.clear()
        worker.unsent += order
        self._send(worker)

    def tell(self, generation: Generation, change: AccountChange) -> None:
        """Tell the workers of a generation that accounts have changed."""
        for worker in self:
            if worker.place.generation is generation and worker.stage is not Stage.LEAVING:
                worker.untold.add(change)
                self._send(worker)

    def _send(self, worker: Worker) -> None:
        """Send as much as the worker's line takes now; the rest goes when it takes more."""
        # One that has ended is buried soon.
        with contextlib.suppress(OSError):
            while worker.unsent or worker.untold:
                if not worker.unsent:
                    worker.unsent += worker.untold.next()
                del worker.unsent[: worker.line.send(worker.unsent)]
        if worker.line in self._selector.get_map():
            more = selectors.EVENT_WRITE if worker.unsent else 0
            self._selector.modify(worker.line, selectors.EVENT_READ | more, worker)

    def stop_all(self) -> None:
        """Tell every worker to drain."""
        for worker in self:
            self.order(worker, STOP)

    def wait(self, seconds: float | None) -> list[Worker]:
        """Wait for a signal or a report, so long at the most; the workers that say that they serve now."""
        ready = [(key.data, events) for key, events in self._selector.select(seconds) if isinstance(key.data, Worker)]
        for worker, events in ready:
            if events & selectors.EVENT_WRITE:
                self._send(worker)
        return [worker for worker, events in ready if events & selectors.EVENT_READ and self._hear(worker)]

    def _hear(self, worker: Worker) -> bool:
        """Take what a worker has reported: whether it is that it serves, which it had not done before."""
        with contextlib.suppress(OSError):
            while octets := worker.line.recv(_REPORT_BYTES):
                worker.said += octets
            # It has ended, or is about to.
            self._selector.unregister(worker.line)
        *lines, rest = bytes(worker.said).split(b"\n")
        worker.said[:] = rest
        for line in lines:
            said: Report = json.loads(line)
            worker.problems = [SettingProblem(name, message) for name, message in said.get("problems", [])]
            worker.accepts = said.get("serves", False)
        return bool(lines) and worker.accepts and worker.stage is Stage.STARTING

    def kill_late(self) -> list[Worker]:
        """Kill those whose deadline has passed."""
        now = time.monotonic()
        late = [worker for worker in self if worker.deadline is not None and worker.deadline <= now]
        for worker in late:
            worker.deadline = None
            os.kill(worker.pid, signal.SIGKILL)
        return late

    def bury(self) -> Iterator[tuple[Worker, int]]:
        """Each worker that has ended, with its exit code, or the signal that ended it, negative."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # As the first process of a container it is the parent of others too.
            if pid in self._workers:
                worker = self._workers.pop(pid)
                if worker.line in self._selector.get_map():
                    self._hear(worker)
                self._forget(worker)
                yield worker, os.waitstatus_to_exitcode(status)

    def _forget(self, worker: Worker) -> None:
        if worker.line in self._selector.get_map():
            self._selector.unregister(worker.line)
        worker.line.close()
        self._cells.retire(worker.row)
        self._node.retire(worker.row)
        self._rows.append(worker.row)

    def close(self) -> None:
        """Kill what still lives, and wait for its end."""
        for worker in self:
            os.kill(worker.pid, signal.SIGKILL)
        for worker in self:
            os.waitpid(worker.pid, 0)
            self._forget(worker)
        self._workers.clear()
        self._selector.close()
