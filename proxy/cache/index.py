"""The disk tier's index: which stored responses lie in a folder, how large they are and when they were last used.

An SQLite database in WAL mode, so that the workers of one folder share it and a kill at any point leaves it whole.
Every call blocks for a moment and belongs on the disk tier's own thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.cache import erasure_log, worker_log
from proxy.cache.counters import Counter, RamUsage, Statistics
from proxy.cache.index_file import Damaged, IndexFile, is_damage
from proxy.errors import StoreError

ROW_BYTES: Final = 4_096
"""Bytes of disk counted for a stored response besides its body: its row, and the block that its body half fills."""

_EVICTION_BATCH: Final = 64
_REMOVAL_BATCH: Final = 512
# A key is printable; this noncharacter sorts after all of them.
_AFTER_ANY_KEY: Final = "\U0010ffff"

SELECT_ROW: Final = "SELECT generation, length, deadline, epoch, metadata FROM response WHERE key = ?"
SELECT_OLDEST: Final = "SELECT key, generation, length FROM response ORDER BY used LIMIT ?"
REMOVE_PREFIX: Final = (
    "DELETE FROM response WHERE key IN (SELECT key FROM response WHERE key >= ? AND key < ? LIMIT ?)"
    " RETURNING generation"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One indexed response; `metadata` is an encoded entry, `deadline` in Unix seconds or None.

    `epoch`: the number of the last erasure when its fill began.
    """

    generation: str
    length: int
    deadline: float | None
    epoch: int
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """What the tier holds: bytes of bodies, and how many."""

    bytes: int
    entries: int

    @property
    def footprint(self) -> int:
        """Bytes of disk, which is what the tier's bound counts."""
        return self.bytes + self.entries * ROW_BYTES


@dataclass(frozen=True, slots=True)
class Placing:
    """What a `put` did: whether the row is there now, and the generation whose row it replaced.

    It is not there where it was erased since its fill began, or the condition of the `put` did not hold.
    """

    done: bool
    replaced: str | None = None


