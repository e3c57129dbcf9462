"""Bytes in RAM as they came, which are copied neither for their readers nor for the file that they are written to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

_SMALL: Final = 16_384
"""Neighbouring pieces become one up to this many bytes, for each piece costs some RAM besides its bytes."""


class Buffer:
    """The pieces of a body in order. Offsets are offsets in the body; what lies before `begins` has been dropped."""

    def __init__(self) -> None:
        self.begins = 0
        self.ends = 0
        self._pieces: list[bytes] = []
        # The offset at which each piece begins.
        self._offsets: list[int] = []

    def __len__(self) -> int:
        """Return the number of bytes that are held."""
        return self.ends - self.begins

    def append(self, piece: bytes) -> None:
        """Add bytes, at least one, at the end."""
        if self._pieces and len(self._pieces[-1]) + len(piece) <= _SMALL:
            self._pieces[-1] += piece
        else:
            self._pieces.append(piece)
            self._offsets.append(self.ends)
        self.ends += len(piece)

    def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return 1 to `size` bytes from `offset`, which is held, or no bytes if that is the end."""
        if offset >= self.ends:
            return b""
        at = bisect_right(self._offsets, offset) - 1
        piece, start = self._pieces[at], offset - self._offsets[at]
        if start == 0 and len(piece) <= size:
            return piece
        return memoryview(piece)[start : start + size]

    def pieces(self, offset: int) -> Sequence[bytes]:
        """Return the pieces from `offset` on, as they are now."""
        at = bisect_right(self._offsets, offset) - 1
        first, *others = self._pieces[at:]
        return first[offset - self._offsets[at] :], *others

    def whole(self) -> bytes:
        """Return all bytes that are held, in one piece."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def drop_until(self, offset: int) -> int:
        """Drop the pieces that end at `offset` or before, and return their number of bytes."""
        began = self.begins
        gone = bisect_right(self._offsets, offset) - 1 if offset < self.ends else len(self._pieces)
        if gone > 0:
            del self._pieces[:gone], self._offsets[:gone]
            self.begins = self._offsets[0] if self._offsets else self.ends
        return self.begins - began

    def drop(self, size: int) -> None:
        """Drop this many bytes from the beginning."""
        self.begins += size
        gone = bisect_right(self._offsets, self.begins) - 1 if self.begins < self.ends else len(self._pieces)
        del self._pieces[:gone], self._offsets[:gone]
        if self._pieces and self._offsets[0] < self.begins:
            self._pieces[0] = self._pieces[0][self.begins - self._offsets[0] :]
            self._offsets[0] = self.begins
