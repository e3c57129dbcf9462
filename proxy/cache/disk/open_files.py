"""Files of stored bodies that stay open for their next reader: opening one takes a thread, and that two wake-ups."""

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
"""How often the files are looked through: what any worker has removed is given back to the system by then."""
_IDLE_SWEEPS: Final = 5
"""A file that nobody used for so long is closed."""
_SWEEPS: Final = 60
"""So is any file after this time: who opens it next has it checked, where that is still to be done."""


class OpenFile(BodyFile):
    """A whole body's file; each of its readers closes it once."""

    def __init__(self, descriptor: int, threads: ThreadPoolExecutor, path: Path, check: BodyCheck) -> None:
        super().__init__(descriptor, threads, path, check)
        self.readers = 1
        self.kept = False
        self.sweeps = 0
        self.idle = 0

    def matches(self, length: int) -> bool:
        """Whether the file still has a name and is of that length: nobody has removed or cut it."""
        state = os.fstat(self.descriptor)
        return state.st_nlink > 0 and state.st_size == length

    async def close(self) -> None:
        """One reader less."""
        self.readers -= 1
        if not self.readers and not self.kept:
            await super().close()

    def release(self) -> None:
        """The same without waiting for the descriptor to be given back."""
        self.readers -= 1
        if not self.readers and not self.kept:
            self.give_back()

    def forget(self) -> None:
        """Keep it open no longer than its readers do."""
        self.kept = False
        if not self.readers:
            self.give_back()


class OpenFiles:
    """At most 256 of them, by generation; who comes when there are more takes the place of the one used longest ago."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._files)

    def take(self, entry: Entry) -> OpenFile | None:
        """The file for one more reader, who has to close it; None where it is not open, or is not what it was."""
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
        """Keep a file open that was opened for a reader, unless another is kept already."""
        if self._closed or generation in self._files:
            return
        file.kept = True
        self._files[generation] = file
        if len(self._files) > _MOST:
            self._forget(next(iter(self._files)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def close_removed(self) -> None:
        """Close the files that have no name any more, so that the system can give their bytes back."""
        for generation, file in list(self._files.items()):
            if os.fstat(file.descriptor).st_nlink == 0:
                self._forget(generation)

    def close(self) -> None:
        """Keep none open any more."""
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
