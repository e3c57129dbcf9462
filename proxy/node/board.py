"""The board: how many places each worker holds, and how many calls wait in it for one, by key.

A column stands for many keys together. So a worker may be woken in vain, or give up a place for the calls of another
account; it never takes more than there is.
"""

from __future__ import annotations

import mmap
from typing import Final, NamedTuple

from proxy.node.places import Key

_COLUMNS: Final = 256
_CELL_BYTES: Final = 4
_WAITING: Final = 0
_HELD: Final = 1
_CELLS: Final = 2


class Others(NamedTuple):
    """The other workers of a node and a key: calls that wait, and the fewest places of a worker in which some do."""

    waiting: int
    fewest: int


class Board:
    """The numbers of `rows` workers, all zero. Processes forked from now on see the same ones."""

    def __init__(self, rows: int) -> None:
        self._rows = range(rows)
        stride = _COLUMNS * _CELLS
        whole = memoryview(mmap.mmap(-1, rows * stride * _CELL_BYTES)).cast("I")
        self._cells = [whole[row * stride : (row + 1) * stride] for row in self._rows]

    def add(self, row: int, key: Key, *, waiting: int = 0, held: int = 0) -> None:
        """Change the numbers of a row; only its own worker does this."""
        cells, place = self._cells[row], _place(key)
        cells[place + _WAITING] += waiting
        cells[place + _HELD] += held

    def others(self, row: int, key: Key) -> Others:
        """Return how all other rows stand with a key."""
        place = _place(key)
        waiting = [
            (cells[place + _WAITING], cells[place + _HELD])
            for other, cells in enumerate(self._cells)
            if other != row and cells[place + _WAITING]
        ]
        return Others(sum(calls for calls, _ in waiting), min((held for _, held in waiting), default=0))

    def waiting_rows(self, key: Key | None = None) -> list[int]:
        """Return the rows in which calls wait: for that key, or for any."""
        if key is None:
            return [row for row in self._rows if any(self._cells[row][_WAITING::_CELLS])]
        place = _place(key) + _WAITING
        return [row for row in self._rows if self._cells[row][place]]

    def holding_rows(self, key: Key) -> list[int]:
        """Return the rows that hold places of that key."""
        place = _place(key) + _HELD
        return [row for row in self._rows if self._cells[row][place]]

    def clear(self, row: int) -> None:
        """Set a row to zero, whose worker has ended; only the supervisor does this."""
        cells = self._cells[row]
        for place in range(len(cells)):
            cells[place] = 0


def _place(key: Key) -> int:
    return key % _COLUMNS * _CELLS
