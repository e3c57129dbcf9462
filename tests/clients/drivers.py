"""Programs that drive a provider's library: a line in is what to call, a line out is its outcome, test after test."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence


class Driver:
    """The process of a program. It keeps nothing of a call: each has a client and connections of its own."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        self._complaints = b""

    @property
    def running(self) -> bool:
        """Return whether the program takes a call."""
        return self._process.poll() is None

    @property
    def complaints(self) -> str:
        """All that it has written to standard error."""
        assert self._process.stderr is not None
        self._complaints += self._process.stderr.read() or b""
        return self._complaints.decode()

    async def outcome(self, call: bytes) -> bytes:
        """Return the line that answers a line. The process does not outlive a call that is given up."""
        try:
            return await asyncio.to_thread(self._exchange, call)
        except BaseException:
            self._process.kill()
            raise

    def _exchange(self, call: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(call + b"\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def end(self) -> None:
        """Let the process end, and wait for it."""
        with self._process:
            pass


class Drivers:
    """A process for each program, begun when it is first asked for."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str, ...], Driver] = {}

    def of(self, *command: str) -> Driver:
        """Return the process of a program, which runs and has complained of nothing."""
        begun = self._begun.get(command)
        if begun is not None and (not begun.running or begun.complaints):
            self._begun.pop(command).end()
        if command not in self._begun:
            self._begun[command] = Driver(command)
        return self._begun[command]

    def end(self) -> None:
        """End every process."""
        while self._begun:
            _, driver = self._begun.popitem()
            driver.end()
