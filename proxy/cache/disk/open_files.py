"""Stored bodies whose files stay open for the next reader: opening one costs a call on a thread, and two wake-ups."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from proxy.cache.disk.files import BodyCheck, BodyFile
from proxy.cache.entry import Entry

_MOST: Final = 256
SWEEP_SECONDS: Final = 1.0
"""The time between two sweeps: a file that any worker has removed is closed within it, and its bytes are free then."""
_IDLE_SWEEPS: Final = 5
"""A file that was not used for so many sweeps is closed."""
_SWEEPS: Final = 60
"""Any file is closed after so many sweeps: the next reader then has it checked if that is still to be done."""


class OpenFile(BodyFile):
    """The file of a whole body; each of its readers closes it once."""

    def __init__(self, descriptor: int, threads: ThreadPoolExecutor, path: Path, check: BodyCheck) -> None:
        super().__init__(descriptor, threads, path, check)
        self.readers = 1
        self.kept = False
        self.sweeps = 0
        self.idle = 0

    def matches(self, length: int) -> bool:
        """Return whether the file still has a name and that length: it was neither removed nor cut."""
        state = os.fstat(self.descriptor)
        return state.st_nlink > 0 and state.st_size == length

    async def close(self) -> None:
        """Take one reader away, and close the file after the last one unless it is kept."""
        self.readers -= 1
        if not self.readers and not self.kept:
            await super().close()

    def release(self) -> None:
        """Do as `close` does, without waiting for the descriptor to be closed."""
        self.readers -= 1
        if not self.readers and not self.kept:
            self.give_back()

    def forget(self) -> None:
        """Keep the file open no longer than its readers need it."""
        self.kept = False
        if not self.readers:
            self.give_back()


class OpenFiles:
    """The open files by generation, at most 256; one more takes the place of the one that was used longest ago."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._files)

    def take(self, entry: Entry) -> OpenFile | None:
        """Return the file for one more reader, which has to close it; None if it is not open, or was changed."""
        file = self._files.get(entry.generation)
        if file is None:
            return None
        if file.damaged or not file.matches(entry.length):
            self._forget(entry.generation)
            return None
        self._files.move_to_end(entry.generation)
        file.idle = 0
        file.readers += 1
        return file

    def keep(self, generation: str, file: OpenFile) -> None:
        """Keep a file open that was opened for a reader, unless one of its generation is kept already."""
        if self._closed or generation in self._files:
            return
        file.kept = True
        self._files[generation] = file
        if len(self._files) > _MOST:
            self._forget(next(iter(self._files)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def close_removed(self) -> None:
        """Close the files that were removed, so that the system can free their bytes."""
        for generation, file in list(self._files.items()):
            if os.fstat(file.descriptor).st_nlink == 0:
                self._forget(generation)

    def close(self) -> None:
        """Close all files, as far as no reader needs them, and keep none from now on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for generation in list(self._files):
            self._forget(generation)

    def _sweep(self) -> None:
        self._timer = None
        for generation, file in list(self._files.items()):
            file.sweeps += 1
            file.idle = 0 if file.readers else file.idle + 1
            if file.idle >= _IDLE_SWEEPS or file.sweeps >= _SWEEPS:
                self._forget(generation)
        self.close_removed()
        if self._files:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _forget(self, generation: str) -> None:
        self._files.pop(generation).forget()
