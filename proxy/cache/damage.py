"""When the index of a folder is of no more use."""

from __future__ import annotations

import sqlite3
from typing import Final

# The statements are fixed, so an SQLITE_ERROR means that the tables are not ours.
_DAMAGE: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


class Damaged(Exception):
    """The index holds what this package never wrote."""


def is_damage(error: Exception) -> bool:
    """Whether an error of the database means that its file is of no more use."""
    if isinstance(error, Damaged):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    # A text, or a message of SQLite that quotes the damage, may be no UTF-8; such an error has no code.
    return code & 0xFF in _DAMAGE if isinstance(code, int) else "decode" in str(error)
