"""The messages of one account: a view in memory that answers at once, kept on disk by a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from proxy.errors import StoreError
from proxy.model import AccountSid, MediaRef, MessageRef
from proxy.sandbox.ledger import Ledger
from proxy.sandbox.messages import Draft, Media, Message

T = TypeVar("T")

_MESSAGE_LIMIT: Final = 100_000
_STEP: Final = 262_144


@dataclass(frozen=True, slots=True)
class MediaFile:
    """The octets of a media, readable in parts."""

    length: int
    _descriptor: int
    _thread: ThreadPoolExecutor

    async def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` octets from `offset` on, and at least one. Raises `StoreError`.

        Behind its end the file begins again, as `Oversize` needs; an empty one is zeros.
        """
        place, size = offset % max(self.length, 1), min(size, _STEP)
        if place + size <= self.length:
            return await self._read(place, size)
        if self.length >= _STEP:
            return await self._read(place, self.length - place)
        unit = await self._read(0, self.length) if self.length else b"\0"
        return (unit * ((place + size) // len(unit) + 1))[place : place + size]

    async def _read(self, place: int, size: int) -> bytes:
        block = bytearray(size)
        try:
            # The system mostly has the octets in RAM, and a thread would cost more than the copy.
            count = os.preadv(self._descriptor, [block], place, os.RWF_NOWAIT)
        except OSError:
            count = await self._wait_for_disk(block, place)
        if count == 0:
            raise StoreError(note="the file of a media is shorter than it was")
        return bytes(memoryview(block)[:count])

    async def _wait_for_disk(self, block: bytearray, place: int) -> int:
        try:
            return await asyncio.wrap_future(self._thread.submit(os.preadv, self._descriptor, [block], place))
        except OSError as error:
            raise StoreError(note=f"the file of a media cannot be read: {error.strerror}") from error


class Storage:
    """The messages from `open` to `close`, at most 100,000. Nothing here blocks the loop.

    Reads are of the view in memory. A change is on disk first, runs to its end once it has begun, and is in view
    when its call returns. Changes raise `StoreError` if the disk fails; then nothing has changed.
    """

    def __init__(self, account: AccountSid, folder: Path | None) -> None:
        """Keep `folder`; with None there is a temporary one."""
        self.account = account
        self._ledger = Ledger(account, folder)
        self._thread: ThreadPoolExecutor | None = None
        self._messages: dict[MessageRef, Message] = {}
        self._by_key: dict[str, Media] = {}

    async def open(self) -> None:
        """Read what the folder holds. Raises `SettingsError` if it cannot be used."""
        self._messages.clear()
        self._by_key.clear()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="media-gateway-sandbox")
        await self._change(self._ledger.open, self._show)

    async def close(self) -> None:
        """Give the folder back, if `open` ran."""
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                await asyncio.wrap_future(thread.submit(self._ledger.close))
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
        """Return the media that the CDN knows by that key."""
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
        """Delete a message from the API and its media from the CDN; return whether it was there."""
        message = self.message(ref)
        return message is not None and await self._change(
            partial(self._ledger.delete_message, message), lambda _: self._hide(ref)
        )

    async def delete_media(self, ref: MediaRef) -> bool:
        """Delete a media from the API and the CDN; return whether it was there."""
        media = self.media(ref)
        return media is not None and await self._change(
            partial(self._ledger.delete_media, media), lambda _: self._hide_media(media)
        )

    @contextlib.asynccontextmanager
    async def reading(self, media: Media) -> AsyncIterator[MediaFile]:
        """Open the octets of a media; they stay readable while it is deleted. Raises `StoreError`."""
        thread = self._running
        opening = thread.submit(_open, media)
        try:
            yield MediaFile(media.length, await asyncio.wrap_future(opening), thread)
        finally:
            # Behind the calls of the same thread, so that none that was cancelled meets another file of that number.
            try:
                thread.submit(_close, opening)
            except RuntimeError:
                _close(opening)

    @property
    def _running(self) -> ThreadPoolExecutor:
        if self._thread is None:
            raise StoreError(note="the sandbox is not running")
        return self._thread

    async def _change(self, call: Callable[[], T], show: Callable[[T], None]) -> T:
        """Change the disk and then the view, even if the caller is cancelled meanwhile."""

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


def _open(media: Media) -> int:
    with contextlib.suppress(OSError):
        descriptor = os.open(media.path, os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(descriptor).st_size == media.length:
            return descriptor
        os.close(descriptor)
    raise StoreError(note="the file of a media is gone")


def _close(opening: Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())
