"""The disk tier: one file per stored body, and an index whose row, written last, is what makes it a stored response.

    index-….sqlite3     the index, the erasures and the verdicts
    epoch               the number of the last erasure, mapped by every worker
    bodies/ab/abcdef…   the bytes of generation abcdef…
    incoming/RUN/…      fills under way in one process, which holds a lock on incoming/RUN/lock while it lives

Folders are 0700 and files 0600. Everything that blocks runs on threads of the tier's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from proxy.cache.bodies import BodyFile, on, on_or_undo, open_new, open_whole, place, unlink_quietly, write_new
from proxy.cache.counters import Counters, RamUsage
from proxy.cache.disk_backend import DiskBackend
from proxy.cache.entry import Entry, encode
from proxy.cache.erasure_log import Epoch
from proxy.cache.erasures import FolderErasures
from proxy.cache.index import ROW_BYTES, Index, Usage
from proxy.cache.reclaiming import Run, listing, make_private, old_bodies, reclaim_runs
from proxy.cache.verification import Verifier
from proxy.errors import StoreError
from proxy.model import Clock
from proxy.telemetry.metrics import Metrics, Tier

__all__ = ["BodyFile", "DiskStore", "open_disk"]

_BODY_THREADS: Final = 8
_TOUCHES: Final = 1_000
_NOTE_SECONDS: Final = 5.0
_TIDY_SECONDS: Final = 600.0
# Longer than any fill, and than an entry in RAM that is in use stays without being looked up.
_ERASURE_SECONDS: Final = 86_400.0
_LOOK_UPS: Final = 100
_FREE_SHARE: Final = 0.05
_FREE_BYTES: Final = 500_000_000


class DiskStore:
    """Bodies and their metadata below one folder; made by `open_disk`."""

    def __init__(
        self,
        folder: Path,
        incoming: Path,
        index: Index,
        epoch: Epoch,
        max_bytes: int,
        min_free_bytes: int,
        clock: Clock,
        thread: ThreadPoolExecutor,
    ) -> None:
        self._folder = folder
        self._incoming = incoming
        self._index = index
        self.erasures = FolderErasures(index, epoch, thread)
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._index_thread = thread
        self._body_threads = ThreadPoolExecutor(_BODY_THREADS, thread_name_prefix="media-gateway-bodies")
        self._touched: dict[str, float] = {}
        self._counters: Counters | None = None
        self._ram_usage: Callable[[], RamUsage] | None = None
        self._metrics: Metrics | None = None
        self._verifier = Verifier(self._body_threads, self._drop_generation)
        self.backend = DiskBackend(index, thread, clock, self._unlink)

    @property
    def max_footprint(self) -> int:
        """Bytes of disk that the tier may take, as `Usage.footprint` counts them."""
        return self._max_bytes

    @property
    def max_bytes(self) -> int:
        """The longest body that the tier takes."""
        return max(0, self._max_bytes - ROW_BYTES)

    async def open_body(self, entry: Entry) -> BodyFile | None:
        """The file of a stored body; None where it is missing or not of the entry's length."""
        path = self._body_path(entry.generation)
        descriptor = await on_or_undo(self._body_threads, lambda: open_whole(path, entry.length), _close_opened)
        if descriptor is None:
            return None
        return BodyFile(descriptor, self._body_threads, path, self._verifier.watch(entry, path))

    async def read_body(self, entry: Entry) -> bytes | None:
        """All the bytes of a small stored body; None where they are missing or not what was stored."""
        path = self._body_path(entry.generation)

        def read() -> bytes | None:
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
            return content if hashlib.sha256(content).hexdigest() == entry.checksum else None

        return await on(self._body_threads, read)

    async def begin(self, generation: str) -> BodyFile:
        """A new file for the bytes of a fill. Raises `StoreError`."""
        await self._make_room()
        path = self._incoming / generation

        def undo(descriptor: int) -> None:
            os.close(descriptor)
            unlink_quietly(path)

        descriptor = await on_or_undo(self._body_threads, lambda: open_new(path), undo)
        return BodyFile(descriptor, self._body_threads, path)

    async def commit(self, key: str, entry: Entry, file: BodyFile) -> bool:
        """Make a whole file a stored response: rename it, then write its row; evict what is too much.

        False where it was erased since `entry.epoch`. Raises `StoreError`. In both cases the file is gone.
        """
        target = self._body_path(entry.generation)
        try:
            await self._check_length(entry)
            await on_or_undo(self._body_threads, lambda: place(file.path, target), lambda _: unlink_quietly(target))
        except StoreError:
            await self.discard(file)
            raise
        return await self._register(key, entry)

    async def put(self, key: str, entry: Entry, content: bytes) -> bool:
        """Store a body that is whole in RAM. False where it was erased since `entry.epoch`. Raises `StoreError`."""
        path, target = self._incoming / entry.generation, self._body_path(entry.generation)

        def write() -> None:
            write_new(path, content)
            try:
                place(path, target)
            except OSError:
                unlink_quietly(path)
                raise

        await self._check_length(entry)
        await on_or_undo(self._body_threads, write, lambda _: unlink_quietly(target))
        return await self._register(key, entry)

    async def _check_length(self, entry: Entry) -> None:
        if entry.length > self.max_bytes:
            raise StoreError(note="a body is longer than all that the disk tier may hold")
        await self._make_room()

    async def _register(self, key: str, entry: Entry) -> bool:
        try:
            done = await self.backend.store(key, entry)
        except StoreError:
            await on(self._index_thread, self._unlink, entry.generation)
            raise
        if not done:
            await on(self._index_thread, self._unlink, entry.generation)
            return False
        self._verifier.trust(entry.generation)
        self._touched.pop(key, None)
        with contextlib.suppress(StoreError):
            await self._evict(self._max_bytes)
        return True

    async def discard(self, file: BodyFile) -> None:
        """Drop the file of a fill that came to nothing."""
        await on(self._body_threads, unlink_quietly, file.path)

    async def freshen(self, key: str, entry: Entry) -> bool:
        """Replace the metadata of a response whose bytes stay; False where other bytes took its place."""
        return await on(self._index_thread, self._index.freshen, key, entry.generation, encode(entry))

    async def drop(self, key: str, generation: str | None = None) -> None:
        """Remove a response, where `generation` is given only that one."""

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

    async def erase(self, prefix: str) -> None:
        """Erase every key that begins with `prefix`, for all workers at once. Raises `StoreError`."""
        await self.erasures.erase(prefix, self._clock())
        await self.give_back(prefix)

    async def give_back(self, prefix: str) -> None:
        """Remove the rows and bodies of every key that begins with `prefix`: they are erased already."""
        with contextlib.suppress(StoreError):
            await self.backend.clear(namespace=prefix)

    async def usage(self) -> Usage:
        """What the tier holds."""
        return await on(self._index_thread, self._index.usage)

    async def check_writable(self) -> None:
        """Raises `StoreError` where a fill could not be stored now."""
        path = self._incoming / f"probe-{os.urandom(8).hex()}"

        def probe() -> None:
            write_new(path, b"probe")
            unlink_quietly(path)

        await self._make_room()
        await on(self._body_threads, probe)

    def touch(self, key: str) -> None:
        """Note that a response was used; written to the index in batches."""
        if len(self._touched) < _TOUCHES or key in self._touched:
            self._touched[key] = self._clock()

    def report_from(self, counters: Counters, ram_usage: Callable[[], RamUsage], metrics: Metrics) -> None:
        """Write the counts down too, and count evictions: this is a worker, which serves from the folder."""
        self._counters, self._ram_usage, self._metrics = counters, ram_usage, metrics

    async def keep_notes(self) -> None:
        """Write noted uses and counts to the index every few seconds, until cancelled."""
        while True:
            with contextlib.suppress(StoreError):
                await self.flush_touches()
            await self._report()
            await asyncio.sleep(_NOTE_SECONDS)

    async def _report(self) -> None:
        if self._counters is None or self._ram_usage is None:
            return
        counters, ram, now = self._counters, self._ram_usage(), self._clock()

        def report() -> None:
            # In one go on the thread: a caller that is cancelled meanwhile neither loses a count nor doubles it.
            counts = counters.unwritten()
            self._index.report(self._incoming.name, ram, counts, now)
            counters.note_written(counts)

        with contextlib.suppress(StoreError):
            await on(self._index_thread, report)

    async def flush_touches(self) -> None:
        """Write noted uses to the index now."""
        touched, self._touched = self._touched, {}
        if touched:
            await on(self._index_thread, self._index.touch, list(touched.items()))

    async def keep_tidy(self) -> None:
        """Hold the bound, which may be lower than it was, and reclaim every few minutes, until cancelled."""
        while True:
            with contextlib.suppress(StoreError):
                await self._evict(self._max_bytes)
                await on(self._index_thread, self._index.forget_erasures, self._clock() - _ERASURE_SECONDS)
                await on(self._index_thread, self._index.forget_verdicts, self._clock())
            await self.reclaim()
            await asyncio.sleep(_TIDY_SECONDS)

    async def reclaim(self) -> None:
        """Remove what killed processes left: files of their fills, and bodies without a row."""
        now = self._clock()
        with contextlib.suppress(StoreError):
            await on(self._body_threads, reclaim_runs, self._folder / "incoming", now)
            for shard in await on(self._body_threads, listing, self._folder / "bodies"):
                bodies = await on(self._body_threads, old_bodies, shard, now)
                for start in range(0, len(bodies), _LOOK_UPS):
                    await on(self._index_thread, self._remove_unknown, bodies[start : start + _LOOK_UPS])

    async def close(self) -> None:
        """Write the noted uses and counts, then stop the threads."""
        await self._verifier.close()
        with contextlib.suppress(StoreError):
            await self.flush_touches()
        await self._report()
        with contextlib.suppress(StoreError):
            await on(self._index_thread, self._index.leave, self._incoming.name)
        with contextlib.suppress(StoreError):
            await on(self._index_thread, self._index.close)
        await asyncio.to_thread(self._body_threads.shutdown)

    async def _make_room(self) -> None:
        """Leave the file system its reserve, at the cost of what is stored. Raises `StoreError` where it has none."""
        short = self._min_free_bytes - await self._free_bytes()
        if short > 0:
            usage = await self.usage()
            await self._evict(max(0, usage.footprint - short))
            if await self._free_bytes() < self._min_free_bytes:
                raise StoreError(note=f"the file system of the disk tier has less than {self._min_free_bytes} B free")

    async def _free_bytes(self) -> int:
        return (await on(self._body_threads, shutil.disk_usage, self._folder)).free

    async def _evict(self, max_bytes: int) -> None:
        def evict() -> int:
            gone = self._index.evict(max_bytes)
            for generation in gone:
                self._unlink(generation)
            return len(gone)

        # In steps, so that look-ups come in between.
        while gone := await on(self._index_thread, evict):
            if self._metrics is not None:
                self._metrics.evicted(Tier.DISK, gone)

    # --- on the tier's threads ---

    def _body_path(self, generation: str) -> Path:
        return self._folder / "bodies" / generation[:2] / generation

    def _unlink(self, generation: str) -> None:
        unlink_quietly(self._body_path(generation))

    def _remove_unknown(self, bodies: list[Path]) -> None:
        for path in bodies:
            if not self._index.knows(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()


def _close_opened(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


@asynccontextmanager
async def open_disk(
    folder: Path, max_bytes: int, clock: Clock, *, min_free_bytes: int | None = None
) -> AsyncIterator[DiskStore]:
    """The disk tier below `folder`, which is made where it is missing. Raises `StoreError`.

    `min_free_bytes` is what the file system keeps free beside the tier: by default 5 % of it, and 500 MB at most.
    Start-up scans nothing; what killed processes left is reclaimed in the background.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="media-gateway-index")
    run = Run(folder / "incoming")
    index = Index(folder)
    epoch = Epoch(folder / "epoch")

    def begin() -> int:
        for place_of in (folder, folder / "bodies", folder / "incoming"):
            make_private(place_of)
        run.begin()
        index.open()
        epoch.open()
        # A new index begins at a later number than any that a worker may remember of the one before.
        epoch.publish(index.latest_erasure())
        return shutil.disk_usage(folder).total

    def end() -> None:
        with contextlib.suppress(StoreError):
            index.close()
        epoch.close()
        run.end()

    try:
        total = await on(thread, begin)
        if min_free_bytes is None:
            min_free_bytes = min(int(total * _FREE_SHARE), _FREE_BYTES)
        store = DiskStore(folder, run.folder, index, epoch, max_bytes, min_free_bytes, clock, thread)
        tasks = [asyncio.create_task(store.keep_tidy()), asyncio.create_task(store.keep_notes())]
        try:
            yield store
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.close()
    finally:
        # On the one thread that began: after it, even if that was cancelled half-way.
        thread.submit(end)
        await asyncio.to_thread(thread.shutdown)
