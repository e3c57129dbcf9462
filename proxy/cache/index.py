"""The disk tier's index: which stored responses lie in a folder, how large they are and when they were last used.

An SQLite database in WAL mode, so that the workers of one folder share it and a kill at any point leaves it whole.
Every call blocks for a moment and belongs on the disk tier's own thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.errors import StoreError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS response (
    key        TEXT PRIMARY KEY,
    generation TEXT NOT NULL,
    length     INTEGER NOT NULL,
    used       REAL NOT NULL,
    deadline   REAL,
    metadata   BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS response_used ON response (used);
CREATE INDEX IF NOT EXISTS response_generation ON response (generation);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER NOT NULL, entries INTEGER NOT NULL);
INSERT INTO total SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM total);
CREATE TRIGGER IF NOT EXISTS response_added AFTER INSERT ON response BEGIN
    UPDATE total SET bytes = bytes + new.length, entries = entries + 1;
END;
CREATE TRIGGER IF NOT EXISTS response_removed AFTER DELETE ON response BEGIN
    UPDATE total SET bytes = bytes - old.length, entries = entries - 1;
END;
"""
_BUSY_SECONDS: Final = 5.0
_EVICTION_BATCH: Final = 64
_AFTER_ANY_KEY: Final = "\x7f"


@dataclass(frozen=True, slots=True)
class Row:
    """One indexed response; `metadata` is an encoded entry, `deadline` in Unix seconds or None."""

    generation: str
    length: int
    deadline: float | None
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """What the tier holds: bytes of bodies, and how many."""

    bytes: int
    entries: int


class Index:
    """One connection to the index. Every method raises `StoreError` where the database cannot be used."""

    def __init__(self, path: Path) -> None:
        with _translated():
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                # WAL with NORMAL loses no commit to a kill of the process; a power cut may lose the last ones.
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.executescript(_SCHEMA)
            except sqlite3.Error:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the connection."""
        with _translated():
            self._db.close()

    def get(self, key: str) -> Row | None:
        """The row of a key."""
        with _translated():
            found = self._db.execute(
                "SELECT generation, length, deadline, metadata FROM response WHERE key = ?", (key,)
            ).fetchone()
        return Row(*found) if found else None

    def put(self, key: str, row: Row, *, used: float, only_new: bool = False) -> str | None:
        """Insert or replace. Returns the generation that was replaced; with `only_new`, the one that stood there."""
        with _translated(), self._transaction():
            found = self._db.execute("SELECT generation FROM response WHERE key = ?", (key,)).fetchone()
            if found and only_new:
                return str(found[0])
            self._db.execute("DELETE FROM response WHERE key = ?", (key,))
            self._db.execute(
                "INSERT INTO response (key, generation, length, used, deadline, metadata) VALUES (?, ?, ?, ?, ?, ?)",
                (key, row.generation, row.length, used, row.deadline, row.metadata),
            )
        return str(found[0]) if found else None

    def freshen(self, key: str, generation: str, metadata: bytes) -> bool:
        """Replace the metadata of a response whose bytes stay; False where another generation took its place."""
        with _translated():
            cursor = self._db.execute(
                "UPDATE response SET metadata = ? WHERE key = ? AND generation = ?", (metadata, key, generation)
            )
        return cursor.rowcount == 1

    def remove(self, key: str, generation: str | None = None) -> str | None:
        """Remove a key, where `generation` is given only that one. Returns the generation that was removed."""
        with _translated():
            found = self._db.execute(
                "DELETE FROM response WHERE key = ? AND generation = coalesce(?, generation) RETURNING generation",
                (key, generation),
            ).fetchall()
        return str(found[0][0]) if found else None

    def remove_prefix(self, prefix: str) -> list[str]:
        """Remove every key that begins with `prefix`, the empty one for all. Returns the generations removed."""
        with _translated():
            found = self._db.execute(
                "DELETE FROM response WHERE key >= ? AND key < ? RETURNING generation",
                (prefix, prefix + _AFTER_ANY_KEY),
            ).fetchall()
        return [str(generation) for (generation,) in found]

    def touch(self, uses: Iterable[tuple[str, float]]) -> None:
        """Note when keys were last used: pairs of key and Unix time."""
        with _translated(), self._transaction():
            self._db.executemany("UPDATE response SET used = ? WHERE key = ?", ((used, key) for key, used in uses))

    def usage(self) -> Usage:
        """What the tier holds."""
        with _translated():
            found = self._db.execute("SELECT bytes, entries FROM total").fetchone()
        return Usage(*found)

    def evict(self, max_bytes: int) -> list[str]:
        """Remove the least recently used until at most `max_bytes` are held. Returns the generations removed."""
        gone: list[str] = []
        with _translated(), self._transaction():
            while self.usage().bytes > max_bytes:
                oldest = self._db.execute(
                    "SELECT key, generation, length FROM response ORDER BY used LIMIT ?", (_EVICTION_BATCH,)
                ).fetchall()
                if not oldest:
                    break
                excess = self.usage().bytes - max_bytes
                for key, generation, length in oldest:
                    if excess <= 0:
                        break
                    self._db.execute("DELETE FROM response WHERE key = ?", (key,))
                    excess -= length
                    gone.append(str(generation))
        return gone

    def knows(self, generation: str) -> bool:
        """Whether any response has these bytes."""
        with _translated():
            found = self._db.execute("SELECT 1 FROM response WHERE generation = ? LIMIT 1", (generation,)).fetchone()
        return found is not None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE, so that the read that decides and the write that follows are one step for every worker.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(note=f"the disk tier's index failed: {error}") from error
