"""Files that `…_FILE` settings name: which of them may be read as a secret, and how long a pipe may take.

Links are followed, because Kubernetes mounts secrets behind them. A device is refused, because it may have no end, or
may do something when it is opened; and so is a file to which other users may write. Reading blocks.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import time
from pathlib import Path
from typing import Final

_log: Final = logging.getLogger("media_gateway.settings")

MOST_BYTES: Final = 1_000_000
PIPE_SECONDS: Final = 5.0
"""Time within which a pipe has to come to its end."""
_BLOCK: Final = 65_536


def read_secret_file(name: str, path: Path) -> bytes:
    """Read a regular file or a pipe, up to one byte more than `MOST_BYTES`; `name` is that of the setting.

    Logs a warning if other users may read it. Raises `OSError`, and `ValueError` if the file may not be used.
    """
    _require_safe(path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        # The path may lead to another file by now.
        state = os.fstat(descriptor)
        _require_safe(state)
        if state.st_mode & stat.S_IROTH:
            _log.warning("%s: other users of this machine may read the file that it names; chmod o-r is safer", name)
        waits = stat.S_ISFIFO(state.st_mode)
        deadline = time.monotonic() + PIPE_SECONDS
        content = bytearray()
        while len(content) <= MOST_BYTES:
            if waits:
                _await_input(descriptor, deadline)
            block = os.read(descriptor, min(_BLOCK, MOST_BYTES + 1 - len(content)))
            if not block:
                break
            content += block
        return bytes(content)
    finally:
        os.close(descriptor)


def _require_safe(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode) and not stat.S_ISFIFO(state.st_mode):
        raise ValueError("expected a regular file or a pipe")
    if others_may_write(state.st_mode, state.st_gid):
        raise ValueError("other users may write to the file that it names")


def others_may_write(mode: int, group: int) -> bool:
    """Return whether other users may write to a file of that mode and group."""
    # By convention a user's own group has no other members.
    return bool(mode & stat.S_IWOTH or (mode & stat.S_IWGRP and group != os.getegid()))


def _await_input(descriptor: int, deadline: float) -> None:
    """Wait until a pipe has bytes, or has come to its end. Raises `ValueError` at the deadline."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1_000):
        raise ValueError(f"the pipe that it names was not written to, or not closed, within {PIPE_SECONDS:g} seconds")
