"""The bytes of a fill as they come, between the upstream that sends them and the readers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Final, Protocol

from proxy.cache.body import BLOCK
from proxy.cache.disk import BodyFile, DiskStore
from proxy.errors import Overloaded, StoreError

_LONGEST_TAIL: Final = 4 * BLOCK


class Allowance:
    """How many bytes all spools together may hold in RAM."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes

    def take(self, size: int) -> None:
        """Count bytes in. Raises `Overloaded` where there is no room."""
        if size > self._free:
            raise Overloaded("The gateway holds as many unfinished media as it can.")
        self._free -= size

    def give(self, size: int) -> None:
        """Count bytes out."""
        self._free += size


class Bytes(Protocol):
    """What a fill writes to and its readers read from."""

    received: int

    @property
    def lasting(self) -> bool:
        """Whether the bytes may still be stored. Else they are for those alone who read them now."""
        ...

    async def append(self, chunk: bytes) -> None:
        """Add bytes at the end. Raises `Overloaded`."""
        ...

    async def read(self, offset: int, size: int) -> bytes:
        """From 1 to `size` bytes that have been received, from `offset`; empty at the end. Raises `StoreError`."""
        ...

    async def settle(self) -> tuple[bytes | BodyFile, str] | None:
        """After the last byte: all of them, in RAM or in a file, and their SHA-256.

        None where neither holds all of them, or none may be stored.
        """
        ...

    async def close(self, *, kept: bool) -> None:
        """Free the RAM and the descriptor; the file too, unless it was `kept` as a stored response.

        It has to run to its end.
        """
        ...


class Window:
    """The bytes of a response that may not be stored, for one reader in order.

    Only what the reader has not taken yet is held, in RAM (RFC 9111 §5.2.2.5), and the fill waits for the reader.
    """

    lasting = False

    def __init__(self, allowance: Allowance) -> None:
        self.received = 0
        self._taken = 0
        self._tail = bytearray()
        self._allowance = allowance
        self._room = asyncio.Event()

    async def append(self, chunk: bytes) -> None:
        self._allowance.take(len(chunk))
        self._tail += chunk
        self.received += len(chunk)
        while len(self._tail) >= _LONGEST_TAIL:
            self._room.clear()
            await self._room.wait()

    async def read(self, offset: int, size: int) -> bytes:
        self._drop(offset - self._taken)
        return _slice(self._tail, 0, size)

    async def settle(self) -> None:
        """Nothing is stored."""

    async def close(self, *, kept: bool) -> None:
        self._drop(len(self._tail))

    def _drop(self, size: int) -> None:
        del self._tail[:size]
        self._taken += size
        self._allowance.give(size)
        self._room.set()


class Spool:
    """The bytes of a response that is to be stored, for any number of readers.

    Up to `keep` bytes stay in RAM alone. Past that, full blocks go to a file of the disk tier off the loop, and the
    writer of bytes waits when the disk falls behind. A disk that fails is left alone: the rest stays in RAM within
    the allowance, and the bytes are then not stored.
    """

    def __init__(self, generation: str, disk: DiskStore | None, keep: int, allowance: Allowance) -> None:
        self.received = 0
        self._generation = generation
        self._disk = disk
        self._keep = keep
        self._allowance = allowance
        self._file: BodyFile | None = None
        self._filed = 0
        self._tail = bytearray()
        self._hash = hashlib.sha256()
        self._spilling: asyncio.Task[None] | None = None
        self._disk_failed = False
        self._closing = False
        self._last_read: tuple[int, bytes] = 0, b""

    @property
    def lasting(self) -> bool:
        return self.received <= self._keep or self._usable_disk is not None

    async def append(self, chunk: bytes) -> None:
        self._allowance.take(len(chunk))
        self._tail += chunk
        self.received += len(chunk)
        disk = self._usable_disk
        if disk is None or self.received <= self._keep or len(self._tail) < BLOCK:
            return
        if self._spilling is None:
            self._spilling = asyncio.create_task(self._spill(disk, BLOCK))
        if len(self._tail) >= _LONGEST_TAIL:
            await asyncio.shield(self._spilling)

    async def read(self, offset: int, size: int) -> bytes:
        if offset < self._filed:
            assert self._file is not None
            return await self._file.read(offset, min(size, self._filed - offset))
        # Readers that keep up with the fill ask for the same bytes: one copy for all of them.
        at, block = self._last_read
        if at != offset or len(block) != min(size, self.received - offset):
            start = offset - self._filed
            block = _slice(self._tail, start, start + size)
            self._last_read = offset, block
        return block

    async def settle(self) -> tuple[bytes | BodyFile, str] | None:
        if self._spilling is not None:
            await asyncio.shield(self._spilling)
        if self._file is None:
            content = bytes(self._tail) if len(self._tail) <= self._keep else None
            return (content, hashlib.sha256(content).hexdigest()) if content is not None else None
        if (disk := self._usable_disk) is not None:
            await self._spill(disk, 1)
        return (self._file, self._hash.hexdigest()) if not self._tail else None

    async def close(self, *, kept: bool) -> None:
        self._closing = True
        if self._spilling is not None:
            # A write on a thread cannot be called back, and its descriptor must stay open as long as it runs.
            await self._spilling
        self._allowance.give(len(self._tail))
        self._tail.clear()
        self._last_read = 0, b""
        if self._file is not None and self._disk is not None:
            # What a failing disk leaves there is reclaimed when the gateway has ended.
            with contextlib.suppress(StoreError):
                await self._file.close()
            if not kept:
                with contextlib.suppress(StoreError):
                    await self._disk.discard(self._file)

    @property
    def _usable_disk(self) -> DiskStore | None:
        return None if self._disk_failed else self._disk

    async def _spill(self, disk: DiskStore, at_least: int) -> None:
        try:
            if self._file is None:
                self._file = await disk.begin(self._generation)
            while len(self._tail) >= at_least and not self._closing:
                block = _slice(self._tail, 0, BLOCK)
                await self._file.write(block, self._filed, self._hash)
                del self._tail[: len(block)]
                self._filed += len(block)
                self._allowance.give(len(block))
        except StoreError:
            self._disk_failed = True
        finally:
            self._spilling = None


def _slice(buffer: bytearray, start: int, stop: int) -> bytes:
    """A part of a buffer, copied once."""
    with memoryview(buffer) as view:
        return bytes(view[start:stop])
