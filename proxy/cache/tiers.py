"""RAM over disk: where a stored response is found, kept, freshened and dropped.

A tier that fails costs speed and never an answer: it is logged, counted and passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from proxy.cache.body import Body, FileBody, RamBody
from proxy.cache.disk import BodyFile, DiskStore
from proxy.cache.entry import Entry
from proxy.cache.memory import Held, MemoryBackend
from proxy.erasure import Reach
from proxy.errors import StoreError
from proxy.model import MediaRef
from proxy.semantics.stored import StoredMetadata

_log = logging.getLogger("media_gateway.cache")


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored response as found: its entry, and its bytes where RAM has them."""

    entry: Entry
    content: bytes | None

    @property
    def metadata(self) -> StoredMetadata:
        return self.entry.metadata


class Erasures(Protocol):
    """Who knows what was erased."""

    @property
    def epoch(self) -> int:
        """The number of the last erasure."""
        ...

    async def erase(self, prefix: str) -> None:
        """Erase every key that begins with `prefix`. Raises `StoreError`."""
        ...

    async def erased(self, key: str, since: int) -> bool:
        """Whether a key was, or may have been, erased after the erasure of that number. Raises `StoreError`."""
        ...


class LoneErasures:
    """The erasures of one process, where there is no folder to share: each counts for every key."""

    def __init__(self) -> None:
        self.epoch = 0

    async def erase(self, prefix: str) -> None:
        self.epoch += 1

    async def erased(self, key: str, since: int) -> bool:
        return since < self.epoch


class Tiers:
    """The RAM tier, and the disk tier where there is one. `ram_object_bytes`: the largest body that RAM holds."""

    def __init__(self, memory: MemoryBackend, disk: DiskStore | None, *, ram_object_bytes: int) -> None:
        self.memory = memory
        self.disk = disk
        self.ram_object_bytes = ram_object_bytes
        self._erasures: Erasures = disk or LoneErasures()

    @property
    def epoch(self) -> int:
        """The number of the last erasure, by any worker of the folder."""
        return self._erasures.epoch

    async def erase(self, reach: Reach) -> None:
        """Erase for every worker at once, also what is being fetched. Raises `StoreError` where that cannot be done."""
        await self._erasures.erase(reach.prefix)
        await self.memory.clear(namespace=reach.prefix)

    async def erased(self, ref: MediaRef, since: int) -> bool:
        """Whether a media was erased after that erasure; where it cannot be told, it was: erasure must win."""
        try:
            return await self._erasures.erased(str(ref), since)
        except StoreError:
            return True

    def room_for(self, length: int | None) -> bool:
        """Whether a body of that length could be stored; None is a length that is not known yet."""
        size = length or 0
        return size <= self.ram_object_bytes if self.disk is None else size <= self.disk.max_bytes

    async def find(self, ref: MediaRef) -> Stored | None:
        """The stored response of a media."""
        key = str(ref)
        epoch = self.epoch
        held = await self._held(ref, key, epoch)
        if held is not None:
            if self.disk is not None:
                self.disk.touch(key)
            return Stored(held.entry, held.body)
        if self.disk is None:
            return None
        with _fail_open():
            entry = await self.disk.backend.fetch(key)
            if entry is not None:
                self.disk.touch(key)
                return await self._promote(key, entry, self.disk, epoch)
        return None

    async def _held(self, ref: MediaRef, key: str, epoch: int) -> Held | None:
        held = await self.memory.fetch(key)
        if held is None or held.epoch == epoch:
            return held
        # Something was erased since this was last looked up.
        if await self.erased(ref, held.epoch):
            await self.memory.delete(key)
            return None
        held = replace(held, epoch=epoch)
        await self.memory.set(key, held)
        return held

    async def _promote(self, key: str, entry: Entry, disk: DiskStore, epoch: int) -> Stored | None:
        content: bytes | None = None
        if entry.length <= self.ram_object_bytes:
            content = await disk.read_body(entry)
            if content is None:
                await disk.drop(key, entry.generation)
                return None
        await self.memory.set(key, Held(entry, content, epoch))
        return Stored(entry, content)

    async def open(self, ref: MediaRef, stored: Stored) -> Body | None:
        """The bytes of a stored response; None where they are gone, and the response is then dropped."""
        if stored.content is not None:
            return RamBody(stored.content)
        if self.disk is not None:
            with _fail_open():
                file = await self.disk.open_body(stored.entry)
                if file is not None:
                    return FileBody(file, stored.entry.length)
        await self.drop(ref, stored.entry.generation)
        return None

    async def keep(self, ref: MediaRef, entry: Entry, content: bytes | BodyFile) -> bool:
        """Store a whole body, unless it was erased since `entry.epoch`.

        Returns whether a file that was given now belongs to the disk tier.
        """
        key = str(ref)
        if isinstance(content, bytes):
            # What was erased since is found out at the next look-up, by the epoch.
            await self.memory.set(key, Held(entry, content, entry.epoch))
            if self.disk is not None:
                with _fail_open():
                    await self.disk.put(key, entry, content)
            return False
        kept = False
        if self.disk is not None:
            with _fail_open():
                kept = await self.disk.commit(key, entry, content)
        if kept:
            await self.memory.set(key, Held(entry, None, entry.epoch))
        else:
            await self.memory.delete(key)
        return kept

    async def freshen(self, ref: MediaRef, entry: Entry) -> bool:
        """Replace the metadata of a stored response whose bytes stay (RFC 9111 §4.3.4).

        False where it was erased since its fill began: an erasure beats a later 304.
        """
        key = str(ref)
        epoch = self.epoch
        if await self.erased(ref, entry.epoch):
            return False
        held = await self.memory.fetch(key)
        if held is not None and held.entry.generation == entry.generation:
            await self.memory.set(key, Held(entry, held.body, epoch))
        if self.disk is not None:
            with _fail_open():
                await self.disk.freshen(key, entry)
        return True

    async def drop(self, ref: MediaRef, generation: str | None = None) -> None:
        """Remove a stored response, where `generation` is given only that one."""
        key = str(ref)
        held = await self.memory.fetch(key)
        if held is not None and generation in {None, held.entry.generation}:
            await self.memory.delete(key)
        if self.disk is not None:
            with _fail_open():
                await self.disk.drop(key, generation)


@contextmanager
def _fail_open() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        _log.warning("A cache tier failed; going on without it: %s", error.note)
