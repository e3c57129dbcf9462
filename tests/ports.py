"""Ports for programs that cannot be given a socket, or say which port they took."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

_PORTS: Final = (12_000, 32_000)
_CHANCE: Final = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that is free now, and is none of those that the system gives to whoever asks for any."""
    while True:
        port = _CHANCE.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
