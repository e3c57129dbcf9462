"""What killed processes leave in the disk tier's folder, and how the living are told from them. All of it blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.cache.disk.folder import Folder

YOUNG_SECONDS: Final = 60.0
"""For so long a body without a row, and a run without a lock, belong to a process that is about to make it."""


def make_private(folder: Path) -> None:
    """Make a folder and the missing ones above it, for their owner alone whatever the umask is."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)


def listing(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it is none."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


class IncomingFolder:
    """One process's folder of unfinished files below `incoming`, locked for as long as the process lives."""

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
        """Remove the folder and give the lock back; nothing where `begin` never ran."""
        descriptor, self._lock = self._lock, -1
        try:
            self._within.remove_tree(self.folder)
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def reclaim_runs(within: Folder, now: float) -> None:
    """Remove the folders of runs that nobody holds any more. `now` is Unix time in seconds."""
    for folder in within.listing(within.path / "incoming"):
        with contextlib.suppress(OSError):
            # A young one may be between the making of its folder and the taking of its lock.
            if now - within.modified(folder) > YOUNG_SECONDS:
                with _unheld(within, folder / "lock") as unheld:
                    if unheld:
                        within.remove_tree(folder)


@contextmanager
def _unheld(within: Folder, path: Path) -> Iterator[bool]:
    """Whether the owner of a lock is gone; the lock is held meanwhile."""
    try:
        descriptor = within.open(path, os.O_RDWR)
    except FileNotFoundError:
        # Killed before it took the lock, or while it removed its folder.
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
    """The files of a shard that were placed long enough ago to have a row. `now` is Unix time in seconds."""
    old: list[Path] = []
    for path in within.listing(shard):
        with contextlib.suppress(OSError):
            if now - within.modified(path) > YOUNG_SECONDS:
                old.append(path)
    return old
