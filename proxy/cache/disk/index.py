"""The disk tier's index: which stored responses lie in a folder, how large they are and when they were last used.

An SQLite database in WAL mode, so that the workers of one folder share it and a kill at any point leaves it whole.
Every call blocks for a moment and belongs on the disk tier's own thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

from proxy.cache.counters import Counter, RamUsage, Statistics
from proxy.cache.disk import blocks_table, invalidations_table, responses_table, workers_table
from proxy.cache.disk.corruption import Damaged, is_damage
from proxy.cache.disk.index_file import IndexFile
from proxy.cache.disk.responses_table import Placing, ResponseRow, Usage
from proxy.cache.invalidation.policy import CEILING, Block, Blocks, Erase, Invalidation, Lift, has_erased
from proxy.errors import StoreError


class Index:
    """One worker's use of the index in a folder; it opens itself at the first call.

    Every method raises `StoreError` if the database cannot be used. A damaged one is removed then, and the next call
    begins a new one. `max_bytes` is what the folder may take: a gateway writes it down for other programs to read. With
    `visiting` a damaged index stays: it belongs to the gateways that run on the folder.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None, visiting: bool = False) -> None:
        self._file = IndexFile(folder, max_bytes=max_bytes, visiting=visiting)

    def open(self) -> None:
        """Create what is missing, and replace an index that is damaged or of another version."""
        with contextlib.suppress(StoreError):
            self.usage()
            return
        self.usage()

    @property
    def losses(self) -> int:
        """Return how often this worker has found another index in place of one that was lost. It does not block."""
        return self._file.losses

    def close(self) -> None:
        """Close the connection."""
        with _translated():
            self._file.close()

    def get(self, key: str) -> ResponseRow | None:
        """Return the row of a key; None if it is erased and only waits to be removed."""
        with self._connected() as db:
            row = responses_table.find(db, key)
            return None if row is None or invalidations_table.is_erased(db, key, row.epoch) else row

    def put(self, key: str, row: ResponseRow, *, used: float, instead_of: bytes | None = None) -> Placing:
        """Insert or replace; with `instead_of` only a row with that metadata is replaced. `used` is Unix time."""
        with self._connected() as db, _transaction(db):
            return responses_table.put(db, key, row, used, instead_of)

    def freshen(self, key: str, generation: str, metadata: bytes) -> bool:
        """Replace the metadata of a response whose bytes stay. Return False if another generation took its place."""
        with self._connected() as db:
            cursor = db.execute(
                "UPDATE response SET metadata = ? WHERE key = ? AND generation = ?", (metadata, key, generation)
            )
            return cursor.rowcount == 1

    def remove(self, key: str, generation: str | None = None, metadata: bytes | None = None) -> str | None:
        """Remove a key, or only a row with that `generation` or `metadata`. Return the generation that was removed."""
        with self._connected() as db:
            return responses_table.remove(db, key, generation, metadata)

    def remove_generation(self, generation: str) -> bool:
        """Remove the response of a generation. Return whether there was one."""
        with self._connected() as db:
            return db.execute("DELETE FROM response WHERE generation = ?", (generation,)).rowcount > 0

    def remove_prefix(self, prefix: str, before: int | None = None) -> list[str]:
        """Remove some of the keys that begin with `prefix`, the empty one for all; call until none is removed.

        With `before` only those whose fill began before the erasure of that number. Return the generations removed.
        """
        with self._connected() as db:
            return responses_table.remove_prefix(db, prefix, before)

    def count_prefix(self, prefix: str) -> int:
        """Return how many keys begin with `prefix`, the empty one for all."""
        with self._connected() as db:
            return responses_table.count_prefix(db, prefix)

    def apply(self, invalidation: Invalidation, now: float, above: int = 0, *, most: int = CEILING) -> int:
        """Write down an erasure, a block or a lift. Returns its number, which is larger than `above`.

        The rows that it covers are erased at once, what is being fetched included, and removed by `remove_prefix`; a
        block that `has_erased` already erases nothing. `now` is Unix time in seconds. Raises `RevocationsFull` if it
        is a block, and one more than `most`.
        """
        with self._connected() as db, _transaction(db):
            match invalidation:
                case Erase():
                    return invalidations_table.record(db, invalidation.prefix, now, above)
                case Block():
                    before = blocks_table.held_until(db, invalidation.kind, invalidation.prefix)
                    if has_erased(invalidation, before, now):
                        number = invalidations_table.next_number(db, now, above)
                    else:
                        number = invalidations_table.record(db, invalidation.prefix, now, above)
                    blocks_table.record(db, invalidation, before, number, now, most)
                    return number
                case Lift():
                    number = invalidations_table.record(db, invalidation.prefix, now, above)
                    blocks_table.lift(db, invalidation, number)
                    return number
                case _:
                    assert_never(invalidation)

    def erased(self, key: str, since: int) -> bool:
        """Return whether a key was, or may have been, erased after the erasure of that number."""
        with self._connected() as db:
            return invalidations_table.is_forgotten(db, since) or invalidations_table.is_erased(db, key, since)

    def erasures(self, since: int) -> dict[str, int]:
        """Return what some of the first erasures after that number cover: each prefix with the last of their numbers.

        The empty prefix, which covers everything, stands for what is not remembered. Call until nothing is new.
        """
        with self._connected() as db:
            return invalidations_table.since(db, since)

    def epoch(self) -> int:
        """Return the number of the last invalidation."""
        with self._connected() as db:
            return invalidations_table.latest(db)

    def forget_erasures(self, before: float) -> None:
        """Forget the erasures from before that Unix time, and remove the rows that they cover."""
        with self._connected() as db, _transaction(db):
            invalidations_table.prune(db, before)

    def require_room(self, blocks: Sequence[Block], now: float, most: int) -> None:
        """Raise `RevocationsFull` if these blocks together were more than `most`."""
        with self._connected() as db:
            blocks_table.require_room(db, blocks, now, most)

    def blocks(self, since: int) -> Blocks:
        """Return the blocks that were made, lifted or prolonged after the erasure of that number."""
        with self._connected() as db:
            return blocks_table.read(db, since)

    def forget_blocks(self, now: float) -> None:
        """Forget the blocks that have ended by that Unix time."""
        with self._connected() as db, _transaction(db):
            blocks_table.prune(db, now)

    def touch(self, uses: Iterable[tuple[str, float]]) -> None:
        """Write down when keys were last used, as pairs of key and Unix time."""
        with self._connected() as db, _transaction(db):
            db.executemany("UPDATE response SET used = max(used, ?) WHERE key = ?", ((used, key) for key, used in uses))

    def report(self, worker: str, ram: RamUsage, counts: Mapping[Counter, int], now: float) -> None:
        """Add to the counters, and write down that a worker runs and what its RAM holds. `now` is Unix time."""
        with self._connected() as db, _transaction(db):
            workers_table.add(db, counts)
            workers_table.report(db, worker, ram, now)

    def leave(self, worker: str) -> None:
        """Write down that a worker has ended."""
        with self._connected() as db:
            workers_table.leave(db, worker)

    def statistics(self, now: float) -> Statistics:
        """Return what the workers have reported. `now` is Unix time in seconds."""
        with self._connected() as db:
            return workers_table.read(db, now)

    def reported(self, moment: float, within: float) -> bool:
        """Return whether each worker that runs has reported after `moment`; times are Unix seconds.

        A worker that reported nothing in the `within` seconds before `moment` does not run any more.
        """
        with self._connected() as db:
            return workers_table.reported(db, moment, within)

    def bound(self) -> int | None:
        """Return how many bytes the folder may take, as the last gateway that began said; None if none did."""
        with self._connected() as db:
            return responses_table.bound(db)

    def usage(self) -> Usage:
        """Return what the tier holds."""
        with self._connected() as db:
            return responses_table.usage(db)

    def evict(self, max_bytes: int) -> list[str]:
        """Remove some of the least recently used responses while the footprint is over `max_bytes`.

        Call until none is removed. Return the generations removed.
        """
        if self.usage().footprint <= max_bytes:
            return []
        with self._connected() as db, _transaction(db):
            return responses_table.evict(db, max_bytes)

    def knows(self, generation: str) -> bool:
        """Return whether any response is of that generation."""
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


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeError, OSError, Damaged) as error:
        # An OSError's own text would name the path.
        cause = error.strerror if isinstance(error, OSError) else error
        raise StoreError(note=f"the disk tier's index failed: {cause}") from error
