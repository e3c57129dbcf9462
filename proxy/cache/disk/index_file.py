"""The file of the disk tier's index: created, found, checked and replaced by workers that share a folder.

Each new index has a new file name. SQLite finds the write-ahead log of a database by its name. If a second database
had the name of the first, a worker that still has the first one open could remove the log of the second.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from proxy.cache.disk import blocks_table, invalidations_table, responses_table, workers_table
from proxy.cache.disk.blocks_table import SalvagedRow
from proxy.cache.disk.corruption import LONGEST_VALUE, Damaged
from proxy.cache.disk.folder import Folder
from proxy.cache.disk.invalidations_table import Epoch

_log = logging.getLogger("media_gateway.cache")

SCHEMA_VERSION: Final = 2
"""The number that the schema sets as `PRAGMA user_version`; an index of another version is replaced."""

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
{invalidations_table.SCHEMA}
{workers_table.SCHEMA}
{blocks_table.SCHEMA}
{responses_table.SCHEMA}
PRAGMA user_version = 2;
"""
_PATTERN: Final = "index-*.sqlite3"
_BUSY_SECONDS: Final = 5.0
_LOCK_TRIES: Final = 100
_LOCK_PAUSE_SECONDS: Final = 0.05


def has_index(folder: Path) -> bool:
    """Return whether a folder holds a disk tier."""
    # The folder itself may be a link. The files in it are checked for links when they are opened.
    return next(folder.glob(_PATTERN), None) is not None


class IndexFile:
    """One worker's connection to the index of a folder.

    `max_bytes` and `visiting` are those of `Index`. Methods raise `sqlite3.Error`, `OSError`, `Damaged`, and
    `UnicodeError` for a message of SQLite that is not text.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None, visiting: bool = False) -> None:
        self._folder = folder
        self._within = Folder(folder)
        self._max_bytes = max_bytes
        self._visiting = visiting
        self._path: Path | None = None
        self.losses = 0
        """The number of times that another index has taken the place of the one that was open."""
        self._db: sqlite3.Connection | None = None

    def connection(self) -> sqlite3.Connection:
        """Return the connection to the index that is now in the folder."""
        if self._db is not None and self._path is not None and self._path.exists():
            return self._db
        self.close()
        with self._locked():
            before, self._path = self._path, self._checked(self._found_or_made())
            self.losses += before not in {None, self._path}
            db = _connect(self._path)
            try:
                self._adopt(db)
                if self._max_bytes is not None:
                    # If the disk is full, `stats` shows the bound of its own settings.
                    with contextlib.suppress(sqlite3.OperationalError):
                        responses_table.set_bound(db, self._max_bytes)
            except BaseException:
                db.close()
                raise
        self._db = db
        return db

    def remove(self) -> None:
        """Remove this index from the folder, for every worker; a visitor only closes it."""
        self.close()
        if self._path is not None and not self._visiting:
            _log.warning("The index of the disk tier is damaged or of another version; a new one takes its place")
            with self._locked():
                blocks = _salvaged(self._checked(self._path))
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)
                if blocks:
                    self._begin_with(blocks)

    def close(self) -> None:
        """Close the connection, if there is one."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _begin_with(self, blocks: Sequence[SalvagedRow]) -> None:
        """Write blocks into the index that is now in the folder, so that they outlive the loss of the one before."""
        with closing(_connect(self._found_or_made())) as db:
            self._adopt(db)
            blocks_table.restore(db, blocks)

    def _adopt(self, db: sqlite3.Connection) -> None:
        """Set a connection up, and create the tables of an empty index.

        A new index knows none of the erasures that the one before it held. So its numbers begin above every number
        that was published, and it publishes its first at once: all that a worker holds is older, and counts as erased.
        """
        # WAL with NORMAL loses no commit to a kill of the process; a power cut may lose the last ones.
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute("PRAGMA synchronous = NORMAL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version == 0 and tables == 0:
            with closing(Epoch(self._folder / "epoch")) as epoch:
                epoch.open()
                db.executescript(f"{_SCHEMA}{invalidations_table.begin_above(epoch.current)}COMMIT;")
                epoch.publish(invalidations_table.latest(db))
        elif version != SCHEMA_VERSION:
            raise Damaged(f"its version is {version}, not {SCHEMA_VERSION}")

    def _checked(self, path: Path) -> Path:
        """Return the path of an index, checked: SQLite would follow a link. Raises `OSError` if there is one."""
        self._within.refuse_links(path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal")))
        return path

    def _found_or_made(self) -> Path:
        found = sorted(self._folder.glob(_PATTERN))
        if found:
            return found[0]
        path = self._folder / _PATTERN.replace("*", secrets.token_hex(8))
        # A file that may be in use is never opened: closing it would end the locks that this process has on it.
        os.close(self._within.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = self._within.open(self._folder / "index.lock", os.O_RDWR | os.O_CREAT)
        try:
            for _ in range(_LOCK_TRIES):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(_LOCK_PAUSE_SECONDS)
            else:
                raise TimeoutError("another process holds the lock of the index")
            yield
        finally:
            os.close(descriptor)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    return db


def _salvaged(path: Path) -> list[SalvagedRow]:
    """Return the blocks of an index that is given up; none if it cannot be opened, or another worker has removed it."""
    try:
        return blocks_table.salvage(path)
    except (sqlite3.Error, UnicodeError):
        return []
