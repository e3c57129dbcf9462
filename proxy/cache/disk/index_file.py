"""The file of the disk tier's index: made, found, judged and replaced by workers that share a folder.

A new index is a new file name. SQLite finds the log that belongs to a database by its name, so a name that was given
to a second database would let a worker that still has the first one open remove the log of the second.
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
"""What `PRAGMA user_version` says, and the schema sets; an index of another version is replaced."""

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
    """Whether a folder is one that a disk tier lies in."""
    # A link to a folder is one; of what lies in it, that is looked at when it is opened.
    return next(folder.glob(_PATTERN), None) is not None


class IndexFile:
    """One worker's connection to the index of a folder.

    `max_bytes` and `visiting` are as those of `Index`.

    Methods raise `sqlite3.Error`, `OSError`, `Damaged`, and `UnicodeError` for a message of SQLite that is no text.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None, visiting: bool = False) -> None:
        self._folder = folder
        self._within = Folder(folder)
        self._max_bytes = max_bytes
        self._visiting = visiting
        self._path: Path | None = None
        self.changes = 0
        """How often another index has taken the place of the one that this connection was to."""
        self._db: sqlite3.Connection | None = None

    def connection(self) -> sqlite3.Connection:
        """The connection to the index that is now in the folder."""
        if self._db is not None and self._path is not None and self._path.exists():
            return self._db
        self.close()
        with self._locked():
            before, self._path = self._path, self._checked(self._found_or_made())
            self.changes += before not in {None, self._path}
            db = _connect(self._path)
            try:
                self._adopt(db)
                if self._max_bytes is not None:
                    # Where there is no room for it, `stats` says what its own settings do.
                    with contextlib.suppress(sqlite3.OperationalError):
                        responses_table.set_bound(db, self._max_bytes)
            except BaseException:
                db.close()
                raise
        self._db = db
        return db

    def remove(self) -> None:
        """Take this index out of the folder, for every worker; a visitor only lets go of it."""
        self.close()
        if self._path is not None and not self._visiting:
            _log.warning("The index of the disk cache is damaged or of another version; a new one is begun")
            with self._locked():
                blocks = _salvaged(self._checked(self._path))
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)
                if blocks:
                    self._begin_with(blocks)

    def close(self) -> None:
        """Close the connection, where there is one."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _begin_with(self, blocks: Sequence[SalvagedRow]) -> None:
        """Take blocks over into the index that now is in the folder: what is revoked stays so over its loss."""
        with closing(_connect(self._found_or_made())) as db:
            self._adopt(db)
            blocks_table.restore(db, blocks)

    def _adopt(self, db: sqlite3.Connection) -> None:
        """Set a connection up, and begin the index where there is nothing in it.

        A new one knows of no erasure that the one before it had. So it begins above every number that was published,
        and says so at once: whatever a worker holds is from before that, and what is stored from now on is not.
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
            raise Damaged(f"its version is {version}, and {SCHEMA_VERSION} is spoken here")

    def _checked(self, path: Path) -> Path:
        """Return the path of an index that SQLite may open: it follows links, where there are any."""
        self._within.refuse_links(path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal")))
        return path

    def _found_or_made(self) -> Path:
        found = sorted(self._folder.glob(_PATTERN))
        if found:
            return found[0]
        path = self._folder / _PATTERN.replace("*", secrets.token_hex(8))
        # Never opened where it may be in use: closing a file ends the locks that this process has on it.
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
    """The blocks of an index that is given up; none where they cannot be read, or another worker was first."""
    try:
        return blocks_table.salvage(path)
    except (sqlite3.Error, UnicodeError):
        return []
