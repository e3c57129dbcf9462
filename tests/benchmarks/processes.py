"""Programs of a benchmark: started on a core of their own, metered, and ended with their scope."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.benchmarks.machine import pinned

_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 20.0


class BenchmarkFailed(Exception):
    """A part could not be measured: a program did not start, or an answer was not the right one."""


@dataclass(frozen=True, slots=True)
class Child:
    """A program and its own children."""

    process: subprocess.Popen[bytes]
    log: Path

    def cpu_seconds(self) -> float:
        """Return the processor time of the whole family so far."""
        return sum(_cpu_seconds(member.pid) for member in self._family())

    def memory(self) -> int:
        """Return bytes of memory of the whole family; what is shared counts once (PSS)."""
        total = 0
        for member in self._family():
            with contextlib.suppress(psutil.Error):
                held: int = member.memory_full_info().pss
                total += held
        return total

    def _family(self) -> Sequence[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


def _cpu_seconds(pid: int) -> float:
    # clock_getcpuclockid(3): the clock of a process counts its threads, also those that have ended.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


@contextmanager
def started(
    command: Sequence[str], log: Path, *, environ: Mapping[str, str] | None = None, core: int | None = 0
) -> Iterator[Child]:
    """Yield a program on that core (None: on any), whose output goes to `log`; it has ended with the scope."""
    with log.open("ab") as output:
        with pinned(core):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environ
            )
        try:
            yield Child(process, log)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a program to end, and see to it."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def listening(child: Child, port: int) -> None:
    """Wait until a program accepts connections. Raises `BenchmarkFailed` if it does not."""
    ends = time.monotonic() + _START_SECONDS
    while time.monotonic() < ends:
        if child.process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.001)
    raise BenchmarkFailed(f"{child.process.args!r} does not listen: {child.log.read_text(errors='replace')[-2000:]}")
