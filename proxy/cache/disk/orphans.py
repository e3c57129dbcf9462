"""Orphans: what killed processes leave in a cache folder, how it is told from what the living own, and its removal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.cache.disk.folder import Folder
from proxy.cache.disk.index import Index
from proxy.cache.disk.threads import on
from proxy.errors import StoreError
from proxy.model import Clock

YOUNG_SECONDS: Final = 60.0
"""The age up to which a body may still get its row, and an incoming folder its lock."""
_LOOK_UPS: Final = 100
"""Bodies that are looked up in one turn of the index's thread."""


class IncomingFolder:
    """The folder of one process's unfinished bodies, below `incoming`, locked for as long as the process lives."""

    def __init__(self, within: Folder) -> None:
        self._within = within
        self.folder = within.path / "incoming" / secrets.token_hex(8)
        self._lock = -1

    def begin(self) -> None:
        """Make the folder and lock it."""
        self._within.make(self.folder)
        self._lock = self._within.open(self.folder / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def end(self) -> None:
        """Remove the folder and give the lock back, if `begin` has run."""
        descriptor, self._lock = self._lock, -1
        try:
            self._within.remove_tree(self.folder)
        finally:
            if descriptor >= 0:
                os.close(descriptor)


class Orphans:
    """The orphans of one cache folder, as one worker's disk tier removes them.

    `index_thread` is the index's, and `body_threads` are those of the bodies.
    """

    def __init__(
        self,
        folder: Folder,
        index: Index,
        index_thread: ThreadPoolExecutor,
        body_threads: ThreadPoolExecutor,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._index = index
        self._index_thread = index_thread
        self._body_threads = body_threads
        self._clock = clock

    async def reclaim(self) -> None:
        """Remove incoming folders without a living owner, and bodies without a row, as far as that can be done."""
        now = self._clock()
        with contextlib.suppress(StoreError):
            await on(self._body_threads, _reclaim_incoming, self._folder, now)
            for shard in await on(self._body_threads, self._folder.listing, self._folder.path / "bodies"):
                bodies = await on(self._body_threads, old_bodies, self._folder, shard, now)
                for start in range(0, len(bodies), _LOOK_UPS):
                    await on(self._index_thread, self._remove_unknown, bodies[start : start + _LOOK_UPS])

    def _remove_unknown(self, bodies: list[Path]) -> None:
        for path in bodies:
            if not self._index.knows(path.name):
                with contextlib.suppress(OSError):
                    self._folder.unlink_quietly(path)


# --- blocking: on a thread of the tier ---------------------------------------------------------------------------


def _reclaim_incoming(within: Folder, now: float) -> None:
    """Remove the incoming folders whose owner has ended. `now` is Unix time in seconds."""
    for folder in within.listing(within.path / "incoming"):
        with contextlib.suppress(OSError):
            # A young one may be between the making of its folder and the taking of its lock.
            if now - within.modified(folder) > YOUNG_SECONDS:
                with _unheld(within, folder / "lock") as unheld:
                    if unheld:
                        within.remove_tree(folder)


@contextmanager
def _unheld(within: Folder, path: Path) -> Iterator[bool]:
    """Give whether the owner of a lock has ended; the lock is held meanwhile."""
    try:
        descriptor = within.open(path, os.O_RDWR)
    except FileNotFoundError:
        # The owner was killed before it took the lock, or while it removed its folder.
        yield True
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def old_bodies(within: Folder, shard: Path, now: float) -> list[Path]:
    """Return the bodies of a shard that were placed long enough ago to have a row. `now` is Unix time in seconds."""
    old: list[Path] = []
    for path in within.listing(shard):
        with contextlib.suppress(OSError):
            if now - within.modified(path) > YOUNG_SECONDS:
                old.append(path)
    return old
