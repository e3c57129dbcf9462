"""RAM over disk: stored responses are found, kept, freshened and dropped in both.

A tier that fails costs speed and never an answer: it is logged, counted and passed over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from proxy.bounded_table import BoundedTable
from proxy.cache.body import Body, FileBody, RamBody
from proxy.cache.counters import Counters, RamUsage
from proxy.cache.disk.files import BodyFile
from proxy.cache.disk.store import DiskStore
from proxy.cache.entry import Entry, Representation
from proxy.cache.invalidation.blocklist import Blocklist
from proxy.cache.invalidation.invalidators import Invalidations, Invalidator, LoneInvalidations
from proxy.cache.invalidation.policy import Block, Invalidation
from proxy.cache.ram.store import RamStore
from proxy.cache.ram.sweeper import Sweeper
from proxy.cache.redis.outage import Trust
from proxy.cache.stored import StoredResponse
from proxy.erasure import BlockKind
from proxy.errors import StoreError
from proxy.model import Clock, MediaRef
from proxy.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from proxy.cache.redis.store import SharedTier

_log: Final = logging.getLogger("media_gateway.cache")

_UNREADABLE: Final = 1_000
"""The most stored responses that are remembered as unusable because the disk could not drop them."""


class Tiers:
    """The RAM tier, and the disk tier if there is one. `ram_object_bytes`: the largest body that RAM holds.

    `shared` is the shared tier if there is one, and `invalidations` are those to which it applies its log.
    """

    def __init__(
        self,
        memory: RamStore,
        disk: DiskStore | None,
        *,
        ram_object_bytes: int,
        metrics: Metrics,
        clock: Clock = time.time,
        invalidations: Invalidations | None = None,
        shared: SharedTier | None = None,
    ) -> None:
        self.memory = memory
        self.metrics = metrics
        self.disk = disk
        self.ram_object_bytes = ram_object_bytes
        self.counters = Counters()
        self._look_ups = LookUps()
        self._unreadable: BoundedTable[str, None] = BoundedTable(_UNREADABLE)
        self._clock = clock
        self._invalidations: Invalidations = invalidations or (
            disk.invalidations if disk is not None else LoneInvalidations()
        )
        self._invalidator: Invalidator = self._invalidations if shared is None else shared.follower
        self.shared = shared
        self.blocklist = Blocklist(self._invalidations, clock, None if shared is None else shared.follower.unwritten)
        self.sweeper = Sweeper(memory, self._invalidations, self._swept)
        if disk is not None:
            disk.write_behind.report_from(self.counters, self._ram_usage)

    @property
    def epoch(self) -> int:
        """The number of the last erasure, by any worker of the folder."""
        return self._invalidations.epoch

    @property
    def current(self) -> bool:
        """Return whether every invalidation by other nodes is known here."""
        return self.shared is None or self.shared.follower.current

    def trust(self, key: str, entry: Entry) -> Trust:
        """Return how far a stored response may be used, which may have been erased without this worker's knowing."""
        return Trust.FULL if self.shared is None else self.shared.validations.trust(key, entry)

    async def apply(self, invalidation: Invalidation) -> None:
        """Apply an invalidation for every worker at once, and free what it has erased. Raises `StoreError`.

        What is being fetched is erased too. A block raises `RevocationsFull` if it is one too many.
        """
        since = self.epoch
        await self._invalidator.apply(invalidation, self._clock())
        if isinstance(invalidation, Block) and await self._stands(invalidation.prefix, since):
            # A deletion that held already has erased. Everything else frees what it covers, even if the follower has
            # passed over its place in the log.
            return
        await self.memory.clear(namespace=invalidation.prefix)
        if self.disk is not None:
            await self.disk.give_back(invalidation.prefix)
        if self.shared is not None:
            await self.shared.give_back(invalidation.prefix)

    async def require_room(self, blocks: Sequence[Block]) -> None:
        """Raise `RevocationsFull` if these blocks together are too many, and `StoreError` if that cannot be told."""
        await self._invalidator.require_room(blocks, self._clock())

    async def report(self) -> None:
        """Tell the folder that this worker runs, and what its RAM holds, as far as that can be written."""
        if self.disk is not None:
            await self.disk.write_behind.write()

    async def _swept(self) -> None:
        if self.disk is not None:
            self.disk.open_files.close_removed()
        await self.report()

    async def _ram_usage(self) -> RamUsage:
        await self.sweeper.sweep()
        return RamUsage(self.memory.used_bytes, len(self.memory))

    async def is_gone(self, ref: MediaRef) -> bool:
        """Return whether a media was deleted at the provider. Raises `StoreError` if that cannot be told."""
        return BlockKind.GONE in await self.blocklist.of(str(ref))

    async def erased(self, ref: MediaRef, since: int) -> bool:
        """Return whether a media was erased after the erasure `since`, or that cannot be told: erasure must win."""
        return await self._was_erased(str(ref), since)

    async def _was_erased(self, key: str, since: int) -> bool:
        try:
            return await self._invalidations.erased(key, since)
        except StoreError:
            return True

    async def _stands(self, key: str, since: int) -> bool:
        """Return whether nothing has erased a key since that erasure, up to the moment that this returns.

        A caller that asks `erased` alone may act on an answer that was true before the caller waited for its turn.
        """
        while since != (epoch := self.epoch):
            if await self._was_erased(key, since):
                return False
            since = epoch
        return True

    async def _may_be_gone(self, ref: MediaRef) -> bool:
        try:
            return await self.is_gone(ref)
        except StoreError:
            return True

    def has_room_for(self, representation: Representation, length: int) -> bool:
        """Return whether a body of this length in bytes could be stored, with the fields of that representation."""
        if self.disk is not None:
            return length <= self.disk.longest_body
        return length <= self.ram_object_bytes and self.memory.has_room_for(representation.metadata.fields, length)

    async def find(self, ref: MediaRef) -> StoredResponse | None:
        """Return the stored response of a media, as RAM or the disk has it; None if neither does."""
        key = str(ref)
        epoch = self.epoch
        found = await self._find_in_ram(ref, key, epoch)
        if found is not None or self.disk is None:
            return found
        disk = self.disk

        async def look(is_current: Callable[[], bool]) -> StoredResponse | None:
            with _fail_open():
                entry = await disk.backend.fetch(key)
                if entry is not None and entry.generation not in self._unreadable:
                    disk.write_behind.note_use(key)
                    return await self._promote(key, entry, disk, epoch, is_current)
            return None

        # If nothing was found, it may have been stored while the disk was asked.
        return await self._look_ups.find(key, look) or await self._find_in_ram(ref, key, self.epoch)

    async def look_again(self, ref: MediaRef, stored: StoredResponse) -> StoredResponse:
        """Return what the disk has of a media now, if another worker has changed it; else `stored`."""
        key, epoch, disk = str(ref), self.epoch, self.disk
        if disk is None:
            return stored
        entry: Entry | None = None
        with _fail_open():
            entry = await disk.backend.fetch(key)
        if entry is None or entry == stored.entry or entry.generation in self._unreadable:
            return stored
        with _fail_open():
            if entry.generation != stored.entry.generation or stored.run is not None:
                return await self._promote(key, entry, disk, epoch, lambda: True) or stored
        held = self.memory.peek(key)
        if held is not None and held.entry == stored.entry:
            # A response that was replaced or dropped meanwhile does not come back.
            await self.memory.set(key, replace(held, entry=entry, epoch=epoch), _cas_token=held)
        return replace(stored, entry=entry, epoch=epoch, run=None)

    async def peek(self, refs: Iterable[MediaRef]) -> dict[MediaRef, Entry]:
        """Return the entries that the tiers have of these media, without their bytes and without counting a use."""
        found: dict[MediaRef, Entry] = {}
        sought: list[MediaRef] = []
        for ref in dict.fromkeys(refs):
            held = self.memory.peek(str(ref))
            if held is not None and (held.epoch == self.epoch or not await self.erased(ref, held.epoch)):
                found[ref] = held.entry
            else:
                sought.append(ref)
        if sought and self.disk is not None:
            with _fail_open():
                entries = await self.disk.backend.fetch_all([str(ref) for ref in sought])
                found |= {ref: entry for ref, entry in zip(sought, entries, strict=True) if entry is not None}
        if self.shared is not None:
            sought = [ref for ref in sought if ref not in found]
            # As many at a time as Redis has connections here; while it is away, none.
            shared = await asyncio.gather(*(self.shared.find(str(ref), self.epoch) for ref in sought))
            found |= {ref: one.entry for ref, one in zip(sought, shared, strict=True) if one is not None}
        return found

    async def _find_in_ram(self, ref: MediaRef, key: str, epoch: int) -> StoredResponse | None:
        held = self.memory.use(key)
        if held is not None and held.epoch != epoch:
            # Something was erased since this was last looked up.
            if await self.erased(ref, held.epoch):
                await self.memory.delete(key)
                return None
            known = replace(held, epoch=epoch)
            # A response that was replaced or dropped meanwhile does not come back.
            held = known if await self.memory.set(key, known, _cas_token=held) else None
        if held is not None and self.disk is not None:
            self.disk.write_behind.note_use(key)
        return held

    def recall(self, key: str) -> StoredResponse | None:
        """Return what RAM holds of a media that nothing blocks, if nothing was erased since its last look-up.

        That counts as a use. None says only that the caller has to ask `find`, and for the blocks.
        """
        held = self.memory.use(key)
        # It may have been fetched for a reader that was let in just before a block, or that needs no link.
        if held is None or held.epoch != self.epoch or self.blocklist.now(key) is not BlockKind.NONE:
            return None
        if self.trust(key, held.entry) is not Trust.FULL:
            return None
        if self.disk is not None:
            self.disk.write_behind.note_use(key)
        return held

    async def _promote(
        self, key: str, entry: Entry, disk: DiskStore, epoch: int, is_current: Callable[[], bool]
    ) -> StoredResponse | None:
        content: bytes | None = None
        if entry.length <= self.ram_object_bytes:
            content = await disk.read_body(entry)
            if content is None:
                await disk.drop(key, entry.generation)
                return None
        # A response that was erased while it was read must not come back to RAM; `open` refuses it.
        if is_current() and epoch == self.epoch:
            await self.memory.set(key, StoredResponse(entry, content, epoch, in_ram=content is not None))
        return StoredResponse(entry, content, epoch)

    @contextmanager
    def _changing(self, key: str) -> Iterator[None]:
        """Keep out of RAM what was read from disk before this change is complete."""
        self._look_ups.outdate(key)
        try:
            yield
        finally:
            self._look_ups.outdate(key)

    def take_open_file(self, entry: Entry) -> FileBody | None:
        """Return the file of a stored response if it is open and has been checked, without waiting; else None.

        The caller, one more reader of it, has made sure that the entry may still be used.
        """
        file = None if self.disk is None else self.disk.open_files.take(entry)
        if file is None:
            return None
        if file.damaged is None:
            file.release()
            return None
        return FileBody(file, entry.length, utf8=entry.utf8)

    async def open(
        self, ref: MediaRef, stored: StoredResponse, rescue: Callable[[], Awaitable[Body]] | None = None
    ) -> Body | None:
        """Open the bytes of a stored response; return None, and drop it, if they have gone or were erased.

        `rescue` gives the same bytes if the shared tier loses them while they are read.
        """
        key = str(ref)
        if not await self._stands(key, stored.epoch):
            await self.drop(ref, stored.entry.generation)
            return None
        if stored.content is not None:
            return RamBody(stored.content, utf8=stored.entry.utf8)
        if stored.run is not None:
            assert self.shared is not None
            assert rescue is not None, "a response of the shared tier alone is opened with a rescue"
            return self.shared.open(stored, rescue)
        if self.disk is not None:
            with _fail_open():
                file = await self.disk.open_body(stored.entry)
                if file is not None:
                    body = FileBody(file, stored.entry.length, utf8=stored.entry.utf8)
                    async with AsyncExitStack() as undo:
                        undo.push_async_callback(body.close)
                        # It may have been erased while its file was opened, and an open file keeps its bytes.
                        if await self._stands(key, stored.epoch):
                            undo.pop_all()
                            return body
        await self.drop(ref, stored.entry.generation)
        return None

    async def keep(self, ref: MediaRef, entry: Entry, content: bytes | BodyFile) -> bool:
        """Store a whole body, unless the media was erased since `entry.epoch` or is gone.

        Return whether `content` was a file, and now belongs to the disk tier.
        """
        key = str(ref)
        if await self._may_be_gone(ref) or not await self._stands(key, entry.epoch):
            return False
        with self._changing(key):
            if isinstance(content, bytes):
                # The next look-up finds out by the epoch what is erased from now on.
                await self.memory.set(key, StoredResponse(entry, content, entry.epoch, in_ram=True))
                if self.disk is not None:
                    with _fail_open():
                        await self.disk.put(key, entry, content)
                return False
            kept = False
            if self.disk is not None:
                with _fail_open():
                    kept = await self.disk.commit(key, entry, content)
            if kept:
                await self.memory.set(key, StoredResponse(entry, None, entry.epoch))
            else:
                await self.memory.delete(key)
            return kept

    async def freshen(self, ref: MediaRef, entry: Entry, since: int) -> bool:
        """Replace the metadata of a stored response whose bytes stay (RFC 9111 §4.3.4).

        Return False if the media is gone, or was erased after the erasure `since`: an erasure beats a later 304.
        """
        key = str(ref)
        epoch = self.epoch
        if since != epoch and await self.erased(ref, since):
            return False
        if await self._may_be_gone(ref):
            return False
        with self._changing(key):
            held = await self.memory.fetch(key)
            if held is not None and held.entry.generation == entry.generation:
                await self.memory.set(key, replace(held, entry=entry, epoch=epoch))
            if self.disk is not None:
                with _fail_open():
                    await self.disk.freshen(key, entry)
            return True

    async def drop(self, ref: MediaRef, generation: str | None = None) -> None:
        """Remove a stored response; if `generation` is given, only that one."""
        key = str(ref)
        with self._changing(key):
            held = await self.memory.fetch(key)
            if held is not None and generation in {None, held.entry.generation}:
                await self.memory.delete(key)
            if self.disk is None:
                return
            try:
                await self.disk.drop(key, generation)
            except StoreError as error:
                _warn(error)
                if generation is not None:
                    # It stays on disk, and is not used from now on.
                    self._unreadable.put(generation, None)


