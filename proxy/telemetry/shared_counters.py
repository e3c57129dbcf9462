"""Numbers that several processes count together: a fixed table of 64-bit floats in memory that they share.

Each process that counts writes a row of its own and no other, so no lock is needed; whoever reads adds the rows up.
The first row is the past: what processes that have ended have counted. A row moves there when its process is gone.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Final

_CELL_BYTES: Final = 8
_LINE_BYTES: Final = 64  # of a processor's cache: rows of two processes share none
_PAST: Final = 0
_READINGS: Final = 1_000
"""Attempts to read between two moves of a row; a move takes microseconds."""


class Cells:
    """`rows` rows of `width` numbers beside the past, all zero. Processes forked from now on see the same ones.

    `volatile` are the places of a row whose value ends with its process; the others are sums, which go to the past.
    """

    def __init__(self, rows: int, width: int, volatile: Sequence[int] = ()) -> None:
        line = _LINE_BYTES // _CELL_BYTES
        stride = -(-width // line) * line
        whole = memoryview(mmap.mmap(-1, (line + (rows + 1) * stride) * _CELL_BYTES)).cast("d")
        # Odd while a row moves to the past.
        self._moves = whole[:1]
        starts = range(line, line + (rows + 1) * stride, stride)
        self._rows = [whole[start : start + width] for start in starts]
        self._volatile = tuple(volatile)

    def row(self, number: int) -> memoryview[float]:
        """The row of that number, from 1 on."""
        if number < 1:
            raise IndexError(number)
        return self._rows[number]

    @property
    def past(self) -> memoryview[float]:
        """What is counted by nobody that ends: for the one process that moves rows."""
        return self._rows[_PAST]

    def retire(self, number: int) -> None:
        """Add a row to the past, and zero it. Its process is gone; one process alone does this."""
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
        """The sum of all rows, place by place: no row is in it twice, and none is left out."""
        totals: list[float] = []
        for _ in range(_READINGS):
            before = self._moves[0]
            totals = [sum(column) for column in zip(*self._rows, strict=True)]
            if before % 2 == 0 and before == self._moves[0]:
                break
        return totals
