"""Files of bodies and the threads that touch them: nothing here blocks the loop, and no cancellation leaks a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from proxy.cache.checksum import Checksum
from proxy.errors import StoreError

_VECTORS: Final = 64
"""Blocks that one call writes; the system takes 1,024 at the most."""

P = ParamSpec("P")
T = TypeVar("T")


async def on(threads: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call on threads; it runs to its end even if the caller is cancelled.

    A system error, and threads that have stopped, become a `StoreError`.
    """
    return await _awaited(_submit(threads, call, *args, **kwargs))


async def on_or_undo(threads: ThreadPoolExecutor, call: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Run a blocking call on threads; where the caller is cancelled, what the call made is undone there too."""
    running = _submit(threads, call)
    try:
        return await _awaited(running)
    except asyncio.CancelledError:
        try:
            # Queued behind `running`, so that it never waits for a thread that it holds itself.
            threads.submit(_undo, running, undo)
        except RuntimeError:
            # The threads take nothing more, and still end what they have.
            running.add_done_callback(partial(_undo, undo=undo))
        raise


def _undo(running: Future[T], undo: Callable[[T], object]) -> None:
    if running.exception() is None:
        with contextlib.suppress(OSError):
            undo(running.result())


def _nothing() -> None:
    """What is to be done at the end of most calls."""


def _awaited(running: Future[T], ended: Callable[[], None] = _nothing) -> asyncio.Future[T]:
    """What comes of a call, for this loop alone: whoever waits may be cancelled, and the call goes on.

    `ended` is called on the loop when the call is over, whether anybody still waits or not.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[T] = loop.create_future()

    # Neither holds on to the call, which holds on to them: what it gave would stay until the next garbage collection.
    def settle(over: Future[T]) -> None:
        ended()
        if waiter.done():
            # A cancelled caller leaves nobody whom the failure of its call concerns.
            return
        if (error := over.exception()) is None:
            waiter.set_result(over.result())
        else:
            waiter.set_exception(error)

    def tell(over: Future[T]) -> None:
        # A loop that has ended by now is not told.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, over)

    running.add_done_callback(tell)
    return waiter


def _submit(threads: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    def run() -> T:
        with translated():
            return call(*args, **kwargs)

    try:
        return threads.submit(run)
    except RuntimeError as error:
        raise StoreError(note="the disk tier is closed") from error


@contextmanager
def translated() -> Iterator[None]:
    """A system error becomes a `StoreError`; its note has no path."""
    try:
        yield
    except OSError as error:
        raise StoreError(note=f"the disk tier failed: {error.strerror or type(error).__name__}") from error


@dataclass(slots=True)
class BodyCheck:
    """Whether a body is known not to be what was stored; `ended` is set when no check is under way."""

    damaged: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def sound(cls) -> BodyCheck:
        """That of a body that needs no check."""
        check = cls()
        check.ended.set()
        return check


class BodyFile:
    """An open file of bytes, complete or growing; reads and writes run on the tier's threads."""

    def __init__(
        self, descriptor: int, threads: ThreadPoolExecutor, path: Path, check: BodyCheck | None = None
    ) -> None:
        self._descriptor = descriptor
        self._threads = threads
        self.path = path
        self._check = check or BodyCheck.sound()
        # A cancelled call goes on in its thread. The descriptor stays open until the last one has ended, since its
        # number would else name another file.
        self._calls = 0
        self._closed = False

    async def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer where the file ends. Raises `StoreError`."""
        # Mostly the system has them in RAM: a thread would cost more than the copy.
        block = None if self._closed else _read_warm(self._descriptor, offset, size)
        if block is None:
            block = await self._call(os.pread, size, offset)
        if self._check.damaged:
            raise StoreError(note="a stored body is damaged")
        return block

    @property
    def descriptor(self) -> int:
        """The open file, for as long as this is not closed."""
        return self._descriptor

    def is_warm(self, offset: int, size: int) -> bool:
        """Whether these bytes are in the system's page cache, as far as its ends tell."""
        return _is_warm(self._descriptor, offset) and _is_warm(self._descriptor, offset + size - 1)

    async def warm(self, offset: int, size: int) -> None:
        """Have these bytes in the system's page cache. Raises `StoreError`."""
        if not self.is_warm(offset, size):
            await self._call(os.pread, size, offset)

    @property
    def damaged(self) -> bool | None:
        """Whether the body is known not to be what was stored; None while that is being checked."""
        return self._check.damaged if self._check.ended.is_set() else None

    async def checked(self) -> None:
        """Wait until the body is known to be sound. Raises `StoreError` where it is not."""
        await self._check.ended.wait()
        if self._check.damaged:
            raise StoreError(note="a stored body is damaged")

    async def write(self, blocks: Sequence[bytes], offset: int, checksum: Checksum) -> None:
        """Write whole blocks one after the other from `offset` and count them into `checksum`. Raises `StoreError`."""

        def write(descriptor: int) -> None:
            for block in blocks:
                checksum.update(block)
            write_all(descriptor, blocks, offset)

        await self._call(write)

    async def close(self) -> None:
        """Give the descriptor back, after the calls that are under way; the file stays."""
        closing = self.give_back()
        if closing is not None:
            await _awaited(closing)

    def release(self) -> None:
        """The same without waiting."""
        self.give_back()

    def give_back(self) -> Future[None] | None:
        """Close; what is returned ends with it, None where that is over or comes after the last call."""
        if self._closed:
            return None
        self._closed = True
        return self._give_back() if self._calls == 0 else None

    async def _call(self, call: Callable[Concatenate[int, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise StoreError(note="the file of a body is closed")
        running = _submit(self._threads, call, self._descriptor, *args, **kwargs)
        self._calls += 1
        return await _awaited(running, self._ended)

    def _ended(self) -> None:
        self._calls -= 1
        if self._closed and self._calls == 0:
            self._give_back()

    def _give_back(self) -> Future[None] | None:
        try:
            return self._threads.submit(os.close, self._descriptor)
        except RuntimeError:
            # A reader that outlived the tier: no thread is left to do it.
            os.close(self._descriptor)
            return None


def _read_warm(descriptor: int, offset: int, size: int) -> bytes | None:
    """Bytes that the system's page cache has; None where that takes the disk, or the file system cannot say."""
    block = bytearray(size)
    try:
        count = os.preadv(descriptor, [block], offset, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(memoryview(block)[:count]) if count else None


def _is_warm(descriptor: int, offset: int) -> bool:
    """Whether a byte can be read without waiting for the disk; where the file system cannot say, it can."""
    try:
        os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


# --- blocking: on a thread of the tier ------------------------------------------------------------------------


class Opener(Protocol):
    """Opens a file as `os.open` does; that of a `Folder` follows no link."""

    def __call__(self, path: Path, flags: int, mode: int = ..., /) -> int: ...


def open_new(path: Path, opener: Opener = os.open) -> int:
    """A new file, readable and writable by its owner alone."""
    return opener(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def open_whole(path: Path, length: int, opener: Opener = os.open) -> int | None:
    """An existing file; None where it is missing or of another length."""
    try:
        descriptor = opener(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    if os.fstat(descriptor).st_size == length:
        return descriptor
    os.close(descriptor)
    return None


def read_all(descriptor: int, length: int) -> bytes:
    """Return so many bytes from the beginning of a file; fewer if it has been cut."""
    content = bytearray()
    while len(content) < length and (block := os.pread(descriptor, length - len(content), len(content))):
        content += block
    return bytes(content)


def write_all(descriptor: int, blocks: Sequence[bytes], offset: int) -> None:
    """Write every byte of the blocks, one block behind the other."""
    views = [memoryview(block) for block in blocks if block]
    while views:
        written = os.pwritev(descriptor, views[:_VECTORS], offset)
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def write_new(path: Path, content: bytes, opener: Opener = os.open) -> None:
    """A new file with that content; none where it cannot be written."""
    descriptor = open_new(path, opener)
    try:
        write_all(descriptor, [content], 0)
    except OSError:
        unlink_quietly(path)
        raise
    finally:
        os.close(descriptor)


def body_path(folder: Path, generation: str) -> Path:
    """Return where the bytes of a stored response lie below a cache folder."""
    return folder / "bodies" / generation[:2] / generation


def unlink_quietly(path: Path) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
