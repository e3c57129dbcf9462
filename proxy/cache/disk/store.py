"""The disk tier as the other tiers see it: put together from its index, its files and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from proxy.cache.checksum import checksum
from proxy.cache.disk.backend import DiskBackend
from proxy.cache.disk.files import BodyFile
from proxy.cache.disk.folder import Folder
from proxy.cache.disk.index import Index
from proxy.cache.disk.integrity import BodyChecker
from proxy.cache.disk.invalidations import FolderInvalidations
from proxy.cache.disk.invalidations_table import Epoch
from proxy.cache.disk.open_files import OpenFile, OpenFiles
from proxy.cache.disk.orphans import IncomingFolder, Orphans
from proxy.cache.disk.quota import Quota, reserve_of
from proxy.cache.disk.responses_table import Usage
from proxy.cache.disk.threads import on, on_or_undo
from proxy.cache.disk.write_behind import WriteBehind
from proxy.cache.entry import Entry, encode
from proxy.cache.invalidation.policy import DEFAULT
from proxy.errors import StoreError
from proxy.model import Clock
from proxy.telemetry.metrics import Metrics

_BODY_THREADS: Final = 8
_MAINTENANCE_SECONDS: Final = 600.0
_ERASURE_SECONDS: Final = 86_400.0
"""The time for which an erasure is remembered: longer than a fill, and than RAM holds what is never looked up."""


class DiskStore:
    """The bodies and entries below one folder; `open_disk` makes it."""

    def __init__(
        self,
        folder: Folder,
        incoming: Path,
        index: Index,
        epoch: Epoch,
        max_bytes: int,
        reserve: int,
        clock: Clock,
        thread: ThreadPoolExecutor,
        revocations: int,
        metrics: Metrics | None,
    ) -> None:
        self._folder = folder
        self._incoming = incoming
        self._index = index
        self._clock = clock
        self.invalidations = FolderInvalidations(index, epoch, thread, revocations)
        self._index_thread = thread
        self._body_threads = ThreadPoolExecutor(_BODY_THREADS, thread_name_prefix="media-gateway-bodies")
        self.open_files = OpenFiles()
        self._quota = Quota(
            folder.path,
            index,
            thread,
            self._body_threads,
            self._unlink,
            max_bytes=max_bytes,
            reserve=reserve,
            evicted=self.open_files.close_removed,
            metrics=metrics,
        )
        self.orphans = Orphans(folder, index, thread, self._body_threads, clock)
        self.write_behind = WriteBehind(index, thread, incoming.name, clock)
        self._checker = BodyChecker(self._body_threads, self._drop_generation, folder)
        self.backend = DiskBackend(index, thread, clock, self._unlink)

    @property
    def max_footprint(self) -> int:
        """Return how many bytes of disk the tier may take, as `Usage.footprint` counts them."""
        return self._quota.max_bytes

    @property
    def longest_body(self) -> int:
        """Return the bytes of the longest body that the tier takes."""
        return self._quota.longest_body

    async def open_body(self, entry: Entry) -> BodyFile | None:
        """Return the file of a stored body; None if it is missing or not of the entry's length. Raises `StoreError`."""
        file = self.open_files.take(entry)
        if file is not None:
            return file
        path = self._folder.body_path(entry.generation)
        descriptor = await on_or_undo(
            self._body_threads, lambda: self._folder.open_whole(path, entry.length), _close_opened
        )
        if descriptor is None:
            return None
        check = self._checker.watch(entry, path)
        if check is None:
            return BodyFile(descriptor, self._body_threads, path)
        file = OpenFile(descriptor, self._body_threads, path, check)
        self.open_files.keep(entry.generation, file)
        return file

    async def read_body(self, entry: Entry) -> bytes | None:
        """Return all bytes of a small stored body; None if they are missing or not those that were stored."""
        path = self._folder.body_path(entry.generation)

        def read() -> bytes | None:
            content = self._folder.read_whole(path, entry.length)
            return content if content is not None and checksum(content) == entry.checksum else None

        return await on(self._body_threads, read)

    async def begin(self, generation: str) -> BodyFile:
        """Create the file for the bytes of a fill. Raises `StoreError`."""
        path = self._incoming / generation

        def undo(descriptor: int) -> None:
            os.close(descriptor)
            self._folder.unlink_quietly(path)

        descriptor = await self._quota.write(lambda: self._folder.create(path), undo)
        return BodyFile(descriptor, self._body_threads, path)

    async def commit(self, key: str, entry: Entry, file: BodyFile) -> bool:
        """Make a whole file a stored response: rename it, write its row, then evict what is over the bound.

        Return False if it was erased since `entry.epoch`. Raises `StoreError`. In both cases the file is gone.
        """
        target = self._folder.body_path(entry.generation)
        try:
            self._check_length(entry)
            await self._quota.write(
                lambda: self._folder.place(file.path, target), lambda _: self._folder.unlink_quietly(target)
            )
        except StoreError:
            await self.discard(file)
            raise
        return await self._register(key, entry)

    async def put(self, key: str, entry: Entry, content: bytes) -> bool:
        """Store a whole body from RAM. Return False if it was erased since `entry.epoch`. Raises `StoreError`."""
        path, target = self._incoming / entry.generation, self._folder.body_path(entry.generation)

        def write() -> None:
            self._folder.write_new(path, content)
            try:
                self._folder.place(path, target)
            except OSError:
                self._folder.unlink_quietly(path)
                raise

        self._check_length(entry)
        await self._quota.write(write, lambda _: self._folder.unlink_quietly(target))
        return await self._register(key, entry)

    def _check_length(self, entry: Entry) -> None:
        if entry.length > self.longest_body:
            raise StoreError(note="a body is longer than all that the disk tier may hold")

    async def _register(self, key: str, entry: Entry) -> bool:
        def register() -> tuple[bool, bool]:
            done = False
            try:
                done = self.backend.place(key, entry)
            finally:
                if not done:
                    self._unlink(entry.generation)
            with contextlib.suppress(StoreError):
                return done, done and self._quota.is_exceeded()
            return done, False

        done, exceeded = await on(self._index_thread, register)
        if done:
            self._checker.trust(entry.generation)
            self.write_behind.forget_use(key)
        if exceeded:
            with contextlib.suppress(StoreError):
                await self._quota.evict(self.max_footprint)
        return done

    async def discard(self, file: BodyFile) -> None:
        """Remove the file of a fill that came to nothing."""
        await on(self._body_threads, self._folder.unlink_quietly, file.path)

    async def freshen(self, key: str, entry: Entry) -> bool:
        """Replace the metadata of a response whose bytes stay. Return False if other bytes took their place."""
        return await on(self._index_thread, self._index.freshen, key, entry.generation, encode(entry))

    async def drop(self, key: str, generation: str | None = None) -> None:
        """Remove the response of a key; with `generation` only if it is that one."""

        def drop() -> None:
            removed = self._index.remove(key, generation)
            if removed is not None:
                self._unlink(removed)

        await on(self._index_thread, drop)

    async def _drop_generation(self, generation: str) -> None:
        def drop() -> None:
            if self._index.remove_generation(generation):
                self._unlink(generation)

        await on(self._index_thread, drop)

    async def give_back(self, prefix: str) -> None:
        """Remove the rows and bodies of every key that begins with `prefix`: they are erased already."""
        with contextlib.suppress(StoreError):
            await self.backend.clear(namespace=prefix)
        self.open_files.close_removed()

    async def usage(self) -> Usage:
        """Return what the tier holds."""
        return await on(self._index_thread, self._index.usage)

    async def check_writable(self) -> None:
        """Raise `StoreError` if a fill could not be stored now."""
        path = self._incoming / f"probe-{os.urandom(8).hex()}"

        def probe() -> None:
            self._folder.write_new(path, b"probe")
            self._folder.unlink_quietly(path)

        await self._quota.write(probe, _leave)

    async def maintain(self) -> None:
        """Hold the bound, which may be lower than it was, forget and reclaim every few minutes, until cancelled."""
        while True:
            with contextlib.suppress(StoreError):
                await self._quota.evict(self._quota.max_bytes)
                await on(self._index_thread, self._index.forget_erasures, self._clock() - _ERASURE_SECONDS)
                await on(self._index_thread, self._index.forget_blocks, self._clock())
            await self.orphans.reclaim()
            await asyncio.sleep(_MAINTENANCE_SECONDS)

    async def close(self) -> None:
        """Write down what is noted, then stop the threads."""
        self.open_files.close()
        await self._checker.close()
        await self.write_behind.close()
        with contextlib.suppress(StoreError):
            await on(self._index_thread, self._index.close)
        await asyncio.to_thread(self._body_threads.shutdown)

    # --- on the tier's threads ---

    def _unlink(self, generation: str) -> None:
        self._folder.unlink_quietly(self._folder.body_path(generation))


