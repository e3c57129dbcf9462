"""The erasures of a folder: numbered rows of its index, and the last number in a file that every worker has mapped.

Blocks and lifts have numbers of the same series, also a block that erases nothing. The theory, and why a number is at
least the time in microseconds, is in `cache.invalidation`.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sqlite3
from pathlib import Path
from typing import Final

from proxy.cache import bounds
from proxy.cache.disk import blocks_table
from proxy.cache.disk.corruption import Damaged, one_number
from proxy.cache.disk.folder import Folder
from proxy.erasure import prefixes

SCHEMA: Final = """
CREATE TABLE erasure (number INTEGER PRIMARY KEY, prefix TEXT NOT NULL);
CREATE INDEX erasure_prefix ON erasure (prefix, number);
CREATE TABLE horizon (number INTEGER NOT NULL);
INSERT INTO horizon VALUES (CAST(strftime('%s', 'now') AS INTEGER) * 1000000);
"""

KEPT: Final = 100_000
"""The most erasures that are remembered."""

_NUMBER_BYTES: Final = 8
# A key is printable; this noncharacter sorts after all of them.
_AFTER_ANY_KEY: Final = "\U0010ffff"
_REMOVE_COVERED: Final = (
    "DELETE FROM response WHERE key IN (SELECT response.key FROM erasure CROSS JOIN response"
    " ON response.key >= erasure.prefix AND response.key < erasure.prefix || ? AND response.epoch < erasure.number"
    " WHERE erasure.number <= ?)"
)
_OLDEST_KEPT: Final = "SELECT coalesce((SELECT number FROM erasure ORDER BY number DESC LIMIT 1 OFFSET ?), 0)"
_PAGE: Final = 1_000
_SELECT_SINCE: Final = "SELECT number, prefix FROM erasure WHERE number > ? ORDER BY number LIMIT ?"
_HORIZON: Final = "SELECT number FROM horizon"
_LATEST: Final = "SELECT max((SELECT number FROM horizon), coalesce((SELECT max(number) FROM erasure), 0))"


def begin_above(published: int) -> str:
    """Return the statement by which a new log begins above the last number that was published."""
    return f"UPDATE horizon SET number = max(number, {published + 1});\n"  # noqa: S608 - a number


def record(db: sqlite3.Connection, prefix: str, now: float, above: int) -> int:
    """Write down that every key that begins with `prefix` is erased now, in Unix seconds. Return the erasure's number.

    The number is larger than `above`, the last one that was published: the index may be younger than that, and the
    clock may have been set back.
    """
    number = next_number(db, now, above)
    db.execute("INSERT INTO erasure (number, prefix) VALUES (?, ?)", (number, prefix))
    return number


def next_number(db: sqlite3.Connection, now: float, above: int) -> int:
    """Return the number of an invalidation that is written now, in Unix seconds: it is larger than all before it."""
    number = max(latest(db) + 1, above + 1, int(now * 1_000_000))
    if number > bounds.LAST_EPOCH:
        raise Damaged("its numbers are used up")
    return number


def latest(db: sqlite3.Connection) -> int:
    """Return the number of the last invalidation; if there is none, the one at which the table began."""
    # A block that was prolonged has a number, and no erasure with it.
    return max(one_number(db, _LATEST), blocks_table.latest(db))


def is_erased(db: sqlite3.Connection, key: str, since: int) -> bool:
    """Return whether an erasure after number `since` covers the key."""
    covering = prefixes(key)
    marks = ", ".join("?" * len(covering))
    found = db.execute(
        f"SELECT 1 FROM erasure WHERE prefix IN ({marks}) AND number > ? LIMIT 1",  # noqa: S608 - only question marks
        (*covering, since),
    ).fetchone()
    return found is not None


def since(db: sqlite3.Connection, number: int) -> dict[str, int]:
    """Return the prefixes of some of the first erasures after `number`, each with the number of its last erasure.

    If some of those are forgotten, the first prefix covers everything, at the number up to which nothing is known.
    """
    horizon = one_number(db, _HORIZON)
    found = {"": horizon} if number < horizon else {}
    for last, prefix in db.execute(_SELECT_SINCE, (max(number, horizon), _PAGE)):
        if not bounds.is_count(last, bounds.LAST_EPOCH) or not bounds.is_text(prefix):
            raise Damaged("a row is not an erasure")
        found[prefix] = last
    return found


def is_forgotten(db: sqlite3.Connection, since: int) -> bool:
    """Return whether erasures after number `since` are forgotten, so that nothing can be said of them."""
    return since < one_number(db, _HORIZON)


def prune(db: sqlite3.Connection, before: float) -> None:
    """Forget the erasures from before that Unix time, and all but the last `KEPT`; first remove the rows they cover."""
    limit = max(int(before * 1_000_000), one_number(db, _OLDEST_KEPT, (KEPT,)))
    forgotten = "SELECT coalesce(max(number), 0) FROM erasure WHERE number <= ?"
    db.execute(f"UPDATE horizon SET number = max(number, ({forgotten}))", (limit,))  # noqa: S608 - a fixed text
    db.execute(_REMOVE_COVERED, (_AFTER_ANY_KEY, limit))
    db.execute("DELETE FROM erasure WHERE number <= ?", (limit,))


def _is_epoch(number: int) -> bool:
    # There has to be a number above it.
    return 0 <= number < bounds.LAST_EPOCH


class Epoch:
    """The mapped number of a folder's last invalidation. `open` and `close` block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._map: mmap.mmap | None = None
        self._cell: memoryview[int] | None = None

    def open(self) -> None:
        """Map the file, which is made if it is missing. Raises `OSError`."""
        descriptor = self._descriptor = Folder(self._path.parent).open(self._path, os.O_RDWR | os.O_CREAT)
        if os.fstat(descriptor).st_size < _NUMBER_BYTES:
            os.ftruncate(descriptor, _NUMBER_BYTES)
        self._map = mmap.mmap(descriptor, _NUMBER_BYTES)
        self._cell = memoryview(self._map).cast("q")
        if not _is_epoch(self._cell[0]):
            # Damage, or another program's file: the index says what the last number was.
            self._cell[0] = 0

    def close(self) -> None:
        """Unmap the file."""
        cell, self._cell = self._cell, None
        if cell is not None:
            cell.release()
        mapped, self._map = self._map, None
        if mapped is not None:
            mapped.close()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    @property
    def current(self) -> int:
        """Return the number of the last invalidation that was published; 0 if the file holds no such number."""
        assert self._cell is not None, "the epoch is used while it is open"
        number = self._cell[0]
        return number if _is_epoch(number) else 0

    def publish(self, number: int) -> None:
        """Tell every worker of an invalidation that is committed, unless a later one is published already."""
        assert self._cell is not None, "the epoch is used while it is open"
        assert self._descriptor is not None
        # One worker at a time. A file system without locks must not keep an invalidation from being published.
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            if number > self.current:
                self._cell[0] = number
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
