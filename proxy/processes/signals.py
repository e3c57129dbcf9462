"""Signals of a process without an event loop: they are waited for together with files, and come one after the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self


class SignalQueue:
    """Takes these signals within its scope; readable for a selector when one has come."""

    def __init__(self, numbers: Sequence[signal.Signals]) -> None:
        self._numbers = tuple(numbers)

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # The interpreter writes each number there as it comes.
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _nothing) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Of the end that is read."""
        return self._reader

    def take(self) -> Sequence[int]:
        """The numbers of what has come, in order."""
        try:
            return os.read(self._reader, 4_096)
        except BlockingIOError:
            return ()

    @contextmanager
    def held(self) -> Iterator[None]:
        """None of them comes meanwhile; not to a process that is forked meanwhile either, until it calls `abandon`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def abandon(self) -> None:
        """In a forked process: stand as a worker does. What the terminal sends to every process is not for it."""
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)


def _nothing(*_: object) -> None:
    """The number that was written to the pipe is all that is wanted."""
