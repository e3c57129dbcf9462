"""The blocks of a folder, in rows of its index: kind, prefix, and the end in Unix seconds.

Each row has the number of the invalidation that wrote it last. A block that is lifted stays as one that has ended, so
that a worker which reads only what is new learns of it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from proxy.cache import bounds
from proxy.cache.disk.corruption import LONGEST_VALUE, Damaged, one_number
from proxy.cache.invalidation import policy
from proxy.cache.invalidation.policy import KINDS, Block, Blocks, Lift
from proxy.erasure import BlockKind

# A block was called a verdict once. The tables keep that name: another one would lose what earlier releases revoked.
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
SELECT_NEW: Final = "SELECT prefix, until FROM verdict WHERE kind = ? AND number > ? ORDER BY number"
SELECT_LAST: Final = "SELECT coalesce(max(number), 0) FROM verdict WHERE kind = ?"
_SELECT_UNTIL: Final = "SELECT until FROM verdict WHERE kind = ? AND prefix = ?"
_SELECT_FORGOTTEN: Final = "SELECT number FROM forgotten_verdict"
_SALVAGE: Final = (
    "SELECT keep(kind, CAST(prefix AS BLOB), until, number) FROM verdict ORDER BY kind, prefix",
    "SELECT keep(kind, CAST(prefix AS BLOB), until, number) FROM verdict ORDER BY kind DESC, prefix DESC",
    # This index lies in pages of its own, and has every column but the number.
    "SELECT keep(kind, CAST(prefix AS BLOB), until, NULL) FROM verdict INDEXED BY verdict_until ORDER BY until",
)
# `max` is `policy.prolonged`, for rows that are restored too.
_PUT: Final = (
    "INSERT INTO verdict (kind, prefix, until, number) VALUES (?, ?, ?, ?) ON CONFLICT (kind, prefix)"
    " DO UPDATE SET until = max(until, excluded.until), number = excluded.number"
)

_LARGEST_NUMBER: Final = bounds.LAST_EPOCH // 2
"""The largest number that is taken over from a damaged index: later numbers are larger, and need room."""

SalvagedRow = tuple[int, str, float, int]
"""Kind, prefix, end and number, as they stand in the table."""


def record(db: sqlite3.Connection, block: Block, before: float | None, number: int, now: float, most: int) -> None:
    """Write a block down; `before` is its end as it stands in the table. One that holds is prolonged, never shortened.

    Raises `RevocationsFull` if it were one more than `most`.
    """
    if policy.takes_room(before, block.until, now):
        rows = _rows(db)
        if rows >= most:
            prune(db, now)
            rows = _rows(db)
        policy.require_room(rows, 1, most)
    db.execute(_PUT, (block.kind.value, block.prefix, block.until, number))


def require_room(db: sqlite3.Connection, blocks: Sequence[Block], now: float, most: int) -> None:
    """Raise `RevocationsFull` if these blocks together were more than `most`."""
    more = {block.identity for block in blocks if policy.takes_room(held_until(db, *block.identity), block.until, now)}
    if more and _rows(db) + len(more) > most:
        (held,) = db.execute("SELECT count(*) FROM verdict WHERE until > ?", (now,)).fetchone()
        policy.require_room(int(held), len(more), most)


def held_until(db: sqlite3.Connection, kind: BlockKind, prefix: str) -> float | None:
    """Return the end of the block on exactly that prefix, which may be past; None if there is none."""
    match db.execute(_SELECT_UNTIL, (kind.value, prefix)).fetchone():
        case None:
            return None
        case (until,) if bounds.is_time(until):
            return until
        case _:
            raise Damaged("the end of a block is not a time")


def latest(db: sqlite3.Connection) -> int:
    """Return the number of the last block that was added, prolonged or lifted; 0 if there was none."""
    # Asked for each kind, so that an index answers it.
    return max(one_number(db, _SELECT_FORGOTTEN), *(one_number(db, SELECT_LAST, (kind.value,)) for kind in KINDS))


def lift(db: sqlite3.Connection, lifted: Lift, number: int) -> None:
    """End the blocks that a lift covers, as `policy.is_lifted` says."""
    # An end of 0 is one that no clock comes to again, however far it is set back.
    db.execute(
        "UPDATE verdict SET until = 0, number = :number WHERE kind = :kind AND prefix >= :first AND prefix < :end"
        " AND (:until IS NULL OR until <= :until)",
        {
            "number": number,
            "kind": lifted.kind.value,
            "first": lifted.prefix,
            "end": lifted.prefix + _AFTER_ANY_KEY,
            "until": lifted.until,
        },
    )


def read(db: sqlite3.Connection, since: int) -> Blocks:
    """Return the rows that were written after number `since`, in order; all rows, if some of those are forgotten."""
    if since < 0:
        return Blocks(_select(db, since), whole=True)
    new = _select(db, since)
    # Read second, so that nothing that is forgotten between the two is missed.
    forgotten = one_number(db, _SELECT_FORGOTTEN)
    return Blocks(new, whole=False) if since >= forgotten else Blocks(_select(db, -1), whole=True)


def prune(db: sqlite3.Connection, now: float) -> None:
    """Forget the blocks that have ended."""
    last = one_number(db, "SELECT coalesce(max(number), 0) FROM verdict WHERE until <= ?", (now,))
    db.execute("UPDATE forgotten_verdict SET number = max(number, ?)", (last,))
    db.execute("DELETE FROM verdict WHERE until <= ?", (now,))


def salvage(path: Path) -> list[SalvagedRow]:
    """Return the rows of an index that is given up, as far as they can be read: what is revoked has to stay revoked.

    A reading of the table ends at a page that cannot be read. The table is then read from its other end as well, and
    the index by `until` for what lies between two such pages. Raises `sqlite3.Error`.
    """
    found: dict[tuple[int, str], tuple[float, int | None]] = {}

    def keep(kind: object, prefix: object, until: object, number: object) -> None:
        if isinstance(kind, int) and isinstance(prefix, bytes) and isinstance(number, int | None):
            with contextlib.suppress(UnicodeDecodeError):
                text = prefix.decode()
                if bounds.is_text(text) and bounds.is_time(until):
                    found.setdefault((kind, text), (until, number))

    with closing(sqlite3.connect(path)) as db:
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        # A function of the statement has every row up to the failure; a cursor loses the last one before it.
        db.create_function("keep", 4, keep)
        for statement in _SALVAGE:
            with contextlib.suppress(sqlite3.Error):
                for _ in db.execute(statement):
                    pass
                break
    # Workers that read what is new have read these already. A row without a number may be as new as the newest.
    numbers = {number for _, number in found.values() if bounds.is_count(number, _LARGEST_NUMBER)}
    newest = max(numbers, default=0)
    return [
        (kind, prefix, until, newest if number is None else number if number in numbers else 0)
        for (kind, prefix), (until, number) in found.items()
    ]


def restore(db: sqlite3.Connection, rows: Iterable[SalvagedRow]) -> None:
    """Write rows that `salvage` returned."""
    db.executemany(_PUT, rows)


def _rows(db: sqlite3.Connection) -> int:
    """Return how many rows there are, with those that have ended and are not forgotten yet."""
    return one_number(db, "SELECT count(*) FROM verdict")


def _select(db: sqlite3.Connection, since: int) -> tuple[Block, ...]:
    found: list[Block] = []
    for kind in KINDS:
        for prefix, until in db.execute(SELECT_NEW, (kind.value, since)):
            if not bounds.is_text(prefix) or not bounds.is_time(until):
                raise Damaged("a row is not a block")
            found.append(Block(kind, prefix, until))
    return tuple(found)
