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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.cache import erasure_log, worker_log

_log = logging.getLogger("media_gateway.cache")

SCHEMA_VERSION: Final = 1
"""What `PRAGMA user_version` says, and the schema sets; an index of another version is replaced."""

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
{erasure_log.SCHEMA}
{worker_log.SCHEMA}
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
PRAGMA user_version = 1;
COMMIT;
"""  # noqa: S608 - fixed texts
_PATTERN: Final = "index-*.sqlite3"
_BUSY_SECONDS: Final = 5.0
_LOCK_TRIES: Final = 100
_LOCK_PAUSE_SECONDS: Final = 0.05
# The statements are fixed, so an SQLITE_ERROR means that the tables are not ours.
_DAMAGE: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


class Damaged(Exception):
    """The index holds what this package never wrote."""


def is_damage(error: Exception) -> bool:
    """Whether an error of the database means that its file is of no more use."""
    if isinstance(error, Damaged):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    # A text, or a message of SQLite that quotes the damage, may be no UTF-8; such an error has no code.
    return code & 0xFF in _DAMAGE if isinstance(code, int) else "decode" in str(error)


def has_index(folder: Path) -> bool:
    """Whether a folder is one that a disk tier lies in."""
    return next(folder.glob(_PATTERN), None) is not None


class IndexFile:
    """One worker's connection to the index of a folder.

    Methods raise `sqlite3.Error`, `OSError`, `Damaged`, and `UnicodeError` for a message of SQLite that is no text.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._db: sqlite3.Connection | None = None

    def connection(self) -> sqlite3.Connection:
        """The connection to the index that is now in the folder."""
        if self._db is not None and self._path is not None and self._path.exists():
            return self._db
        self.close()
        with self._locked():
            self._path = self._found_or_made()
            db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                _adopt(db)
            except BaseException:
                db.close()
                raise
        self._db = db
        return db

    def remove(self) -> None:
        """Take this index out of the folder, for every worker."""
        self.close()
        if self._path is not None:
            _log.warning("The index of the disk cache is damaged or of another version; a new one is begun")
            with self._locked():
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connection, where there is one."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _found_or_made(self) -> Path:
        found = sorted(self._folder.glob(_PATTERN))
        if found:
            return found[0]
        path = self._folder / _PATTERN.replace("*", secrets.token_hex(8))
        # Never opened where it may be in use: closing a file ends the locks that this process has on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "index.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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


def _adopt(db: sqlite3.Connection) -> None:
    # WAL with NORMAL loses no commit to a kill of the process; a power cut may lose the last ones.
    db.execute("PRAGMA journal_mode = WAL").fetchone()
    db.execute("PRAGMA synchronous = NORMAL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version == 0 and tables == 0:
        db.executescript(_SCHEMA)
    elif version != SCHEMA_VERSION:
        raise Damaged(f"its version is {version}, and {SCHEMA_VERSION} is spoken here")
