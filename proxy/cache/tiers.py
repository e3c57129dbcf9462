"""RAM over disk: where a stored response is found, kept, freshened and dropped.

A tier that fails costs speed and never an answer: it is logged, counted and passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.cache.body import Body, FileBody, RamBody
from proxy.cache.disk import BodyFile, DiskStore
from proxy.cache.entry import Entry
from proxy.cache.memory import Held, MemoryBackend
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


class Tiers:
    """The RAM tier, and the disk tier where there is one. `ram_object_bytes`: the largest body that RAM holds."""

    def __init__(self, memory: MemoryBackend, disk: DiskStore | None, *, ram_object_bytes: int) -> None:
        self.memory = memory
        self.disk = disk
        self.ram_object_bytes = ram_object_bytes

    def room_for(self, length: int | None) -> bool:
        """Whether a body of that length could be stored; None is a length that is not known yet."""
        size = length or 0
        return size <= self.ram_object_bytes if self.disk is None else size <= self.disk.max_bytes

    async def find(self, ref: MediaRef) -> Stored | None:
        """The stored response of a media."""
        key = str(ref)
        held = await self.memory.fetch(key)
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
                return await self._promote(key, entry, self.disk)
        return None

    async def _promote(self, key: str, entry: Entry, disk: DiskStore) -> Stored | None:
        content: bytes | None = None
        if entry.length <= self.ram_object_bytes:
            file = await disk.open_body(entry)
            if file is None:
                await disk.drop(key, entry.generation)
                return None
            try:
                content = await file.read(0, entry.length) if entry.length else b""
            finally:
                await file.close()
            if len(content) != entry.length:
                await disk.drop(key, entry.generation)
                return None
        await self.memory.set(key, Held(entry, content))
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
        """Store a whole body. Returns whether a file that was given now belongs to the disk tier."""
        key = str(ref)
        if isinstance(content, bytes):
            await self.memory.set(key, Held(entry, content))
            if self.disk is not None:
                with _fail_open():
                    await self.disk.put(key, entry, content)
            return False
        kept = False
        if self.disk is not None:
            with _fail_open():
                await self.disk.commit(key, entry, content)
                kept = True
        if kept:
            await self.memory.set(key, Held(entry, None))
        else:
            await self.memory.delete(key)
        return kept

    async def freshen(self, ref: MediaRef, entry: Entry) -> None:
        """Replace the metadata of a stored response whose bytes stay (RFC 9111 §4.3.4)."""
        key = str(ref)
        held = await self.memory.fetch(key)
        if held is not None and held.entry.generation == entry.generation:
            await self.memory.set(key, Held(entry, held.body))
        if self.disk is not None:
            with _fail_open():
                await self.disk.freshen(key, entry)

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
