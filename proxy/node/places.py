"""Places that the workers of a node take: byte-range locks on a file without content (POSIX, `F_SETLK`).

Such a lock belongs to a process. The kernel grants it to one process at a time and drops it when that process ends. So
there is no counter and no clean-up that a killed worker could leave wrong.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
from collections import defaultdict
from hashlib import blake2b
from typing import Final, NewType

Key = NewType("Key", int)
"""The owner of places: 42 bits of a digest of an account's name, so that no table of names can be full."""

MOST: Final = 1 << 20
"""Bound of the places of one key: their numbers are below it."""

_KEY_BITS: Final = 42
_TAKEN: Final = frozenset({errno.EACCES, errno.EAGAIN, errno.ENOLCK})


class Share(enum.IntEnum):
    """Kinds of places."""

    CONNECTIONS = 0
    UNREAD_FILLS = 1


def key_of(name: str) -> Key:
    """Return the key of an account. Among thousands of accounts, two share one with a chance below 1 in 10,000."""
    return Key(int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) >> (64 - _KEY_BITS))


def open_locks() -> int:
    """Return the descriptor of the file whose bytes are the places. Raises `OSError`."""
    return os.memfd_create("media-gateway-places", os.MFD_CLOEXEC)


class HeldPlaces:
    """The places that this process holds. `locks` is the file; None in a process that shares with no other."""

    def __init__(self, locks: int | None) -> None:
        self._locks = locks
        self._own: defaultdict[tuple[Share, Key], set[int]] = defaultdict(set)

    def take(self, share: Share, key: Key, most: int) -> int | None:
        """Take one of the `most` places of that key, and return its number; None if all of them are taken."""
        # The locks of a process do not keep out itself, so it has to know them.
        own = self._own.get((share, key), frozenset[int]())
        for number in range(most):
            if number not in own and self._lock(_offset(share, key, number)):
                self._own[share, key].add(number)
                return number
        return None

    def give_back(self, share: Share, key: Key, number: int) -> None:
        """Give back a place that was taken."""
        own = self._own[share, key]
        own.remove(number)
        if not own:
            del self._own[share, key]
        if self._locks is not None:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _offset(share, key, number))

    def has_free(self, share: Share, key: Key, most: int) -> bool:
        """Return whether there is a place of that key to take."""
        number = self.take(share, key, most)
        if number is None:
            return False
        self.give_back(share, key, number)
        return True

    def __len__(self) -> int:
        """Return how many places this process holds, of all keys."""
        return sum(map(len, self._own.values()))

    def _lock(self, offset: int) -> bool:
        if self._locks is None:
            return True
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True


def _offset(share: Share, key: Key, number: int) -> int:
    # 1 bit, 42 bits and 20 bits: an offset in a file has 63.
    return ((share << _KEY_BITS) | key) * MOST + number
