"""Files of bodies: open ones, which the tier's threads read and write, and the blocking calls on them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from proxy.cache.checksum import Checksum
from proxy.cache.disk.threads import awaited, submit
from proxy.errors import StoreError

_VECTORS: Final = 64
"""Blocks that one call writes; the system takes at most 1,024."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class BodyCheck:
    """The check of one body: `damaged` if it is not what was stored, `ended` once no check of it is under way."""

    damaged: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def sound(cls) -> BodyCheck:
        """Return the check of a body that needs none."""
        check = cls()
        check.ended.set()
        return check


class BodyFile:
    """The open file of a body, complete or growing; reads and writes run on the tier's threads."""

    def __init__(
        self, descriptor: int, threads: ThreadPoolExecutor, path: Path, check: BodyCheck | None = None
    ) -> None:
        self._descriptor = descriptor
        self._threads = threads
        self.path = path
        self._check = check or BodyCheck.sound()
        # A cancelled call goes on in its thread. The descriptor stays open until the last call has ended, since its
        # number would name another file otherwise.
        self._calls = 0
        self._closed = False

    async def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; fewer at the end of the file. Raises `StoreError`."""
        # The page cache mostly has them: a thread would cost more than the copy.
        block = None if self._closed else _read_warm(self._descriptor, offset, size)
        if block is None:
            block = await self._call(os.pread, size, offset)
        if self._check.damaged:
            raise StoreError(note="a stored body is damaged")
        return block

    @property
    def descriptor(self) -> int:
        """Return the descriptor, which is valid until this is closed."""
        return self._descriptor

    def is_warm(self, offset: int, size: int) -> bool:
        """Return whether the first and the last of these bytes are in the page cache, and so probably all of them."""
        return _is_warm(self._descriptor, offset) and _is_warm(self._descriptor, offset + size - 1)

    async def warm(self, offset: int, size: int) -> None:
        """Read these bytes into the page cache if they are not there. Raises `StoreError`."""
        if not self.is_warm(offset, size):
            await self._call(os.pread, size, offset)

    @property
    def damaged(self) -> bool | None:
        """Return whether the body is not what was stored; None while that is being checked."""
        return self._check.damaged if self._check.ended.is_set() else None

    async def checked(self) -> None:
        """Wait until the body is known to be sound. Raises `StoreError` if it is not."""
        await self._check.ended.wait()
        if self._check.damaged:
            raise StoreError(note="a stored body is damaged")

    async def write(self, blocks: Sequence[bytes], offset: int, checksum: Checksum) -> None:
        """Write whole blocks from `offset` on, and count them into `checksum`. Raises `StoreError`."""

        def write(descriptor: int) -> None:
            for block in blocks:
                checksum.update(block)
            write_all(descriptor, blocks, offset)

        await self._call(write)

    async def close(self) -> None:
        """Close the descriptor after the calls that are under way; the file stays."""
        closing = self.give_back()
        if closing is not None:
            await awaited(closing)

    def release(self) -> None:
        """Close as `close` does, without waiting for it."""
        self.give_back()

    def give_back(self) -> Future[None] | None:
        """Close, and return the call that does so; None if it was made before, or follows a call that is under way."""
        if self._closed:
            return None
        self._closed = True
        return self._give_back() if self._calls == 0 else None

    async def _call(self, call: Callable[Concatenate[int, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise StoreError(note="the file of a body is closed")
        running = submit(self._threads, call, self._descriptor, *args, **kwargs)
        self._calls += 1
        return await awaited(running, self._ended)

    def _ended(self) -> None:
        self._calls -= 1
        if self._closed and self._calls == 0:
            self._give_back()

    def _give_back(self) -> Future[None] | None:
        try:
            return self._threads.submit(os.close, self._descriptor)
        except RuntimeError:
            # The reader has outlived the tier, so that no thread is left to close it.
            os.close(self._descriptor)
            return None


def _read_warm(descriptor: int, offset: int, size: int) -> bytes | None:
    """Return bytes that the page cache has; None if they are on disk alone, or the file system cannot tell."""
    block = bytearray(size)
    try:
        count = os.preadv(descriptor, [block], offset, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(memoryview(block)[:count]) if count else None


def _is_warm(descriptor: int, offset: int) -> bool:
    """Return whether a byte can be read without the disk; True if the file system cannot tell."""
    try:
        os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


# --- blocking: on a thread of the tier ------------------------------------------------------------------------


def write_all(descriptor: int, blocks: Sequence[bytes], offset: int) -> None:
    """Write every byte of the blocks, in order, from `offset` on."""
    views = [memoryview(block) for block in blocks if block]
    while views:
        written = os.pwritev(descriptor, views[:_VECTORS], offset)
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
