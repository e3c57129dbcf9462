"""The verdicts of a folder, in rows of its index: what is revoked and what is gone, until when.

Each has the number of the erasure that was written with it. A verdict that is lifted stays as one that has ended, so
that a worker which reads only what is new learns of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from proxy.cache import verdict_policy
from proxy.cache.verdict_policy import KINDS, Verdict, Verdicts
from proxy.erasure import Standing

SCHEMA: Final = """
CREATE TABLE verdict (
    kind   INTEGER NOT NULL,
    prefix TEXT NOT NULL,
    until  REAL NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (kind, prefix)
) WITHOUT ROWID;
CREATE INDEX verdict_number ON verdict (kind, number);
CREATE INDEX verdict_until ON verdict (until);
CREATE TABLE forgotten_verdict (number INTEGER NOT NULL);
INSERT INTO forgotten_verdict VALUES (0);
"""

# A prefix is printable; this noncharacter sorts after all of them.
_AFTER_ANY_KEY: Final = "\U0010ffff"
SELECT_NEW: Final = (
    "SELECT CAST(prefix AS TEXT), CAST(until AS REAL) FROM verdict WHERE kind = ? AND number > ? ORDER BY number"
)
SELECT_LAST: Final = "SELECT CAST(coalesce(max(number), 0) AS INTEGER) FROM verdict WHERE kind = ?"
_SELECT_UNTIL: Final = "SELECT CAST(until AS REAL) FROM verdict WHERE kind = ? AND prefix = ?"
_SELECT_ALL: Final = "SELECT kind, prefix, until, number FROM verdict"
_PUT: Final = (
    "INSERT INTO verdict (kind, prefix, until, number) VALUES (?, ?, ?, ?) ON CONFLICT (kind, prefix)"
    " DO UPDATE SET until = max(until, excluded.until), number = excluded.number"
)

_LARGEST_NUMBER: Final = 2**61
"""The largest number that is taken over from a damaged index. Numbers are microseconds, and later ones are larger."""

SalvagedRow = tuple[int, str, float, int]
"""Kind, prefix, end and number, as they stand in the table."""


def record(db: sqlite3.Connection, verdict: Verdict, number: int, now: float, most: int) -> None:
    """Write a verdict down; one that holds already is prolonged, and never shortened.

    Raises `RevocationsFull` if it were one more than `most`.
    """
    if verdict_policy.takes_room(held_until(db, verdict.kind, verdict.prefix), verdict.until, now):
        rows = _rows(db)
        if rows >= most:
            prune(db, now)
            rows = _rows(db)
        verdict_policy.require_room(rows, 1, most)
    db.execute(_PUT, (verdict.kind.value, verdict.prefix, verdict.until, number))


def require_room(db: sqlite3.Connection, verdicts: Sequence[Verdict], now: float, most: int) -> None:
    """Raise `RevocationsFull` if these verdicts together were too many."""
    more = {
        (v.kind, v.prefix)
        for v in verdicts
        if verdict_policy.takes_room(held_until(db, v.kind, v.prefix), v.until, now)
    }
    if more and _rows(db) + len(more) > most:
        (held,) = db.execute("SELECT count(*) FROM verdict WHERE until > ?", (now,)).fetchone()
        verdict_policy.require_room(int(held), len(more), most)


def held_until(db: sqlite3.Connection, kind: Standing, prefix: str) -> float | None:
    """Return until when a verdict was given on exactly that prefix, which may be past; None where there is none."""
    row = db.execute(_SELECT_UNTIL, (kind.value, prefix)).fetchone()
    return None if row is None else float(row[0])


def latest(db: sqlite3.Connection) -> int:
    """Return the number of the last verdict that was given, lifted or prolonged; 0 where there was none."""
    (forgotten,) = db.execute("SELECT CAST(number AS INTEGER) FROM forgotten_verdict").fetchone()
    # For each kind, so that the index answers it.
    return max(int(forgotten), *(int(db.execute(SELECT_LAST, (kind.value,)).fetchone()[0]) for kind in KINDS))


def lift(db: sqlite3.Connection, kind: Standing, prefix: str, number: int, until: float | None = None) -> None:
    """End a verdict, and those of its kind on parts of what it covers; with `until` those alone that end by then."""
    # At no time that a clock which is set back could come to again.
    db.execute(
        "UPDATE verdict SET until = 0, number = :number WHERE kind = :kind AND prefix >= :first AND prefix < :end"
        " AND (:until IS NULL OR until <= :until)",
        {"number": number, "kind": kind.value, "first": prefix, "end": prefix + _AFTER_ANY_KEY, "until": until},
    )


def read(db: sqlite3.Connection, since: int) -> Verdicts:
    """What was written after number `since`, in order; all there is, where some of that is forgotten."""
    if since < 0:
        return Verdicts(_select(db, since), whole=True)
    new = _select(db, since)
    # Read second, so that nothing that is forgotten between the two is missed.
    (forgotten,) = db.execute("SELECT number FROM forgotten_verdict").fetchone()
    return Verdicts(new, whole=False) if since >= int(forgotten) else Verdicts(_select(db, -1), whole=True)


def prune(db: sqlite3.Connection, now: float) -> None:
    """Forget what has ended."""
    (last,) = db.execute("SELECT coalesce(max(number), 0) FROM verdict WHERE until <= ?", (now,)).fetchone()
    db.execute("UPDATE forgotten_verdict SET number = max(number, ?)", (int(last),))
    db.execute("DELETE FROM verdict WHERE until <= ?", (now,))


def salvage(path: Path) -> list[SalvagedRow]:
    """The rows of an index that is given up, as far as they can be read."""
    with closing(sqlite3.connect(path)) as db:
        return [
            (kind, prefix, until, min(max(number, 0), _LARGEST_NUMBER))
            for kind, prefix, until, number in db.execute(_SELECT_ALL)
            if isinstance(kind, int)
            and isinstance(prefix, str)
            and isinstance(until, float)
            and isinstance(number, int)
        ]


def restore(db: sqlite3.Connection, rows: Iterable[SalvagedRow]) -> None:
    """Write rows that were salvaged."""
    db.executemany(_PUT, rows)


def _rows(db: sqlite3.Connection) -> int:
    """Return how many there are, with those that have ended and are not forgotten yet."""
    (rows,) = db.execute("SELECT count(*) FROM verdict").fetchone()
    return int(rows)


def _select(db: sqlite3.Connection, since: int) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(kind, prefix, until) for kind in KINDS for prefix, until in db.execute(SELECT_NEW, (kind.value, since))
    )
