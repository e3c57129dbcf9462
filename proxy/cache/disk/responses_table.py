"""The stored responses of a folder, as rows of its index: written, found, counted, and removed in steps."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from proxy.cache import bounds
from proxy.cache.disk import invalidations_table
from proxy.cache.disk.corruption import Damaged, one_number

# `deadline` is always NULL; it stays in the schema so that an index need not be given up at an upgrade.
SCHEMA: Final = """
CREATE TABLE response (
    key        TEXT PRIMARY KEY,
    generation TEXT NOT NULL,
    length     INTEGER NOT NULL,
    used       REAL NOT NULL,
    deadline   REAL,
    epoch      INTEGER NOT NULL,
    metadata   BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX response_used ON response (used);
CREATE INDEX response_generation ON response (generation);
CREATE TABLE total (bytes INTEGER NOT NULL, entries INTEGER NOT NULL);
INSERT INTO total VALUES (0, 0);
CREATE TRIGGER response_added AFTER INSERT ON response BEGIN
    UPDATE total SET bytes = bytes + new.length, entries = entries + 1;
END;
CREATE TRIGGER response_removed AFTER DELETE ON response BEGIN
    UPDATE total SET bytes = bytes - old.length, entries = entries - 1;
END;
"""

# Created if it is missing: an index may be older than this table.
_BOUND: Final = "CREATE TABLE IF NOT EXISTS bound (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL)"
_HAS_BOUND: Final = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'bound'"

ROW_BYTES: Final = 4_096
"""Bytes of disk that are counted for a stored response beside its body: its row, and a last block half full."""

_LARGEST: Final = 2**63 - 1
_EVICTION_BATCH: Final = 64
_REMOVAL_BATCH: Final = 512
# A key is printable; this noncharacter sorts after all of them.
_AFTER_ANY_KEY: Final = "\U0010ffff"

SELECT_ROW: Final = "SELECT generation, length, epoch, metadata FROM response WHERE key = ?"
SELECT_OLDEST: Final = "SELECT key, generation, length FROM response ORDER BY used LIMIT ?"
REMOVE_PREFIX: Final = (
    "DELETE FROM response WHERE key IN"
    " (SELECT key FROM response WHERE key >= ? AND key < ? AND epoch < coalesce(?, 9223372036854775807) LIMIT ?)"
    " RETURNING generation"
)
COUNT_PREFIX: Final = "SELECT count(*) FROM response WHERE key >= ? AND key < ?"


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """One indexed response. `metadata` is an encoded entry, `epoch` the number of the last erasure before its fill."""

    generation: str
    length: int
    epoch: int
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """The contents of the tier: the bytes of all bodies, and their number."""

    bytes: int
    entries: int

    @property
    def footprint(self) -> int:
        """Return the bytes of disk that the tier's bound counts."""
        return self.bytes + self.entries * ROW_BYTES


@dataclass(frozen=True, slots=True)
class Placing:
    """The outcome of a `put`: whether the row is there now, and the generation whose row it replaced.

    The row is not there if it was erased since its fill began, or if the condition of the `put` did not hold.
    """

    done: bool
    replaced: str | None = None


def find(db: sqlite3.Connection, key: str) -> ResponseRow | None:
    """Return the row of a key, even if it is erased."""
    found = db.execute(SELECT_ROW, (key,)).fetchone()
    return _row(found) if found else None


def put(db: sqlite3.Connection, key: str, row: ResponseRow, used: float, instead_of: bytes | None) -> Placing:
    """Do the work of `Index.put`, within a transaction."""
    if invalidations_table.is_forgotten(db, row.epoch) or invalidations_table.is_erased(db, key, row.epoch):
        return Placing(done=False)
    old = find(db, key)
    if instead_of is not None and (old is None or old.metadata != instead_of):
        return Placing(done=False)
    db.execute("DELETE FROM response WHERE key = ?", (key,))
    db.execute(
        "INSERT INTO response (key, generation, length, used, epoch, metadata) VALUES (?, ?, ?, ?, ?, ?)",
        (key, row.generation, row.length, used, row.epoch, row.metadata),
    )
    return Placing(done=True, replaced=old.generation if old and old.generation != row.generation else None)


def remove(db: sqlite3.Connection, key: str, generation: str | None, metadata: bytes | None) -> str | None:
    """Do the work of `Index.remove`."""
    found = db.execute(
        "DELETE FROM response WHERE key = ? AND generation = coalesce(?, generation)"
        " AND metadata = coalesce(?, metadata) RETURNING generation",
        (key, generation, metadata),
    ).fetchall()
    return _generation(found[0][0]) if found else None


def remove_prefix(db: sqlite3.Connection, prefix: str, before: int | None) -> list[str]:
    """Do the work of `Index.remove_prefix`."""
    found = db.execute(REMOVE_PREFIX, (prefix, prefix + _AFTER_ANY_KEY, before, _REMOVAL_BATCH)).fetchall()
    return [_generation(generation) for (generation,) in found]


def count_prefix(db: sqlite3.Connection, prefix: str) -> int:
    """Return how many keys begin with `prefix`."""
    return one_number(db, COUNT_PREFIX, (prefix, prefix + _AFTER_ANY_KEY))


def set_bound(db: sqlite3.Connection, max_bytes: int) -> None:
    """Write down how many bytes the folder may take."""
    bounded = min(max_bytes, _LARGEST)
    if bound(db) != bounded:
        db.execute(_BOUND)
        db.execute("INSERT OR REPLACE INTO bound VALUES (1, ?)", (bounded,))


def bound(db: sqlite3.Connection) -> int | None:
    """Return how many bytes the folder may take; None if no gateway has said so yet."""
    if db.execute(_HAS_BOUND).fetchone() is None:
        return None
    found = db.execute("SELECT bytes FROM bound LIMIT 1").fetchone()
    # It is shown to people, and nothing else depends on it: a wrong one does not give up the index.
    return found[0] if found is not None and bounds.is_count(found[0], _LARGEST) else None


def usage(db: sqlite3.Connection) -> Usage:
    """Return what the tier holds."""
    match db.execute("SELECT bytes, entries FROM total LIMIT 2").fetchall():
        case [(held, entries)] if bounds.is_number(held) and bounds.is_number(entries):
            return Usage(held, entries)
        case _:
            raise Damaged("its totals are not numbers")


def evict(db: sqlite3.Connection, max_bytes: int) -> list[str]:
    """Do the work of `Index.evict`, within a transaction."""
    gone: list[str] = []
    excess = usage(db).footprint - max_bytes
    oldest = db.execute(SELECT_OLDEST, (_EVICTION_BATCH,)).fetchall()
    if excess > 0 and max_bytes >= 0 and not oldest:
        raise Damaged("its totals count rows that are not there")
    for key, generation, length in oldest:
        if excess <= 0:
            break
        if not bounds.is_length(length):
            raise Damaged("a length is not one")
        db.execute("DELETE FROM response WHERE key = ?", (key,))
        excess -= length + ROW_BYTES
        gone.append(_generation(generation))
    return gone


def _row(found: object) -> ResponseRow:
    match found:
        case (generation, length, epoch, bytes(metadata)) if bounds.is_length(length) and bounds.is_number(epoch):
            return ResponseRow(_generation(generation), length, epoch, metadata)
        case _:
            raise Damaged("a row is not of its columns' types")


def _generation(value: object) -> str:
    # It names a file, which may be removed.
    if bounds.is_text(value) and value.isascii() and value.isalnum():
        return value
    raise Damaged("a generation is not one")
