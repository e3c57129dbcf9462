"""What a sandbox keeps on disk: rows in a database, bodies in files, and the order that keeps the two true.

A body is written before the row that names it is committed, and removed after its last row is gone. So a kill at any
point leaves no media without its bytes, and what it leaves of nameless files the next start removes.

Every call blocks for a moment and belongs on the storage's own thread.
"""

from __future__ import annotations

import hmac
import logging
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.cache.disk.corruption import is_damage
from proxy.errors import StoreError
from proxy.model import AccountSid, MediaRef, MediaSid, MessageRef, MessageSid, Provider
from proxy.sandbox.database import Database, FetchedRow, MediaRow, MessageRow
from proxy.sandbox.folder import Folder, unusable
from proxy.sandbox.messages import Attachment, Direction, Draft, Media, Message, StoredBody

_log = logging.getLogger("media_gateway.sandbox")

_FETCHED_LIMIT: Final = 100
_FETCHED_BYTES: Final = 100 * 2**20


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetched file: what is known of its answer, encoded, and the octets."""

    metadata: bytes
    octets: bytes


class Ledger:
    """The messages of one account in one folder, from `open` to `close`.

    Identifiers follow from the account and the order of adding alone; none is given twice. Methods raise `StoreError`
    where the disk fails.
    """

    def __init__(self, account: AccountSid, folder: Path | None) -> None:
        self._account = account
        self._folder = Folder(folder)
        self._database = Database(account)

    def open(self) -> list[Message]:
        """Every message, oldest first. Raises `SettingsError` where the folder cannot be used."""
        with _translated(), ExitStack() as undone:
            undone.callback(self.close)
            self._folder.open()
            try:
                self._database.open(self._folder.database)
                messages = self._load()
                names = self._database.names()
            # A message of SQLite that quotes the damage may be no text.
            except (sqlite3.Error, UnicodeError) as error:
                damage = "holds a damaged database, or one that is no sandbox's"
                raise unusable(damage if is_damage(error) else f"holds a database in trouble: {error}") from error
            self._folder.sweep(names)
            undone.pop_all()
        return messages

    def close(self) -> None:
        """Close the database and give the folder back; a temporary one is removed."""
        with _translated():
            try:
                self._database.close()
            finally:
                self._folder.close()

    def has_samples(self) -> bool:
        """Whether the sample conversation was added to this folder once."""
        with _translated():
            return self._database.has_samples()

    def add(self, drafts: Sequence[Draft], *, samples: bool = False) -> list[Message]:
        """Store messages with their media and give them their identifiers: all of them, or none.

        `samples`: these are the sample conversation, which is added once.
        """
        written: list[StoredBody] = []
        with _translated():
            try:
                bodies = [[self._write(attachment, written) for attachment in draft.media] for draft in drafts]
                with self._database.transaction():
                    if samples:
                        self._database.note_samples()
                    return [self._insert(draft, each) for draft, each in zip(drafts, bodies, strict=True)]
            except BaseException:
                self._drop(written)
                raise

    def delete_message(self, message: Message) -> bool:
        """Whether it was there; its media go with it."""
        with _translated():
            with self._database.transaction():
                there = self._database.delete_message(message.number)
            self._drop(media.body for media in message.media)
        return there

    def delete_media(self, media: Media) -> bool:
        """Whether it was there."""
        with _translated():
            with self._database.transaction():
                there = self._database.delete_media(media.number)
            self._drop([media.body])
        return there

    # --- fetched files ------------------------------------------------------------------------------------------

    def recall(self, url: str) -> Fetched | None:
        """What was fetched from there and is kept."""
        with _translated():
            row = self._database.fetched(url)
            if row is None:
                return None
            body = self._body(row)
            if not self._folder.has(body):
                return None
            self._database.touch_fetched(url)
            return Fetched(row.metadata, body.read())

    def remember(self, url: str, fetched: Fetched) -> None:
        """Keep a fetched file, and forget those used longest ago where they are too many or too large."""
        with _translated():
            body, _ = self._folder.write(fetched.octets)
            dropped = [self._body(row) for row in [self._database.fetched(url)] if row is not None]
            with self._database.transaction():
                self._database.put_fetched(url, FetchedRow(fetched.metadata, body.sha256, body.size))
                rows = list(self._database.least_used())
                count, total = len(rows), sum(row.size for _, row in rows)
                for oldest, row in rows:
                    if count <= _FETCHED_LIMIT and total <= _FETCHED_BYTES:
                        break
                    self._database.delete_fetched(oldest)
                    dropped.append(self._body(row))
                    count, total = count - 1, total - row.size
            self._drop(dropped)

    def forget(self, url: str) -> None:
        """Keep nothing of what was fetched from there."""
        with _translated():
            row = self._database.fetched(url)
            if row is not None:
                with self._database.transaction():
                    self._database.delete_fetched(url)
                self._drop([self._body(row)])

    # --- the parts ----------------------------------------------------------------------------------------------

    def _load(self) -> list[Message]:
        media: dict[int, list[MediaRow]] = {}
        for row in self._database.media():
            if self._folder.has(self._folder.body(row.sha256, row.size)):
                media.setdefault(row.message, []).append(row)
                continue
            _log.warning("The file of media %s is gone, and so is the media", row.sid)
            with self._database.transaction():
                self._database.delete_media(row.number)
        return [self._message(row, media.get(row.number, ())) for row in self._database.messages()]

    def _write(self, attachment: Attachment, written: list[StoredBody]) -> StoredBody:
        body, new = self._folder.write(attachment.octets)
        if new:
            written.append(body)
        return body

    def _drop(self, bodies: Iterable[StoredBody]) -> None:
        for body in bodies:
            if not self._database.is_named(body.sha256):
                self._folder.remove(body)

    def _insert(self, draft: Draft, bodies: Sequence[StoredBody]) -> Message:
        number = self._database.last_number() + 1
        # A message that came or answers with media is MM; one that the API creates may be SM and have media.
        prefix = "MM" if draft.media and draft.direction is not Direction.OUTBOUND_API else "SM"
        message = MessageRow(
            number, MessageRef(self._account, MessageSid.parse(self._name(prefix, number))), draft.from_, draft.to,
            draft.body, draft.direction, draft.date_created, draft.messaging_service_sid,
        )  # fmt: skip
        media = [
            MediaRow(
                place, number, MediaSid.parse(self._name("ME", place)), self._digits("key", place),
                attachment.content_type, attachment.name, body.sha256, body.size, draft.date_created,
            )
            for place, (attachment, body) in enumerate(zip(draft.media, bodies, strict=True), number + 1)
        ]  # fmt: skip
        self._database.insert(message, media)
        return self._message(message, media)

    def _message(self, row: MessageRow, media: Iterable[MediaRow]) -> Message:
        return Message(
            row.ref, row.number, row.from_, row.to, row.body, row.direction, row.date_created,
            tuple(self._media(row.ref, one) for one in media), row.messaging_service_sid,
        )  # fmt: skip

    def _media(self, parent: MessageRef, row: MediaRow) -> Media:
        ref = MediaRef(parent.account, parent.message, row.sid)
        body = self._folder.body(row.sha256, row.size)
        return Media(ref, row.number, row.key, row.content_type, row.name, body, row.date_created)

    def _body(self, row: FetchedRow) -> StoredBody:
        return self._folder.body(row.sha256, row.size)

    def _digits(self, noun: str, number: int) -> str:
        return hmac.digest(self._account.value.encode(), f"{noun}/{number}".encode(), "sha256").hex()[:32]

    def _name(self, prefix: str, number: int) -> str:
        digits = self._digits(prefix, number)
        return prefix + digits if self._account.provider is Provider.TWILIO else str(uuid.UUID(digits, version=4))


@contextmanager
def _translated() -> Iterator[None]:
    """An error of the disk becomes a `StoreError`; its note has no path."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(note=f"the sandbox's database failed: {type(error).__name__}") from error
    except OSError as error:
        raise StoreError(note=f"the sandbox's folder failed: {error.strerror or type(error).__name__}") from error
