"""The disk tier: one file per stored body, and an index whose row, written last, is what makes it a stored response.

    index.sqlite3       the index
    bodies/ab/abcdef…   the bytes of generation abcdef…
    incoming/RUN/…      fills under way in one process, which holds a lock on incoming/RUN/lock while it lives

Folders are 0700 and files 0600. Everything that blocks runs on threads of the tier's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, Protocol, TypeVar

from proxy.cache.backend import Backend
from proxy.cache.entry import Entry, decode, encode
from proxy.cache.index import Index, Row, Usage
from proxy.errors import StoreError
from proxy.model import Clock

P = ParamSpec("P")
T = TypeVar("T")

_BODY_THREADS: Final = 8
_TOUCHES: Final = 1_000
_TOUCH_SECONDS: Final = 5.0
# A body is renamed just before its row is written, so a young one without a row is left to its writer.
_YOUNG_SECONDS: Final = 60.0


class Checksum(Protocol):
    """A running hash."""

    def update(self, block: bytes, /) -> None: ...


class BodyFile:
    """An open file of bytes, complete or growing; reads and writes run on the tier's threads."""

    def __init__(self, descriptor: int, threads: ThreadPoolExecutor, path: Path) -> None:
        self._descriptor = descriptor
        self._threads = threads
        self.path = path

    async def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer where the file ends. Raises `StoreError`."""
        return await _on(self._threads, os.pread, self._descriptor, size, offset)

    async def write(self, block: bytes, offset: int, checksum: Checksum) -> None:
        """Write the whole block at `offset` and count it into `checksum`. Raises `StoreError`."""
        await _on(self._threads, _write_all, self._descriptor, block, offset, checksum)

    async def close(self) -> None:
        """Give the descriptor back; the file stays."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            await _on(self._threads, os.close, descriptor)


class DiskBackend(Backend[Entry]):
    """The metadata of the disk tier as an aiocache backend over the index."""

    NAME = "media-gateway-disk"

    def __init__(self, index: Index, thread: ThreadPoolExecutor, clock: Clock, discard: Callable[[str], None]) -> None:
        super().__init__()
        self._index = index
        self._thread = thread
        self._clock = clock
        self._discard = discard

    async def _load(self, key: str) -> tuple[Entry, float | None] | None:
        row = await _on(self._thread, self._index.get, key)
        if row is None:
            return None
        entry = decode(row.metadata)
        # What is stored is checked on reading: a row that is not of its own generation and length is no row.
        if entry is None or entry.generation != row.generation or entry.length != row.length:
            await self._drop(key)
            return None
        return entry, row.deadline

    async def _save(self, key: str, value: Entry, deadline: float | None, *, only_new: bool = False) -> bool:
        row = Row(value.generation, value.length, deadline, encode(value))

        def save() -> str | None:
            return self._index.put(key, row, used=self._clock(), only_new=only_new)

        replaced = await _on(self._thread, save)
        if replaced is not None and only_new:
            return False
        if replaced is not None and replaced != value.generation:
            await _on(self._thread, self._discard, replaced)
        return True

    async def _drop(self, key: str) -> bool:
        removed = await _on(self._thread, self._index.remove, key)
        if removed is not None:
            await _on(self._thread, self._discard, removed)
        return removed is not None

    async def _drop_all(self, prefix: str) -> None:
        for generation in await _on(self._thread, self._index.remove_prefix, prefix):
            await _on(self._thread, self._discard, generation)


