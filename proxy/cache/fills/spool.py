"""The bytes of a fill as they come, between the upstream that sends them and the readers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from proxy.cache.body import BLOCK
from proxy.cache.checksum import Checksum, checksum
from proxy.cache.disk.store import BodyFile, DiskStore
from proxy.cache.fills.buffer import Received
from proxy.errors import Overloaded, StoreError

_WRITTEN: Final = 2 * BLOCK
"""Bytes that go to the disk at a time, at least."""
_LONGEST_TAIL: Final = 2 * _WRITTEN
_RECENT: Final = _LONGEST_TAIL
"""The last bytes that came stay in RAM also when they are in the file, for those who read close behind the fill."""


class Allowance:
    """How many bytes all spools together may hold in RAM."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes
        self._scarce = max_bytes // 2

    @property
    def plenty(self) -> bool:
        """Whether there is room for what could as well be read from a file."""
        return self._free >= self._scarce

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

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """From 1 to `size` bytes that have been received, from `offset`; empty at the end. Raises `StoreError`."""
        ...

    async def settle(self) -> tuple[bytes | BodyFile, str] | None:
        """After the last byte: all of them, in RAM or in a file, and their checksum.

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

    Only what the reader has not taken yet is held, in RAM (RFC 9111 §5.2.2.5), and the fill waits for the reader. Where
    the reader gets nothing before all of it has come (`whole`), there is no waiting, and the allowance bounds it.
    """

    lasting = False

    def __init__(self, allowance: Allowance, *, whole: bool = False) -> None:
        self.received = 0
        self._whole = whole
        self._tail = Received()
        self._allowance = allowance
        self._room = asyncio.Event()

    async def append(self, chunk: bytes) -> None:
        self._allowance.take(len(chunk))
        self._tail.append(chunk)
        self.received += len(chunk)
        while len(self._tail) >= _LONGEST_TAIL and not self._whole:
            self._room.clear()
            await self._room.wait()

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        self._drop(offset - self._tail.begins)
        return self._tail.read(offset, size)

    async def settle(self) -> None:
        """Nothing is stored."""

    async def close(self, *, kept: bool) -> None:
        self._drop(len(self._tail))

    def _drop(self, size: int) -> None:
        self._tail.drop(size)
        self._allowance.give(size)
        self._room.set()


class Spool:
    """The bytes of a response that is to be stored, for any number of readers.

    Up to `keep` bytes stay in RAM alone. Past that, what has come goes to a file of the disk tier off the loop, many
    blocks at a time, and the writer of bytes waits when the disk falls behind. A disk that fails is left alone: the
    rest stays in RAM within the allowance, and the bytes are then not stored.
    """

    def __init__(self, generation: str, disk: DiskStore | None, keep: int, allowance: Allowance) -> None:
        self.received = 0
        self._generation = generation
        self._disk = disk
        self._keep = keep
        self._allowance = allowance
        self._file: BodyFile | None = None
        # The last bytes that came. Those before `_filed` are in the file as well.
        self._tail = Received()
        self._filed = 0
        self._checksum = Checksum()
        self._spilling: asyncio.Task[None] | None = None
        self._disk_failed = False
        self._closing = False

    @property
    def lasting(self) -> bool:
        return self.received <= self._keep or self._usable_disk is not None

    async def append(self, chunk: bytes) -> None:
        if not self._allowance.plenty:
            self._forget_filed(0)
        self._allowance.take(len(chunk))
        self._tail.append(chunk)
        self.received += len(chunk)
        disk = self._usable_disk
        if disk is None or self.received <= self._keep or self._unfiled < _WRITTEN:
            return
        if self._spilling is None:
            self._spilling = asyncio.create_task(self._spill(disk, _WRITTEN))
        if self._unfiled >= _LONGEST_TAIL:
            await asyncio.shield(self._spilling)

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        begins = self._tail.begins
        if offset < begins:
            assert self._file is not None
            return await self._file.read(offset, min(size, begins - offset))
        return self._tail.read(offset, size)

    async def settle(self) -> tuple[bytes | BodyFile, str] | None:
        if self._spilling is not None:
            await asyncio.shield(self._spilling)
        if self._file is None and self.received <= self._keep:
            content = self._tail.whole()
            return content, checksum(content)
        if (disk := self._usable_disk) is not None:
            await self._spill(disk, 1)
        self._forget_filed(0)
        return (self._file, self._checksum.text()) if self._file is not None and not self._unfiled else None

    async def close(self, *, kept: bool) -> None:
        self._closing = True
        if self._spilling is not None:
            # A write on a thread cannot be called back, and its descriptor must stay open as long as it runs.
            await self._spilling
        self._allowance.give(self._tail.drop_until(self.received))
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

    @property
    def _unfiled(self) -> int:
        """How many bytes are not in the file."""
        return self.received - self._filed

    async def _spill(self, disk: DiskStore, at_least: int) -> None:
        try:
            if self._file is None:
                self._file = await disk.begin(self._generation)
            while self._unfiled >= at_least and not self._closing:
                pieces, end = self._tail.pieces(self._filed), self.received
                await self._file.write(pieces, self._filed, self._checksum)
                self._filed = end
                self._forget_filed(_RECENT if self._allowance.plenty else 0)
        except StoreError:
            self._disk_failed = True
        finally:
            self._spilling = None

    def _forget_filed(self, recent: int) -> None:
        """Let go of what is in the file, but for the last `recent` bytes that came, in whole pieces."""
        self._allowance.give(self._tail.drop_until(min(self._filed, self.received - recent)))
