"""The place up to which a cache folder has followed the log, in a file of its own: a start goes on from there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from proxy.cache import bounds
from proxy.cache.disk.folder import Folder
from proxy.cache.redis.keys import CHECKPOINT
from proxy.cache.redis.log import Position

_MOST_BYTES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a folder: it has all of the log up to `position`; what is of an epoch before `line` is in doubt."""

    position: Position
    line: int


_decoder: Final = msgspec.json.Decoder(Checkpoint)


def _is_sound(found: Checkpoint) -> bool:
    position = found.position
    return (
        bounds.is_text(position.run)
        and bounds.is_count(position.number, bounds.LAST_LOGGED)
        and (bounds.is_number(found.line))
    )


class CheckpointFile:
    """The file below a cache folder; a gateway without a folder has none, and knows no place when it starts."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else Folder(folder)
        self._path = None if folder is None else folder / CHECKPOINT

    async def read(self) -> Checkpoint | None:
        """Return what was written; None if there is nothing that can be read."""
        path, folder = self._path, self._folder
        if path is None or folder is None:
            return None

        def read() -> Checkpoint | None:
            try:
                with os.fdopen(folder.open(path, os.O_RDONLY), "rb") as file:
                    found = _decoder.decode(file.read(_MOST_BYTES))
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
                return None
            return found if _is_sound(found) else None

        return await asyncio.to_thread(read)

    async def write(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in the file's place. If that fails, the next start follows from an earlier place."""
        path, folder = self._path, self._folder
        if path is None or folder is None:
            return

        def write() -> None:
            new = path.with_name(f"shared-{os.getpid()}")
            with contextlib.suppress(OSError):
                descriptor = folder.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(msgspec.json.encode(checkpoint))
                folder.rename(new, path)

        await asyncio.to_thread(write)
