"""Tallies: how often something happened, by key, in all workers together, within a minute from the first time.

A worker counts in a row of its own. A key has a set of a few entries in each row, found by its digest. An entry is one
64-bit word, so that another worker reads all of it or none of it; the oldest of a set makes room for a new one.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b
from typing import Final

WINDOW_SECONDS: Final = 60

_SETS: Final = 4_096
_WAYS: Final = 8
_WORD_BYTES: Final = 8
_COUNT_BITS: Final = 20
_BEGAN_BITS: Final = 20
_TAG_BITS: Final = 64 - _COUNT_BITS - _BEGAN_BITS
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
_BEGAN_MASK: Final = (1 << _BEGAN_BITS) - 1
_TAG_SHIFT: Final = _COUNT_BITS + _BEGAN_BITS


class Tallies:
    """Rows of entries, all empty. Processes forked from now on see the same ones.

    Within one second at most `sets` times 8 keys are told apart.
    """

    def __init__(self, rows: int, sets: int = _SETS) -> None:
        self._sets = sets
        # Without the secret, no client can choose keys that share a set.
        self._secret = os.urandom(16)
        stride = sets * _WAYS
        whole = memoryview(mmap.mmap(-1, rows * stride * _WORD_BYTES)).cast("Q")
        self._rows = [whole[row * stride : (row + 1) * stride] for row in range(rows)]

    def add(self, row: int, key: str, now: float) -> tuple[int, int]:
        """Count one more of a key in that row. Returns how many came before in this minute, and the seconds left of it.

        `now` is Unix time in seconds. A clock that is set back begins a minute again.
        """
        digest = int.from_bytes(blake2b(key.encode(), digest_size=8, key=self._secret).digest())
        # Never 0, which is an empty entry.
        tag = (digest >> (64 - _TAG_BITS)) or 1
        first = digest % self._sets * _WAYS
        second = int(now) & _BEGAN_MASK
        before, began = 0, second
        for cells in self._rows:
            for word in cells[first : first + _WAYS]:
                if word >> _TAG_SHIFT == tag and (age := _age(word, second)) < WINDOW_SECONDS:
                    before += word & _COUNT_MASK
                    if age > (second - began) & _BEGAN_MASK:
                        began = (word >> _COUNT_BITS) & _BEGAN_MASK
        self._count(self._rows[row], first, tag, began, second)
        return before, WINDOW_SECONDS - ((second - began) & _BEGAN_MASK)

    @staticmethod
    def _count(cells: memoryview[int], first: int, tag: int, began: int, second: int) -> None:
        oldest, place = -1, first
        for way in range(first, first + _WAYS):
            word = cells[way]
            age = _age(word, second) if word else _BEGAN_MASK + 1
            if word >> _TAG_SHIFT == tag and age < WINDOW_SECONDS:
                if word & _COUNT_MASK < _COUNT_MASK:
                    cells[way] = word + 1
                return
            if age > oldest:
                oldest, place = age, way
        cells[place] = (tag << _TAG_SHIFT) | (began << _COUNT_BITS) | 1


def _age(word: int, second: int) -> int:
    """Return the seconds since an entry's minute began; a large number if the clock was set back since."""
    return (second - ((word >> _COUNT_BITS) & _BEGAN_MASK)) & _BEGAN_MASK