class Index:
    """One worker's use of the index in a folder; it opens itself at the first call.

    Every method raises `StoreError` where the database cannot be used. A damaged one is removed then, and the next
    call begins a new one.
    """

    def __init__(self, folder: Path) -> None:
        self._file = IndexFile(folder)

    def open(self) -> None:
        """Make what is missing; begin anew in place of a damaged index or one of another version."""
        with contextlib.suppress(StoreError):
            self.usage()
            return
        self.usage()

    def close(self) -> None:
        """Close the connection."""
        with _translated():
            self._file.close()

    def get(self, key: str) -> Row | None:
        """The row of a key, whatever its deadline; None where it is erased and only waits to be removed."""
        with self._connected() as db:
            row = _select(db, key)
            return None if row is None or erasure_log.is_erased(db, key, row.epoch) else row

    def put(
        self, key: str, row: Row, *, used: float, only_new: bool = False, instead_of: bytes | None = None
    ) -> Placing:
        """Insert or replace. `used` is now, in Unix seconds.

        With `only_new` a live row stays as it is; with `instead_of` only a live row with that metadata is replaced.
        """
        with self._connected() as db, _transaction(db):
            if erasure_log.is_forgotten(db, row.epoch) or erasure_log.is_erased(db, key, row.epoch):
                return Placing(done=False)
            old = _select(db, key)
            live = old if old is not None and (old.deadline is None or old.deadline > used) else None
            if only_new and live is not None:
                return Placing(done=False)
            if instead_of is not None and (live is None or live.metadata != instead_of):
                return Placing(done=False)
            db.execute("DELETE FROM response WHERE key = ?", (key,))
            db.execute(
                "INSERT INTO response (key, generation, length, used, deadline, epoch, metadata)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (key, row.generation, row.length, used, row.deadline, row.epoch, row.metadata),
            )
        return Placing(done=True, replaced=old.generation if old and old.generation != row.generation else None)

    def freshen(self, key: str, generation: str, metadata: bytes) -> bool:
        """Replace the metadata of a response whose bytes stay; False where another generation took its place."""
        with self._connected() as db:
            cursor = db.execute(
                "UPDATE response SET metadata = ? WHERE key = ? AND generation = ?", (metadata, key, generation)
            )
            return cursor.rowcount == 1

    def prolong(self, key: str, deadline: float | None, *, now: float) -> bool:
        """Give a live row another deadline, None for none."""
        with self._connected() as db:
            cursor = db.execute(
                "UPDATE response SET deadline = ? WHERE key = ? AND (deadline IS NULL OR deadline > ?)",
                (deadline, key, now),
            )
            return cursor.rowcount == 1

    def remove(self, key: str, generation: str | None = None, metadata: bytes | None = None) -> str | None:
        """Remove a key, where `generation` or `metadata` is given only with that. Returns the generation removed."""
        with self._connected() as db:
            found = db.execute(
                "DELETE FROM response WHERE key = ? AND generation = coalesce(?, generation)"
                " AND metadata = coalesce(?, metadata) RETURNING generation",
                (key, generation, metadata),
            ).fetchall()
            return _generation(found[0][0]) if found else None

    def remove_generation(self, generation: str) -> bool:
        """Remove the response that has these bytes; False where none has."""
        with self._connected() as db:
            return db.execute("DELETE FROM response WHERE generation = ?", (generation,)).rowcount > 0

    def remove_prefix(self, prefix: str) -> list[str]:
        """Remove some of the keys that begin with `prefix`, the empty one for all; call until none is removed.

        Returns the generations removed.
        """
        with self._connected() as db:
            found = db.execute(REMOVE_PREFIX, (prefix, prefix + _AFTER_ANY_KEY, _REMOVAL_BATCH)).fetchall()
            return [_generation(generation) for (generation,) in found]

    def erase(self, prefix: str, now: float, above: int = 0) -> int:
        """Erase every key that begins with `prefix`, also what is being fetched. Returns the erasure's number.

        The rows are erased at once and removed by `remove_prefix`. `now` is Unix time in seconds; the number is larger
        than `above`.
        """
        with self._connected() as db, _transaction(db):
            return erasure_log.record(db, prefix, now, above)

    def erased(self, key: str, since: int) -> bool:
        """Whether a key was, or may have been, erased after the erasure of that number."""
        with self._connected() as db:
            return erasure_log.is_forgotten(db, since) or erasure_log.is_erased(db, key, since)

    def latest_erasure(self) -> int:
        """The number of the last erasure."""
        with self._connected() as db:
            return erasure_log.latest(db)

    def forget_erasures(self, before: float) -> None:
        """Forget the erasures from before that Unix time, and remove the rows that they cover."""
        with self._connected() as db, _transaction(db):
            erasure_log.prune(db, before)

    def touch(self, uses: Iterable[tuple[str, float]]) -> None:
        """Note when keys were last used: pairs of key and Unix time."""
        with self._connected() as db, _transaction(db):
            db.executemany("UPDATE response SET used = max(used, ?) WHERE key = ?", ((used, key) for key, used in uses))

    def report(self, run: str, ram: RamUsage, counts: Mapping[Counter, int], now: float) -> None:
        """Add to the counters, and say that a worker runs and what it holds. `now` is Unix time in seconds."""
        with self._connected() as db, _transaction(db):
            worker_log.add(db, counts)
            worker_log.report(db, run, ram, now)

    def leave(self, run: str) -> None:
        """Say that a worker has ended."""
        with self._connected() as db:
            worker_log.leave(db, run)

    def statistics(self, now: float) -> Statistics:
        """What the workers have reported. `now` is Unix time in seconds."""
        with self._connected() as db:
            return worker_log.read(db, now)

    def usage(self) -> Usage:
        """What the tier holds."""
        with self._connected() as db:
            return _usage(db)

    def evict(self, max_bytes: int) -> list[str]:
        """Remove some of the least recently used while the footprint is over `max_bytes`; call until none is removed.

        Returns the generations removed.
        """
        if self.usage().footprint <= max_bytes:
            return []
        gone: list[str] = []
        with self._connected() as db, _transaction(db):
            excess = _usage(db).footprint - max_bytes
            oldest = db.execute(SELECT_OLDEST, (_EVICTION_BATCH,)).fetchall()
            if excess > 0 and max_bytes >= 0 and not oldest:
                raise Damaged("the totals count what is not there")
            for key, generation, length in oldest:
                if excess <= 0:
                    break
                if not isinstance(length, int):
                    raise Damaged("a length is none")
                db.execute("DELETE FROM response WHERE key = ?", (key,))
                excess -= length + ROW_BYTES
                gone.append(_generation(generation))
        return gone

    def knows(self, generation: str) -> bool:
        """Whether any response has these bytes."""
        with self._connected() as db:
            found = db.execute("SELECT 1 FROM response WHERE generation = ? LIMIT 1", (generation,)).fetchone()
            return found is not None

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with _translated():
            try:
                yield self._file.connection()
            except (sqlite3.Error, UnicodeError, Damaged) as error:
                if is_damage(error):
                    self._file.remove()
                raise


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE, so that the read that decides and the write that follows are one step for every worker.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        # A full disk may have ended it already.
        if db.in_transaction:
            db.execute("ROLLBACK")


def _usage(db: sqlite3.Connection) -> Usage:
    match db.execute("SELECT bytes, entries FROM total").fetchall():
        case [(int(held), int(entries))]:
            return Usage(held, entries)
        case _:
            raise Damaged("its totals are none")


def _select(db: sqlite3.Connection, key: str) -> Row | None:
    found = db.execute(SELECT_ROW, (key,)).fetchone()
    return _row(found) if found else None


def _row(found: object) -> Row:
    match found:
        case (generation, int(length), float() | int() | None as deadline, int(epoch), bytes(metadata)):
            return Row(_generation(generation), length, deadline, epoch, metadata)
        case _:
            raise Damaged("a row is not of its columns' types")


def _generation(value: object) -> str:
    # It names a file that may be removed.
    if isinstance(value, str) and value.isascii() and value.isalnum():
        return value
    raise Damaged("a generation is none")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeError, OSError, Damaged) as error:
        # An OSError's own text would name the path.
        cause = error.strerror if isinstance(error, OSError) else error
        raise StoreError(note=f"the disk tier's index failed: {cause}") from error