class LookUps:
    """The look-ups under way, one for each media: a caller that asks meanwhile waits for the same one."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[StoredResponse | None]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def find(
        self, key: str, look: Callable[[Callable[[], bool]], Awaitable[StoredResponse | None]]
    ) -> StoredResponse | None:
        """Return what `look` finds, which is given a function that tells whether nothing has changed since it began."""
        while (running := self._under_way.get(key)) is not None:
            await asyncio.wait((running,))
            # If that look-up broke off, perhaps with the reader that began it, this reader begins another one.
            if not running.cancelled():
                return running.result()
        own = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            found = await look(lambda: self._under_way.get(key) is own)
            own.set_result(found)
            return found
        finally:
            own.cancel()
            if self._under_way.get(key) is own:
                del self._under_way[key]

    def outdate(self, key: str) -> None:
        """Note that the response changes: no caller joins an earlier look-up, and RAM keeps nothing that one finds."""
        self._under_way.pop(key, None)


@contextmanager
def _fail_open() -> Iterator[None]:
    """Go on if a tier fails in here: that costs speed and no answer."""
    try:
        yield
    except StoreError as error:
        _warn(error)


def _warn(error: StoreError) -> None:
    """Log that a tier has failed."""
    _log.warning("A cache tier failed; going on without it: %s", error.note)
