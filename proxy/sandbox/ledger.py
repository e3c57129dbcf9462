"""The record on disk: rows in SQLite, bodies in files, and the order in which the two stay true.

A body is written before the row that names it is committed, and removed after its last row is gone. A kill at any point
so leaves every media its bytes, and the next start removes the files that no row names. SQLite runs in WAL mode, in
which a kill of the process loses no commit; a power cut may lose the last ones.

Every call blocks for a moment and belongs on the storage's own thread.
"""

from __future__ import annotations

import hmac
import logging
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from proxy.errors import IdentifierError, StoreError
from proxy.model import AccountSid, MediaSid, MessageRef, MessageSid, Provider
from proxy.sandbox.folder import MessageFolder, unusable
from proxy.sandbox.messages import Attachment, Direction, Draft, Media, Message

_log = logging.getLogger("media_gateway.sandbox")

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
PRAGMA user_version = 1;
COMMIT;
"""


class Ledger:
    """The messages of one account in one folder, from `open` to `close`.

    Identifiers follow from the account and the order of adding alone, and are never given again. Methods raise
    `StoreError` if the disk fails.
    """

    def __init__(self, account: AccountSid, folder: Path | None) -> None:
        self._account = account
        self._folder = MessageFolder(folder)
        self._connection: sqlite3.Connection | None = None

    def open(self) -> list[Message]:
        """Return every message, oldest first. Raises `SettingsError` if the folder cannot be used."""
        with _translated(), ExitStack() as undone:
            undone.callback(self.close)
            self._folder.open()
            try:
                self._adopt()
                messages = self._messages()
                bodies = {sha256 for (sha256,) in self._db.execute("SELECT sha256 FROM media")}
            # A text of a damaged database, or a message of SQLite that quotes it, may not be UTF-8.
            except (sqlite3.Error, ValueError, LookupError, IdentifierError) as error:
                # The statements are fixed, so SQLITE_ERROR means other tables.
                code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
                if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
                    raise unusable(f"holds a database in trouble: {error}") from error
                raise unusable("holds a damaged database, or one that is not a sandbox's") from error
            self._folder.sweep(bodies)
            undone.pop_all()
        return messages

    def close(self) -> None:
        """Close the database and give the folder back; a temporary one is removed."""
        connection, self._connection = self._connection, None
        with _translated():
            try:
                if connection is not None:
                    connection.close()
            finally:
                self._folder.close()

    def has_samples(self) -> bool:
        """Return whether the sample conversation was ever added to this folder."""
        with _translated():
            (added,) = self._db.execute("SELECT has_samples FROM sandbox").fetchone()
            return bool(added)

    def add(self, drafts: Sequence[Draft], *, samples: bool = False) -> list[Message]:
        """Store messages with their media and give them their identifiers: all of them, or none.

        `samples` notes that these are the sample conversation, which is added once.
        """
        written: list[str] = []
        with _translated():
            try:
                bodies = [[self._write(attachment, written) for attachment in draft.media] for draft in drafts]
                with self._transaction():
                    if samples:
                        self._db.execute("UPDATE sandbox SET has_samples = 1")
                    return [self._insert(draft, each) for draft, each in zip(drafts, bodies, strict=True)]
            except BaseException:
                self._drop(written)
                raise

    def delete_message(self, message: Message) -> bool:
        """Delete a message with its media; return whether it was there."""
        deleted = self._delete("DELETE FROM message WHERE number = ?", message.number)
        self._drop([media.sha256 for media in message.media])
        return deleted

    def delete_media(self, media: Media) -> bool:
        """Delete a media; return whether it was there."""
        deleted = self._delete("DELETE FROM media WHERE number = ?", media.number)
        self._drop([media.sha256])
        return deleted

    # --- the parts ----------------------------------------------------------------------------------------------

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None, "the ledger is used while it is open"
        return self._connection

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit all statements within, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            yield

    def _adopt(self) -> None:
        """Open the database, and make its tables if there are none."""
        db = self._connection = sqlite3.connect(
            self._folder.database, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
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

    def _messages(self) -> list[Message]:
        # All rows are read first: a statement under way would keep the database open after its `close`.
        rows = self._db.execute("SELECT * FROM message ORDER BY number").fetchall()
        refs = {number: MessageRef(self._account, MessageSid.parse(sid)) for number, sid, *_ in rows}
        media: dict[int, list[Media]] = {number: [] for number in refs}
        for number, message, sid, key, content_type, name, sha256, size, date_created in self._db.execute(
            "SELECT * FROM media ORDER BY number"
        ).fetchall():
            if self._folder.has(sha256, size):
                ref, path = refs[message].media(MediaSid.parse(sid)), self._folder.body(sha256)
                media[message].append(Media(ref, number, key, content_type, name, path, size, sha256, date_created))
            else:
                _log.warning("The file of media %s is gone, and so is the media", sid)
                self._db.execute("DELETE FROM media WHERE number = ?", (number,))
        return [
            Message(
                refs[number], number, sender, recipient, body, Direction(direction), date_created,
                tuple(media[number]), service,
            )
            for number, _, sender, recipient, body, direction, date_created, service in rows
        ]  # fmt: skip

    def _insert(self, draft: Draft, bodies: Sequence[str]) -> Message:
        (last,) = self._db.execute("SELECT last_number FROM sandbox").fetchone()
        number = last + 1
        # A message that came or answers with media is MM; one that the API creates may be SM and have media.
        prefix = "MM" if draft.media and draft.direction is not Direction.OUTBOUND_API else "SM"
        ref = MessageRef(self._account, MessageSid.parse(self._name(prefix, number)))
        media = tuple(
            Media(
                ref.media(MediaSid.parse(self._name("ME", place))), place, self._digits("key", place),
                attachment.content_type, attachment.name, self._folder.body(sha256), len(attachment.octets), sha256,
                draft.date_created,
            )
            for place, (attachment, sha256) in enumerate(zip(draft.media, bodies, strict=True), number + 1)
        )  # fmt: skip
        message = Message(
            ref, number, draft.from_, draft.to, draft.body, draft.direction, draft.date_created, media,
            draft.messaging_service_sid,
        )  # fmt: skip
        self._db.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                number, message.sid, message.from_, message.to, message.body, message.direction.value,
                message.date_created, message.messaging_service_sid,
            ),
        )  # fmt: skip
        self._db.executemany(
            "INSERT INTO media VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    one.number, number, one.sid, one.key, one.content_type, one.name, one.sha256, one.length,
                    one.date_created,
                )
                for one in media
            ],
        )  # fmt: skip
        self._db.execute("UPDATE sandbox SET last_number = ?", (number + len(media),))
        return message

    def _delete(self, statement: str, number: int) -> bool:
        with _translated():
            return self._db.execute(statement, (number,)).rowcount == 1

    def _write(self, attachment: Attachment, written: list[str]) -> str:
        sha256, new = self._folder.write(attachment.octets)
        if new:
            written.append(sha256)
        return sha256

    def _drop(self, bodies: Sequence[str]) -> None:
        """Remove the bodies that no media has any more."""
        with _translated():
            for sha256 in bodies:
                if self._db.execute("SELECT 1 FROM media WHERE sha256 = ?", (sha256,)).fetchone() is None:
                    self._folder.remove(sha256)

    def _digits(self, noun: str, number: int) -> str:
        return hmac.digest(self._account.value.encode(), f"{noun}/{number}".encode(), "sha256").hex()[:32]

    def _name(self, prefix: str, number: int) -> str:
        digits = self._digits(prefix, number)
        return prefix + digits if self._account.provider is Provider.TWILIO else str(uuid.UUID(digits, version=4))


@contextmanager
def _translated() -> Iterator[None]:
    """Turn an error of the disk into a `StoreError`, whose note has no path."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(note=f"the sandbox's database failed: {type(error).__name__}") from error
    except OSError as error:
        raise StoreError(note=f"the sandbox's folder failed: {error.strerror or type(error).__name__}") from error