def _leave(_: None) -> None:
    """Undo nothing: the call cleans up after itself."""


def _close_opened(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


@asynccontextmanager
async def open_disk(
    folder: Path,
    max_bytes: int,
    clock: Clock,
    *,
    min_free_bytes: int | None = None,
    revocations: int = DEFAULT,
    metrics: Metrics | None = None,
) -> AsyncIterator[DiskStore]:
    """Open the disk tier below `folder`, which is made if it is missing, and close it in the end.

    The file system keeps `min_free_bytes` free beside the tier: by default 5 % of its size, at most 500 MB. At most
    `revocations` revocations and deletions are admitted at once. Evictions are counted in `metrics`, if it is given.
    Raises `StoreError`, and `SettingsError` if the folder belongs to another user.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="media-gateway-index")
    within = Folder(folder)
    incoming = IncomingFolder(within)
    index = Index(folder, max_bytes=max_bytes)
    epoch = Epoch(folder / "epoch")

    def begin() -> int:
        within.prepare()
        for part in ("bodies", "incoming"):
            within.make(folder / part)
        incoming.begin()
        index.open()
        epoch.open()
        # The numbers of a new index begin above all that a worker may remember of the one before.
        epoch.publish(index.epoch())
        return reserve_of(folder) if min_free_bytes is None else min_free_bytes

    def end() -> None:
        with contextlib.suppress(StoreError):
            index.close()
        epoch.close()
        incoming.end()

    try:
        reserve = await on(thread, begin)
        store = DiskStore(
            within, incoming.folder, index, epoch, max_bytes, reserve, clock, thread, revocations, metrics
        )
        tasks = [asyncio.create_task(store.maintain()), asyncio.create_task(store.write_behind.keep())]
        try:
            yield store
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.close()
    finally:
        # On the same thread as `begin`, and so after it, even if the caller was cancelled meanwhile.
        thread.submit(end)
        await asyncio.to_thread(thread.shutdown)
