"""The reports of a folder's workers, as rows of its index: sums of their counters, and which of them run."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from proxy.cache import bounds
from proxy.cache.counters import Counter, RamUsage, Statistics

SCHEMA: Final = """
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE worker (
    run         TEXT PRIMARY KEY,
    ram_bytes   INTEGER NOT NULL,
    ram_entries INTEGER NOT NULL,
    updated     REAL NOT NULL
) WITHOUT ROWID;
"""

STALE_SECONDS: Final = 60.0
"""The time after which a worker that has reported nothing counts as ended."""


def add(db: sqlite3.Connection, counts: Mapping[Counter, int]) -> None:
    """Add to the sums of the counters."""
    db.executemany(
        "INSERT INTO counter (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        [(counter.value, count) for counter, count in counts.items()],
    )


def report(db: sqlite3.Connection, worker: str, ram: RamUsage, now: float) -> None:
    """Write down that a worker runs and what its RAM holds; forget those that have ended. `now` is Unix time."""
    db.execute("DELETE FROM worker WHERE run = ? OR updated <= ?", (worker, now - STALE_SECONDS))
    db.execute(
        "INSERT INTO worker (run, ram_bytes, ram_entries, updated) VALUES (?, ?, ?, ?)",
        (worker, ram.bytes, ram.entries, now),
    )


def leave(db: sqlite3.Connection, worker: str) -> None:
    """Forget a worker that has ended."""
    db.execute("DELETE FROM worker WHERE run = ?", (worker,))


def reported(db: sqlite3.Connection, moment: float, within: float) -> bool:
    """Do the work of `Index.reported`."""
    silent = db.execute(
        "SELECT 1 FROM worker WHERE updated <= ? AND updated > ? LIMIT 1", (moment, moment - within)
    ).fetchone()
    return silent is None


def read(db: sqlite3.Connection, now: float) -> Statistics:
    """Return the sums and the workers that run. `now` is Unix time in seconds."""
    marks = ", ".join("?" * len(Counter))
    sums = db.execute(
        f"SELECT name, value FROM counter WHERE name IN ({marks})",  # noqa: S608 - only question marks
        tuple(counter.value for counter in Counter),
    ).fetchall()
    workers = db.execute(
        "SELECT run, ram_bytes, ram_entries FROM worker WHERE updated > ? ORDER BY run LIMIT ?",
        (now - STALE_SECONDS, bounds.MOST_WORKERS),
    ).fetchall()
    counts = {name: _figure(value) for name, value in sums}
    return Statistics(
        {counter: counts.get(counter.value, 0) for counter in Counter},
        {run: RamUsage(_figure(held), _figure(entries)) for run, held, entries in workers if bounds.is_text(run)},
    )


def _figure(value: object) -> int:
    """Return a figure of the statistics; 0 for anything else, since nothing but the statistics depends on it."""
    return value if bounds.is_number(value) else 0
