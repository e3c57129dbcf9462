"""Ports for programs that cannot be given a socket, or say which port they took."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
from typing import Final

_PORTS: Final = range(12_000, 32_000)


def _own_ports() -> range:
    """Return the ports of this process: if several run tests at a time, each has a share that no other one takes."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = len(_PORTS) // count
    # One that takes the place of a worker that has crashed has a number of its own, beyond the count.
    return _PORTS[size * (int(worker.removeprefix("gw")) % count) :][:size]


def _from_anywhere(ports: range) -> itertools.cycle[int]:
    """Go round and round through ports, from one by chance: another run of the tests may be under way."""
    first = random.SystemRandom().randrange(len(ports))
    return itertools.cycle((*ports[first:], *ports[:first]))


_ROUND: Final = _from_anywhere(_own_ports())


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now, was not returned a while ago, and that the system gives to nobody.

    The system gives ports above these to programs that ask for any.
    """
    while True:
        port = next(_ROUND)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