class DiskStore:
    """Bodies and their metadata below one folder; made by `open_disk`."""

    def __init__(
        self, folder: Path, incoming: Path, index: Index, max_bytes: int, clock: Clock, thread: ThreadPoolExecutor
    ) -> None:
        self._folder = folder
        self._incoming = incoming
        self._index = index
        self._max_bytes = max_bytes
        self._clock = clock
        self._index_thread = thread
        self._body_threads = ThreadPoolExecutor(_BODY_THREADS, thread_name_prefix="media-gateway-bodies")
        self._touched: dict[str, float] = {}
        self.backend = DiskBackend(index, thread, clock, self._unlink)

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    async def open_body(self, entry: Entry) -> BodyFile | None:
        """The file of a stored body; None where it is missing or not of the entry's length."""
        path = self._body_path(entry.generation)
        try:
            descriptor = await self._open(path, os.O_RDONLY)
        except StoreError:
            return None
        body = BodyFile(descriptor, self._body_threads, path)
        if await _on(self._body_threads, _length, descriptor) != entry.length:
            await body.close()
            return None
        return body

    async def begin(self, generation: str) -> BodyFile:
        """A new file for the bytes of a fill. Raises `StoreError`."""
        path = self._incoming / generation
        return BodyFile(await self._open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), self._body_threads, path)

    async def _open(self, path: Path, flags: int) -> int:
        opening = asyncio.ensure_future(_on(self._body_threads, os.open, path, flags, 0o600))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on: what it opens has no owner any more.
            opening.add_done_callback(_close_opened)
            raise

    async def commit(self, key: str, entry: Entry, file: BodyFile) -> None:
        """Make a whole file a stored response: rename it, then write its row; evict what is too much.

        Raises `StoreError`; the file is then gone.
        """
        target = self._body_path(entry.generation)

        def place() -> None:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            file.path.rename(target)

        try:
            await _on(self._body_threads, place)
            await self.backend.set(key, entry)
        except StoreError:
            await self.discard(file)
            await _on(self._index_thread, self._unlink, entry.generation)
            raise
        self._touched.pop(key, None)
        await _on(self._index_thread, self._evict)

    async def put(self, key: str, entry: Entry, content: bytes) -> None:
        """Store a body that is whole in RAM. Raises `StoreError`."""
        file = await self.begin(entry.generation)
        try:
            await file.write(content, 0, hashlib.sha256())
        except StoreError:
            await self.discard(file)
            raise
        finally:
            await file.close()
        await self.commit(key, entry, file)

    async def discard(self, file: BodyFile) -> None:
        """Drop the file of a fill that came to nothing."""
        await _on(self._body_threads, _unlink_quietly, file.path)

    async def freshen(self, key: str, entry: Entry) -> bool:
        """Replace the metadata of a response whose bytes stay; False where other bytes took its place."""
        return await _on(self._index_thread, self._index.freshen, key, entry.generation, encode(entry))

    async def drop(self, key: str, generation: str | None = None) -> None:
        """Remove a response, where `generation` is given only that one."""
        removed = await _on(self._index_thread, self._index.remove, key, generation)
        if removed is not None:
            await _on(self._index_thread, self._unlink, removed)

    async def usage(self) -> Usage:
        """What the tier holds."""
        return await _on(self._index_thread, self._index.usage)

    async def check_writable(self) -> None:
        """Raises `StoreError` where a fill could not be stored now."""
        probe = await self.begin(f"probe-{os.urandom(8).hex()}")
        try:
            await probe.write(b"probe", 0, hashlib.sha256())
        finally:
            await probe.close()
            await self.discard(probe)

    def touch(self, key: str) -> None:
        """Note that a response was used; written to the index in batches."""
        if len(self._touched) < _TOUCHES or key in self._touched:
            self._touched[key] = self._clock()

    async def keep_touches(self) -> None:
        """Write noted uses to the index every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(_TOUCH_SECONDS)
            with contextlib.suppress(StoreError):
                await self.flush_touches()

    async def flush_touches(self) -> None:
        """Write noted uses to the index now."""
        touched, self._touched = self._touched, {}
        if touched:
            await _on(self._index_thread, self._index.touch, list(touched.items()))

    async def reclaim(self) -> None:
        """Remove what killed processes left: files of their fills, and bodies without a row."""
        with contextlib.suppress(StoreError):
            await _on(self._index_thread, self._reclaim_incoming)
            for shard in await _on(self._index_thread, _listing, self._folder / "bodies"):
                await _on(self._index_thread, self._reclaim_shard, shard)

    async def close(self) -> None:
        """Write the noted uses, then stop the threads."""
        with contextlib.suppress(StoreError):
            await self.flush_touches()
        with contextlib.suppress(StoreError):
            await _on(self._index_thread, self._index.close)
        await asyncio.to_thread(self._body_threads.shutdown)

    # --- on the tier's threads ---

    def _body_path(self, generation: str) -> Path:
        return self._folder / "bodies" / generation[:2] / generation

    def _unlink(self, generation: str) -> None:
        _unlink_quietly(self._body_path(generation))

    def _evict(self) -> None:
        for generation in self._index.evict(self._max_bytes):
            self._unlink(generation)

    def _reclaim_incoming(self) -> None:
        for run in _listing(self._folder / "incoming"):
            if run != self._incoming:
                with _lock_if_free(run / "lock") as free:
                    if free:
                        shutil.rmtree(run, ignore_errors=True)

    def _reclaim_shard(self, shard: Path) -> None:
        for path in _listing(shard):
            if not self._index.knows(path.name):
                with contextlib.suppress(OSError):
                    if self._clock() - path.stat().st_mtime > _YOUNG_SECONDS:
                        path.unlink()


@asynccontextmanager
async def open_disk(folder: Path, max_bytes: int, clock: Clock) -> AsyncIterator[DiskStore]:
    """The disk tier below `folder`, which is made where it is missing. Raises `StoreError`.

    Start-up scans nothing; what killed processes left is reclaimed in the background.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="media-gateway-index")
    incoming = folder / "incoming" / secrets.token_hex(8)
    try:
        lock = await _on(thread, _make_folders, folder, incoming)
        try:
            index = await _on(thread, Index, folder / "index.sqlite3")
            store = DiskStore(folder, incoming, index, max_bytes, clock, thread)
            tasks = [asyncio.create_task(store.reclaim()), asyncio.create_task(store.keep_touches())]
            try:
                yield store
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await store.close()
        finally:
            await _on(thread, os.close, lock)
            await _on(thread, partial(shutil.rmtree, incoming, ignore_errors=True))
    finally:
        await asyncio.to_thread(thread.shutdown)


def _make_folders(folder: Path, incoming: Path) -> int:
    for place in (folder, folder / "bodies", folder / "incoming", incoming):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(folder / "index.sqlite3", os.O_RDWR | os.O_CREAT, 0o600))
    descriptor = os.open(incoming / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


@contextmanager
def _lock_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock, and whether it could be had: its owner is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        # A process that has made its folder and not yet its lock, or is taking both away.
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


async def _on(threads: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call on a thread of the tier; a system error becomes a `StoreError`."""

    def run() -> T:
        with _translated():
            return call(*args, **kwargs)

    # Shielded: a call that is cancelled while it waits for a thread would never run, and a close has to.
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(threads, run))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(note=f"the disk tier failed: {error.strerror or type(error).__name__}") from error


def _close_opened(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())


def _length(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


def _write_all(descriptor: int, block: bytes, offset: int, checksum: Checksum) -> None:
    checksum.update(block)
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _unlink_quietly(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _listing(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
