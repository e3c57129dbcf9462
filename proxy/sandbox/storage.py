"""The messages of one account: a view in memory that answers at once, kept on disk by a thread of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from proxy.cache.disk.files import BodyFile, on, on_or_undo, open_whole
from proxy.errors import StoreError
from proxy.model import AccountSid, MediaRef, MessageRef
from proxy.sandbox.ledger import Fetched, Ledger
from proxy.sandbox.messages import Draft, Media, Message

T = TypeVar("T")

_MESSAGE_LIMIT: Final = 100_000


class Storage:
    """From `open` to `close`; nothing here blocks the loop. At most 100,000 messages.

    What is read is the view in memory. A change is on disk first, runs to its end once it has begun, and is in view
    when its call returns. Changes raise `StoreError` where the disk fails; then nothing has changed.
    """

    def __init__(self, account: AccountSid, folder: Path | None) -> None:
        """`folder` is kept; with None there is a temporary one."""
        self.account = account
        self._ledger = Ledger(account, folder)
        self._thread: ThreadPoolExecutor | None = None
        self._messages: dict[MessageRef, Message] = {}
        self._by_key: dict[str, Media] = {}

    async def open(self) -> None:
        """Read what the folder holds. Raises `SettingsError` where it cannot be used."""
        self._messages.clear()
        self._by_key.clear()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="media-gateway-sandbox")
        await self._change(self._ledger.open, self._show)

    async def close(self) -> None:
        """Give the folder back; nothing where `open` never ran."""
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                await on(thread, self._ledger.close)
            finally:
                await asyncio.to_thread(thread.shutdown)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages.values())

    def message(self, ref: MessageRef) -> Message | None:
        return self._messages.get(ref)

    def media(self, ref: MediaRef) -> Media | None:
        message = self._messages.get(ref.parent)
        return next((media for media in message.media if media.ref == ref), None) if message else None

    def media_by_key(self, key: str) -> Media | None:
        """The media that the CDN knows by that key."""
        return self._by_key.get(key)

    async def add(self, draft: Draft) -> Message:
        """Store a message with its media, and give it its identifiers."""
        if len(self._messages) >= _MESSAGE_LIMIT:
            raise StoreError(note=f"there are {_MESSAGE_LIMIT} messages already")
        (message,) = await self._change(partial(self._ledger.add, (draft,)), self._show)
        return message

    async def add_samples(self, make: Callable[[], Sequence[Draft]]) -> None:
        """Add the sample conversation, unless this folder has had it."""

        def add() -> list[Message]:
            return [] if self._ledger.has_samples() else self._ledger.add(make(), samples=True)

        await self._change(add, self._show)

    async def delete_message(self, ref: MessageRef) -> bool:
        """Whether there was such a message; it is gone from the API, and its media from the CDN."""
        message = self.message(ref)
        return message is not None and await self._change(
            partial(self._ledger.delete_message, message), lambda _: self._hide(ref)
        )

    async def delete_media(self, ref: MediaRef) -> bool:
        """Whether there was such a media; it is gone from the API and the CDN."""
        media = self.media(ref)
        return media is not None and await self._change(
            partial(self._ledger.delete_media, media), lambda _: self._hide_media(media)
        )

    @asynccontextmanager
    async def reading(self, media: Media) -> AsyncIterator[BodyFile]:
        """The octets of a media, readable in parts; they stay readable while it is deleted. Raises `StoreError`."""
        thread, body = self._running, media.body
        descriptor = await on_or_undo(thread, partial(open_whole, body.path, body.size), _close)
        if descriptor is None:
            raise StoreError(note="the file of a media is gone")
        file = BodyFile(descriptor, thread, body.path)
        try:
            yield file
        finally:
            await file.close()

    async def recall(self, url: str) -> Fetched | None:
        """What was fetched from there and is kept."""
        return await on(self._running, self._ledger.recall, url)

    async def remember(self, url: str, fetched: Fetched) -> None:
        """Keep a fetched file; only so many are."""
        await on(self._running, self._ledger.remember, url, fetched)

    async def forget(self, url: str) -> None:
        """Keep nothing of what was fetched from there."""
        await on(self._running, self._ledger.forget, url)

    @property
    def _running(self) -> ThreadPoolExecutor:
        if self._thread is None:
            raise StoreError(note="the sandbox is not running")
        return self._thread

    async def _change(self, call: Callable[[], T], show: Callable[[T], None]) -> T:
        """Change the disk and then the view, also where the caller is cancelled meanwhile."""

        def settle(done: asyncio.Future[T]) -> None:
            if not done.cancelled() and done.exception() is None:
                show(done.result())

        changing = asyncio.wrap_future(self._running.submit(call))
        changing.add_done_callback(settle)
        return await asyncio.shield(changing)

    def _show(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._messages[message.ref] = message
            self._by_key.update((media.key, media) for media in message.media)

    def _hide(self, ref: MessageRef) -> None:
        message = self._messages.pop(ref, None)
        for media in message.media if message else ():
            self._by_key.pop(media.key, None)

    def _hide_media(self, media: Media) -> None:
        self._by_key.pop(media.key, None)
        message = self._messages.get(media.ref.parent)
        if message is not None:
            left = tuple(other for other in message.media if other.ref != media.ref)
            self._messages[message.ref] = dataclasses.replace(message, media=left)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
