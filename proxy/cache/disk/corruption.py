"""Corruption of an index: which errors mean that it is of no more use, and the checks of what is read from it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from proxy.cache import bounds

# The statements are fixed, so an SQLITE_ERROR means that the tables are not ours.
_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        # A text or a blob is longer than any that is written: see `LONGEST_VALUE`.
        sqlite3.SQLITE_TOOBIG,
    }
)

LONGEST_VALUE: Final = 1_000_000
"""Bytes of a row of the index, at most; a longer one is not read."""


class Damaged(Exception):
    """An error for an index that holds what this package never wrote."""


def is_damage(error: Exception) -> bool:
    """Return whether an error of the database means that its file is of no more use."""
    if isinstance(error, Damaged):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    # A text, or a message of SQLite that quotes it, may not be UTF-8; such an error has no code.
    return code & 0xFF in _DAMAGE if isinstance(code, int) else "decode" in str(error)


def one_number(db: sqlite3.Connection, statement: str, parameters: Sequence[object] = ()) -> int:
    """Return the one number that a statement finds. Raises `Damaged` if it is not a number, or out of bounds."""
    match db.execute(statement, parameters).fetchone():
        case (number,) if bounds.is_count(number, bounds.LAST_EPOCH):
            return number
        case _:
            raise Damaged("a number is not one")
