"""The visit of a command to a cache folder on which gateways may run: it reads, counts and erases, and never evicts.

Whatever the visitor's own settings are, the gateways decide on the bound of the folder and on a damaged index. Every
call blocks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.cache.counters import Statistics
from proxy.cache.disk.folder import Folder
from proxy.cache.disk.index import Index
from proxy.cache.disk.invalidations_table import Epoch
from proxy.cache.disk.responses_table import Usage
from proxy.cache.disk.threads import translated
from proxy.cache.invalidation.policy import Erase
from proxy.errors import StoreError
from proxy.model import Clock

_ALIVE_SECONDS: Final = 15.0
"""The time in which a living worker reports: it does so every five seconds, and after each sweep of its RAM."""
_PATIENCE_SECONDS: Final = 3.0
_PAUSE_SECONDS: Final = 0.02


class Visitor:
    """The visitor that `visiting` makes. Calls raise `StoreError`."""

    def __init__(self, folder: Folder, index: Index, clock: Clock) -> None:
        self._folder = folder
        self._index = index
        self._clock = clock

    def usage(self) -> Usage:
        """Return what is stored."""
        return self._index.usage()

    def statistics(self) -> Statistics:
        """Return what the workers have reported."""
        return self._index.statistics(self._clock())

    def bound(self) -> int | None:
        """Return how many bytes the folder may take; None if no gateway has said so."""
        return self._index.bound()

    def count(self, prefix: str) -> int:
        """Return how many stored responses have a key that begins with `prefix`."""
        return self._index.count_prefix(prefix)

    def erase(self, prefix: str) -> int:
        """Erase every key that begins with `prefix`, for all workers at once; return how many were stored.

        What is stored again meanwhile stays. When this returns, the RAM of every worker has given back what was erased,
        unless a worker takes longer than three seconds.
        """
        epoch = Epoch(self._folder.path / "epoch")
        with translated():
            epoch.open()
        try:
            number = self._index.apply(Erase(prefix), self._clock(), epoch.current)
            epoch.publish(number)
        finally:
            epoch.close()
        moment = self._clock()
        # It is erased by now. A gateway reclaims what cannot be removed here.
        removed = 0
        with contextlib.suppress(StoreError):
            while generations := self._index.remove_prefix(prefix, number):
                removed += len(generations)
                for generation in generations:
                    with contextlib.suppress(OSError):
                        self._folder.unlink_quietly(self._folder.body_path(generation))
            self._wait_for_workers(moment)
        return removed

    def _wait_for_workers(self, moment: float) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._index.reported(moment, _ALIVE_SECONDS) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)


@contextmanager
def visiting(folder: Path, clock: Clock) -> Iterator[Visitor]:
    """Give the visitor of a folder that has an index. Raises `StoreError`; `SettingsError` if another user owns it."""
    within = Folder(folder)
    with translated():
        within.require_own()
    index = Index(folder, visiting=True)
    try:
        yield Visitor(within, index, clock)
    finally:
        index.close()
