"""The bytes of a fill on their way from the upstream to the readers, and to the tiers if they may be stored."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from proxy.cache.body import BLOCK
from proxy.cache.checksum import Checksum, checksum
from proxy.cache.disk.files import BodyFile
from proxy.cache.disk.store import DiskStore
from proxy.cache.fills.buffer import Buffer
from proxy.errors import Overloaded, StoreError

_WRITTEN: Final = 2 * BLOCK
"""The fewest bytes that are written to the disk at a time, but for the last ones."""
_LONGEST_TAIL: Final = 2 * _WRITTEN
_RECENT: Final = _LONGEST_TAIL
"""The last bytes that came stay in RAM even if the file has them, for the readers close behind the fill."""


class Allowance:
    """The number of bytes that all spools together may hold in RAM."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes
        self._scarce = max_bytes // 2

    @property
    def plenty(self) -> bool:
        """Return whether there is room for bytes that could as well be read from a file."""
        return self._free >= self._scarce

    def take(self, size: int) -> None:
        """Count bytes in. Raises `Overloaded` if there is no room."""
        if size > self._free:
            raise Overloaded("The gateway holds as many unfinished media as it can.")
        self._free -= size

    def give(self, size: int) -> None:
        """Count bytes out."""
        self._free += size


class Bytes(Protocol):
    """The store that a fill writes to and its readers read from."""

    received: int

    @property
    def lasting(self) -> bool:
        """Return whether the bytes may still be stored; if not, they are for the present readers alone."""
        ...

    async def append(self, chunk: bytes) -> None:
        """Add bytes at the end. Raises `Overloaded`."""
        ...

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return 1 to `size` received bytes from `offset`, or no bytes at the end. Raises `StoreError`."""
        ...

    async def settle(self) -> tuple[bytes | BodyFile, str] | None:
        """Return all bytes, in RAM or in a file, and their checksum, once the last one has come.

        None if neither holds all of them, or they may not be stored.
        """
        ...

    async def close(self, *, kept: bool) -> None:
        """Free the RAM and the descriptor, and the file too unless it was `kept` as a stored response.

        The caller must let it run to its end.
        """
        ...


class Window:
    """The bytes of a response that may not be stored, for one reader in order.

    Only what the reader has not taken yet is held, in RAM (RFC 9111 §5.2.2.5), and the fill waits for the reader. If
    the reader gets nothing before all bytes have come (`whole`), the fill does not wait, and the allowance alone bounds
    the bytes.
    """

    lasting = False

    def __init__(self, allowance: Allowance, *, whole: bool = False) -> None:
        self.received = 0
        self._whole = whole
        self._tail = Buffer()
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
        """Store nothing."""

    async def close(self, *, kept: bool) -> None:
        self._drop(len(self._tail))

    def _drop(self, size: int) -> None:
        self._tail.drop(size)
        self._allowance.give(size)
        self._room.set()


class Spool:
    """The bytes of a response that is to be stored, for any number of readers.

    Up to `keep` bytes stay in RAM alone. Beyond that, bytes go to a file of the disk tier, many blocks at a time and
    off the loop, and the fill waits if the disk falls behind. A disk that fails is not written to again: the rest stays
    in RAM within the allowance, and the bytes are not stored.
    """

    def __init__(self, generation: str, disk: DiskStore | None, keep: int, allowance: Allowance) -> None:
        self.received = 0
        self._generation = generation
        self._disk = disk
        self._keep = keep
        self._allowance = allowance
        self._file: BodyFile | None = None
        # The last bytes that came; the file has those before `_filed` as well.
        self._tail = Buffer()
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
            # A write on a thread cannot be cancelled, and needs its descriptor until it ends.
            await self._spilling
        self._allowance.give(self._tail.drop_until(self.received))
        if self._file is not None and self._disk is not None:
            # A file that a failing disk does not remove is reclaimed after the gateway has ended.
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
        """Return the number of bytes that the file does not have."""
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
        """Drop the pieces that the file has, but for the last `recent` bytes that came."""
        self._allowance.give(self._tail.drop_until(min(self._filed, self.received - recent)))
