"""The validations of a node while the shared tier is away: which worker asks, and when each media was last asked for.

The workers of a folder share a mapped table. A media has one place in it, by its digest, which the next media of that
place takes over: a media that is forgotten so is validated once more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
from pathlib import Path
from typing import Final

from proxy.cache.entry import Entry
from proxy.cache.redis.follower import Follower
from proxy.cache.redis.outage import Trust, is_recent, trust
from proxy.model import Clock
from proxy.settings import SharedAway

PLACES: Final = 65_536
"""The media whose last validation is remembered; the table takes 1 MB."""
_PLACE: Final = struct.Struct("=Qd")
_BYTES: Final = PLACES * _PLACE.size


class TurnTable:
    """The table below a cache folder; one of the process's own without a folder, or if that has no room for it.

    A place holds a digest and the Unix time at which a worker began to ask, negative once that worker has its answer.
    """

    def __init__(self, folder: Path | None) -> None:
        self._descriptor: int | None = None
        if folder is not None:
            with contextlib.suppress(OSError):
                self._descriptor = _opened(folder / "asked")
        self._map = mmap.mmap(-1 if self._descriptor is None else self._descriptor, _BYTES)

    def close(self) -> None:
        """Unmap the table."""
        self._map.close()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def at(self, key: str) -> float:
        """Return when a worker last began to ask for a media; 0 if that is not known."""
        digest, place = _digest(key)
        return abs(self._read(digest, place))

    def begin(self, key: str, now: float, *, again: bool) -> bool:
        """Take the turn to ask for a media; return False if another worker has it.

        A turn ends with its answer if `again` is set, else with the period of its beginning.
        """
        digest, place = _digest(key)
        if not self._lock(place):
            return False
        try:
            began = self._read(digest, place)
            if is_recent(key, abs(began), now) and not (again and began <= 0):
                return False
            _PLACE.pack_into(self._map, place, digest, now)
            return True
        finally:
            self._unlock(place)

    def end(self, key: str) -> None:
        """Note that the answer has come, or that no answer will."""
        digest, place = _digest(key)
        # A lock that another worker holds is that of a worker that takes the turn now.
        if self._lock(place):
            try:
                _PLACE.pack_into(self._map, place, digest, -abs(self._read(digest, place)))
            finally:
                self._unlock(place)

    def _read(self, digest: int, place: int) -> float:
        held, began = _PLACE.unpack_from(self._map, place)
        return float(began) if held == digest else 0.0

    def _lock(self, place: int) -> bool:
        """Lock a place against other workers, unless one of them has it, which may be stopped meanwhile."""
        if self._descriptor is None:
            return True
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _PLACE.size, place)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            # A file system without locks: two workers may ask at once.
            return True
        return True

    def _unlock(self, place: int) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _PLACE.size, place)


def _opened(path: Path) -> int:
    """Open the table's file, made if it is missing, with room for all of it: a mapped hole could kill the worker."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(descriptor).st_size < _BYTES:
            os.posix_fallocate(descriptor, 0, _BYTES)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _digest(key: str) -> tuple[int, int]:
    """Return a media's digest and the offset of its place."""
    digest = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())
    return digest, digest % PLACES * _PLACE.size


class Validations:
    """The trust of a worker in what is stored, and its turns to ask the upstream about it."""

    def __init__(self, mode: SharedAway, follower: Follower, turns: TurnTable, clock: Clock) -> None:
        self._mode = mode
        self._follower = follower
        self._turns = turns
        self._clock = clock

    def trust(self, key: str, entry: Entry) -> Trust:
        """Return how far a stored response may be used now."""
        follower = self._follower
        behind = follower.behind(entry.epoch)
        if not behind and follower.current:
            return Trust.FULL
        return trust(
            self._mode,
            follower.contact,
            behind=behind,
            key=key,
            validated_at=entry.answered_at,
            asked_at=self._turns.at(key),
            now=self._clock(),
        )

    def begin(self, key: str, needed: Trust) -> bool:
        """Take the turn to ask; return False if another worker of the node has it. Under `strict` each worker asks."""
        if self._mode is SharedAway.STRICT:
            return True
        return self._turns.begin(key, self._clock(), again=needed is Trust.NONE)

    def end(self, key: str) -> None:
        """End the turn."""
        if self._mode is not SharedAway.STRICT:
            self._turns.end(key)
