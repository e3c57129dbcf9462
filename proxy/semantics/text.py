"""The charset of text whose type names none."""

from __future__ import annotations

import codecs


class Utf8Check:
    """A check of bytes, in pieces as they come, that they are UTF-8 (RFC 3629) and not all ASCII."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._valid = True
        self._ascii = True

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        if self._valid and not (self._ascii and piece.isascii()):
            self._ascii = False
            try:
                self._decoder.decode(piece)
            except UnicodeDecodeError:
                self._valid = False

    @property
    def passed(self) -> bool:
        """Return whether all pieces together are UTF-8 with a byte above 127, with no character cut off at the end."""
        return self._valid and not self._ascii and not self._decoder.getstate()[0]
