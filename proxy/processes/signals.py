"""Signals of a process without an event loop: a queue, which a selector waits for together with files."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self


class SignalQueue:
    """A queue of these signals within its scope; readable for a selector when one has come."""

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
        """Return the descriptor of the end that is read."""
        return self._reader

    def take(self) -> Sequence[int]:
        """Take out the numbers of the signals that have come, in their order."""
        try:
            return os.read(self._reader, 4_096)
        except BlockingIOError:
            return ()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the signals back; a process that is forked meanwhile gets none until it calls `abandon`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def abandon(self) -> None:
        """Leave the queue in a forked worker, and ignore the signals that a terminal sends to every process."""
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)


def _nothing(*_: object) -> None:
    """Do nothing: the number in the pipe is all that is wanted."""
