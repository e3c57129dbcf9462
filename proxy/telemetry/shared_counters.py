"""Numbers that several processes count together: a fixed table of 64-bit floats in shared memory.

Each process writes a row of its own and no other, so no lock is needed; a reader adds the rows up. The first row is the
past: the counts of processes that have ended. A row moves there when its process is gone.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Final

_CELL_BYTES: Final = 8
_LINE_BYTES: Final = 64  # of a processor's cache: rows of two processes share none
_PAST: Final = 0
_READINGS: Final = 1_000
"""Attempts at a read between two moves of a row; a move takes microseconds."""


class Cells:
    """A table of `rows` rows of `width` numbers beside the past, all zero, shared with processes forked later.

    `volatile` are the places in a row whose value ends with its process; the others are sums, which go to the past.
    """

    def __init__(self, rows: int, width: int, volatile: Sequence[int] = ()) -> None:
        line = _LINE_BYTES // _CELL_BYTES
        stride = -(-width // line) * line
        whole = memoryview(mmap.mmap(-1, (line + (rows + 1) * stride) * _CELL_BYTES)).cast("d")
        # An odd number while a row moves to the past.
        self._moves = whole[:1]
        starts = range(line, line + (rows + 1) * stride, stride)
        self._rows = [whole[start : start + width] for start in starts]
        self._volatile = tuple(volatile)

    def row(self, number: int) -> memoryview[float]:
        """Return the row of that number, from 1 on."""
        if number < 1:
            raise IndexError(number)
        return self._rows[number]

    @property
    def past(self) -> memoryview[float]:
        """The counts that outlive their process: for the one process that moves rows."""
        return self._rows[_PAST]

    def retire(self, number: int) -> None:
        """Add a row to the past, and zero it. Its process is gone, and one process alone retires rows."""
        row, past = self.row(number), self.past
        self._moves[0] += 1
        try:
            for place in self._volatile:
                row[place] = 0.0
            for place, value in enumerate(row):
                if value:
                    past[place] += value
                    row[place] = 0.0
        finally:
            self._moves[0] += 1

    def totals(self) -> list[float]:
        """Return the sum of all rows, place by place: no row counts twice, and none is left out."""
        totals: list[float] = []
        for _ in range(_READINGS):
            before = self._moves[0]
            totals = [sum(column) for column in zip(*self._rows, strict=True)]
            if before % 2 == 0 and before == self._moves[0]:
                break
        return totals
