"""The integrity of stored bodies: each is checked when it is first read after a start, since a disk may change it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from proxy.bounded_table import BoundedTable
from proxy.cache.checksum import checksum_of_file
from proxy.cache.disk.files import BodyCheck
from proxy.cache.disk.folder import Folder
from proxy.cache.disk.threads import on
from proxy.cache.entry import Entry
from proxy.errors import StoreError

_log: Final = logging.getLogger("media_gateway.cache")

_KNOWN: Final = 100_000
"""Bodies that are remembered as sound; one that is forgotten is checked again."""
_WAITING: Final = 1_000
"""Bodies that wait for their check; any more are read unchecked, and checked when they are read again."""


class BodyChecker:
    """A queue of checks, one at a time, beside the readers. `drop` removes the stored response of a generation."""

    def __init__(self, threads: ThreadPoolExecutor, drop: Callable[[str], Awaitable[None]], folder: Folder) -> None:
        self._threads = threads
        self._folder = folder
        self._drop = drop
        self._sound: BoundedTable[str, None] = BoundedTable(_KNOWN)
        self._waiting: dict[str, tuple[BodyCheck, asyncio.Task[None]]] = {}
        self._one_at_a_time = asyncio.Semaphore(1)
        self._closed = False

    def trust(self, generation: str) -> None:
        """Take a body as sound: this process has written or checked it."""
        self._sound.put(generation, None)

    def watch(self, entry: Entry, path: Path) -> BodyCheck | None:
        """Return the check of a body, which may find it damaged while it is read; None if it will not be checked."""
        if entry.generation in self._sound:
            return BodyCheck.sound()
        waiting = self._waiting.get(entry.generation)
        if waiting is not None:
            return waiting[0]
        if self._closed or len(self._waiting) >= _WAITING:
            return None
        check = BodyCheck()
        task = asyncio.create_task(self._check(entry, path, check))
        self._waiting[entry.generation] = check, task
        task.add_done_callback(lambda _: self._ended(entry.generation))
        return check

    async def close(self) -> None:
        """Cancel all checks, and let the readers go that wait for one."""
        self._closed = True
        tasks = [task for _, task in self._waiting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check(self, entry: Entry, path: Path, check: BodyCheck) -> None:
        try:
            async with self._one_at_a_time:
                found = await on(self._threads, self._checksum, path)
            if found == entry.checksum:
                self.trust(entry.generation)
                return
            check.damaged = True
            _log.warning("A stored body is damaged on disk; it is dropped")
            await self._drop(entry.generation)
        except StoreError as error:
            _log.info("A stored body could not be checked: %s", error.note)

    def _checksum(self, path: Path) -> str:
        return checksum_of_file(self._folder.open(path, os.O_RDONLY))

    def _ended(self, generation: str) -> None:
        # The task may have been cancelled before its first step.
        check, _ = self._waiting.pop(generation)
        check.ended.set()
