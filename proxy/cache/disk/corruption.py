"""When the index of a folder is of no more use."""

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
        # A text or a blob is longer than any of ours: see `LONGEST_VALUE`.
        sqlite3.SQLITE_TOOBIG,
    }
)

LONGEST_VALUE: Final = 1_000_000
"""Bytes of a row of the index, at most: what claims more is not read."""


class Damaged(Exception):
    """The index holds what this package never wrote."""


def is_damage(error: Exception) -> bool:
    """Whether an error of the database means that its file is of no more use."""
    if isinstance(error, Damaged):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    # A text, or a message of SQLite that quotes the damage, may be no UTF-8; such an error has no code.
    return code & 0xFF in _DAMAGE if isinstance(code, int) else "decode" in str(error)


def one_number(db: sqlite3.Connection, statement: str, parameters: Sequence[object] = ()) -> int:
    """Return the one number that a statement finds. Raises `Damaged` where it is none, or out of bounds."""
    match db.execute(statement, parameters).fetchone():
        case (number,) if bounds.is_count(number, bounds.LAST_ERASURE):
            return number
        case _:
            raise Damaged("a number is none")
