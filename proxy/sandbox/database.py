"""The SQLite database of a sandbox's folder: its statements, and rows as values.

In WAL mode, so that a kill at any point leaves what was committed. Every call blocks for a moment and belongs on the
storage's own thread; methods raise `sqlite3.Error`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.errors import IdentifierError
from proxy.model import AccountSid, MediaSid, MessageRef, MessageSid
from proxy.sandbox.folder import unusable
from proxy.sandbox.messages import Direction

_VERSION: Final = 1
_BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE sandbox (account TEXT NOT NULL, last_number INTEGER NOT NULL, has_samples INTEGER NOT NULL);
CREATE TABLE message (
    number       INTEGER PRIMARY KEY,
    sid          TEXT NOT NULL UNIQUE,
    sender       TEXT NOT NULL,
    recipient    TEXT NOT NULL,
    body         TEXT NOT NULL,
    direction    TEXT NOT NULL,
    date_created INTEGER NOT NULL,
    service      TEXT
);
CREATE TABLE media (
    number       INTEGER PRIMARY KEY,
    message      INTEGER NOT NULL REFERENCES message (number) ON DELETE CASCADE,
    sid          TEXT NOT NULL UNIQUE,
    key          TEXT NOT NULL,
    content_type TEXT NOT NULL,
    name         TEXT NOT NULL,
    sha256       TEXT NOT NULL,
    size         INTEGER NOT NULL,
    date_created INTEGER NOT NULL
);
CREATE INDEX media_message ON media (message);
CREATE INDEX media_sha256 ON media (sha256);
CREATE TABLE fetched (
    url      TEXT PRIMARY KEY,
    metadata BLOB NOT NULL,
    sha256   TEXT NOT NULL,
    size     INTEGER NOT NULL,
    used     INTEGER NOT NULL
);
CREATE INDEX fetched_sha256 ON fetched (sha256);
PRAGMA user_version = 1;
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message without its media."""

    number: int
    ref: MessageRef
    from_: str
    to: str
    body: str
    direction: Direction
    date_created: int
    messaging_service_sid: str | None


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A media; `message` is the number of its message."""

    number: int
    message: int
    sid: MediaSid
    key: str
    content_type: str
    name: str
    sha256: str
    size: int
    date_created: int


@dataclass(frozen=True, slots=True)
class FetchedRow:
    """A file that was fetched for a message: what is known of its answer, and its body's name and size."""

    metadata: bytes
    sha256: str
    size: int


