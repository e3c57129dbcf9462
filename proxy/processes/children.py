"""The supervisor's child processes: forked, given orders, heard, killed when they are late, and reaped."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final

from proxy.errors import SettingProblem
from proxy.node import Node
from proxy.processes.listeners import Listeners
from proxy.processes.orders import AccountChange, Leave, read_report
from proxy.processes.signals import SignalQueue
from proxy.processes.worker import Assignment, work
from proxy.processes.worker_pool import Slot, Stage, Worker, WorkerPool
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.shared_counters import Cells

_FAULT: Final = 70  # EX_SOFTWARE of sysexits.h
_REPORT_BYTES: Final = 65_536


class Children:
    """The workers that live; each has a row of `cells` and one of the `node`, so there are at most `rows`.

    A child calls `close_log` before anything else: the supervisor's log is not for workers.
    """

    def __init__(
        self,
        listeners: Listeners,
        cells: Cells,
        node: Node,
        rows: int,
        workers: int,
        signals: SignalQueue,
        close_log: Callable[[], None],
    ) -> None:
        self._listeners = listeners
        self._cells = cells
        self._node = node
        self._rows = list(range(rows, 0, -1))
        self._count = workers
        self._signals = signals
        self._close_log = close_log
        self._selector = selectors.PollSelector()
        self._selector.register(signals, selectors.EVENT_READ)
        self._workers: dict[int, Worker] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    def fork(self, slot: Slot) -> Worker:
        """Start a worker in that slot. Raises `OSError` if there can be no further process."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        row = self._rows[-1]
        try:
            with self._signals.held():
                pid = os.fork()
                if not pid:
                    self._become_worker(slot, row, theirs, ours)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._rows.pop()
        worker = Worker(pid, row, ours, slot)
        slot.worker, slot.due = worker, None
        self._workers[pid] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _become_worker(self, slot: Slot, row: int, line: socket.socket, other_end: socket.socket) -> None:
        """Leave everything of the supervisor's behind, in the child, and work. Never returns."""
        code = _FAULT
        try:
            self._signals.abandon()
            self._selector.close()
            self._close_log()
            # As long as one of these is open, a worker would not see that the supervisor has gone.
            for end in (other_end, *(worker.line for worker in self)):
                end.close()
            metrics = Metrics(self._cells, row)
            seat = self._node.seat(row)
            code = work(Assignment(slot.pool.settings, self._listeners, metrics, seat, self._count, line))
        finally:
            os._exit(code)

    def order(self, worker: Worker, order: Leave) -> None:
        """Order a worker to leave."""
        worker.mark_leaving()
        worker.pending.clear()
        worker.unsent += order.line
        self._send(worker)

    def order_pool(self, pool: WorkerPool, order: Leave) -> None:
        """Order the workers of a pool to leave."""
        for slot in pool.slots:
            if slot.worker is not None:
                self.order(slot.worker, order)

    def order_all(self, order: Leave) -> None:
        """Order every worker to leave."""
        for worker in self:
            self.order(worker, order)

    def tell(self, pool: WorkerPool, change: AccountChange) -> None:
        """Tell the workers of a pool that accounts have changed."""
        for worker in self:
            if worker.slot.pool is pool and worker.stage is not Stage.LEAVING:
                worker.pending.add(change)
                self._send(worker)

    def _send(self, worker: Worker) -> None:
        """Send as much as the worker's line takes now; the rest goes when it takes more."""
        # A worker that has ended is reaped soon.
        with contextlib.suppress(OSError):
            while worker.unsent or worker.pending:
                if not worker.unsent:
                    worker.unsent += worker.pending.next()
                del worker.unsent[: worker.line.send(worker.unsent)]
        if worker.line in self._selector.get_map():
            more = selectors.EVENT_WRITE if worker.unsent else 0
            self._selector.modify(worker.line, selectors.EVENT_READ | more, worker)

    def wait(self, seconds: float | None) -> list[Worker]:
        """Wait for a signal or a report, at most so long, and return the workers that report that they serve now."""
        ready = [(key.data, events) for key, events in self._selector.select(seconds) if isinstance(key.data, Worker)]
        for worker, events in ready:
            if events & selectors.EVENT_WRITE:
                self._send(worker)
        return [worker for worker, events in ready if events & selectors.EVENT_READ and self._hear(worker)]

    def _hear(self, worker: Worker) -> bool:
        """Read a worker's reports, and return whether it serves now and did not before."""
        with contextlib.suppress(OSError):
            while octets := worker.line.recv(_REPORT_BYTES):
                worker.said += octets
            # The worker has ended, or is about to.
            self._selector.unregister(worker.line)
        *lines, rest = bytes(worker.said).split(b"\n")
        worker.said[:] = rest
        for line in lines:
            report = read_report(line)
            worker.problems = [SettingProblem(name, message) for name, message in report.problems]
            worker.accepts = report.accepts
        return bool(lines) and worker.accepts and worker.stage is Stage.STARTING

    def kill_late(self) -> list[Worker]:
        """Kill the workers whose deadline has passed, and return them."""
        now = time.monotonic()
        late = [worker for worker in self if worker.deadline is not None and worker.deadline <= now]
        for worker in late:
            worker.deadline = None
            os.kill(worker.pid, signal.SIGKILL)
        return late

    def reap(self) -> Iterator[tuple[Worker, int]]:
        """Yield each worker that has ended, with its exit code, or the signal that ended it as a negative number."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # As the first process of a container, the supervisor is the parent of others too.
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
        """Kill the workers that still live, and wait for their end."""
        for worker in self:
            os.kill(worker.pid, signal.SIGKILL)
        for worker in self:
            os.waitpid(worker.pid, 0)
            self._forget(worker)
        self._workers.clear()
        self._selector.close()