class Database:
    """One connection, from `open` to `close`."""

    def __init__(self, account: AccountSid) -> None:
        self._account = account
        self._db: sqlite3.Connection | None = None

    def open(self, path: Path) -> None:
        """Make the tables where there are none. Raises `SettingsError` for a database that is not this account's."""
        self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._adopt(self._db)

    def _adopt(self, db: sqlite3.Connection) -> None:
        # WAL with NORMAL loses no commit to a kill of the process; a power cut may lose the last ones.
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(_SCHEMA)
        elif version != _VERSION:
            raise unusable(f"holds messages of version {version}, and {_VERSION} is spoken here")
        found = db.execute("SELECT account FROM sandbox").fetchone()
        if found is None:
            db.execute("INSERT INTO sandbox VALUES (?, 0, 0)", (self._account.value,))
        elif found[0] != self._account.value:
            raise unusable("holds the messages of another account")

    def close(self) -> None:
        """Close the connection, where there is one."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._db is not None, "the database is used while it is open"
        return self._db

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it, or nothing."""
        db = self._connection
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    # --- messages -----------------------------------------------------------------------------------------------

    def last_number(self) -> int:
        """The last number that any message or media was given, deleted ones too."""
        (number,) = self._connection.execute("SELECT last_number FROM sandbox").fetchone()
        return int(number)

    def has_samples(self) -> bool:
        """Whether the sample conversation was added to this folder once."""
        (seeded,) = self._connection.execute("SELECT has_samples FROM sandbox").fetchone()
        return bool(seeded)

    def note_samples(self) -> None:
        """The sample conversation is added in this transaction."""
        self._connection.execute("UPDATE sandbox SET has_samples = 1")

    def insert(self, message: MessageRow, media: Iterable[MediaRow]) -> None:
        """Add a message and its media; their numbers are used up."""
        db = self._connection
        db.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                message.number, message.ref.message.value, message.from_, message.to, message.body,
                message.direction.value, message.date_created, message.messaging_service_sid,
            ),
        )  # fmt: skip
        last = message.number
        for row in media:
            db.execute(
                "INSERT INTO media VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row.number, row.message, row.sid.value, row.key, row.content_type, row.name, row.sha256, row.size,
                    row.date_created,
                ),
            )  # fmt: skip
            last = row.number
        db.execute("UPDATE sandbox SET last_number = ?", (last,))

    def messages(self) -> list[MessageRow]:
        """Every message, oldest first. Raises `SettingsError` where a row is none of ours."""
        # All are read first: a statement under way would keep the database open behind its `close`.
        rows = self._connection.execute("SELECT * FROM message ORDER BY number").fetchall()
        try:
            return [
                MessageRow(
                    number, MessageRef(self._account, MessageSid.parse(sid)), sender, recipient, body,
                    Direction(direction), date_created, service,
                )
                for number, sid, sender, recipient, body, direction, date_created, service in rows
            ]  # fmt: skip
        except (ValueError, IdentifierError) as error:
            raise unusable("holds a damaged database") from error

    def media(self) -> list[MediaRow]:
        """Every media, oldest first. Raises `SettingsError` where a row is none of ours."""
        rows = self._connection.execute("SELECT * FROM media ORDER BY number").fetchall()
        try:
            return [MediaRow(number, message, MediaSid.parse(sid), *rest) for number, message, sid, *rest in rows]
        except IdentifierError as error:
            raise unusable("holds a damaged database") from error

    def delete_message(self, number: int) -> bool:
        """Remove a message and its media; whether it was there."""
        return self._connection.execute("DELETE FROM message WHERE number = ?", (number,)).rowcount == 1

    def delete_media(self, number: int) -> bool:
        """Remove one media; whether it was there."""
        return self._connection.execute("DELETE FROM media WHERE number = ?", (number,)).rowcount == 1

    # --- fetched files ------------------------------------------------------------------------------------------

    def fetched(self, url: str) -> FetchedRow | None:
        """What was fetched from there."""
        row = self._connection.execute("SELECT metadata, sha256, size FROM fetched WHERE url = ?", (url,)).fetchone()
        return None if row is None else FetchedRow(*row)

    def put_fetched(self, url: str, row: FetchedRow) -> None:
        """Keep a fetched file, in place of an older one, as the one used last."""
        self._connection.execute(
            "INSERT OR REPLACE INTO fetched VALUES (?, ?, ?, ?, (SELECT coalesce(max(used), 0) + 1 FROM fetched))",
            (url, row.metadata, row.sha256, row.size),
        )

    def touch_fetched(self, url: str) -> None:
        """A fetched file is now the one used last."""
        self._connection.execute("UPDATE fetched SET used = (SELECT max(used) + 1 FROM fetched) WHERE url = ?", (url,))

    def delete_fetched(self, url: str) -> None:
        """Forget a fetched file."""
        self._connection.execute("DELETE FROM fetched WHERE url = ?", (url,))

    def least_used(self) -> Iterator[tuple[str, FetchedRow]]:
        """Every fetched file, the one used longest ago first."""
        rows = self._connection.execute("SELECT url, metadata, sha256, size FROM fetched ORDER BY used").fetchall()
        return ((url, FetchedRow(*row)) for url, *row in rows)

    def is_named(self, sha256: str) -> bool:
        """Whether a media or a fetched file has that body."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM media WHERE sha256 = :name)"
            " OR EXISTS (SELECT 1 FROM fetched WHERE sha256 = :name)"
        )
        (named,) = self._connection.execute(query, {"name": sha256}).fetchone()
        return bool(named)

    def names(self) -> set[str]:
        """The body of every media and every fetched file."""
        return {
            name for (name,) in self._connection.execute("SELECT sha256 FROM media UNION SELECT sha256 FROM fetched")
        }
