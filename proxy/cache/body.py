"""The bodies of answers: bytes in RAM, a file of the disk tier, or a fill that is under way."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from proxy.cache.disk.files import BodyFile
from proxy.errors import StoreError

BLOCK: Final = 262_144
"""The bytes that are read and written at a time."""

_PATIENCE: Final = 30.0
"""The most seconds for which the end of a body is held back until it is checked."""


class Body(Protocol):
    """Random access to the bytes of one representation."""

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return 1 to `size` bytes from `offset`, waiting for bytes that are still to come; none only at the end.

        Raises `UpstreamError` if a fill fails before it has the bytes, and `StoreError` if a file cannot be read.
        """
        ...

    def expect(self, first: int, end: int) -> None:
        """Note that the bytes from `first` to before `end` will be read in order, for as long as their reader stays."""
        ...

    async def come(self, end: int, seconds: float) -> bool:
        """Wait at most this many seconds for the bytes before `end`; return whether they, or all bytes, have come.

        Raises `UpstreamError` if a fill has failed by then.
        """
        ...

    @property
    def whole(self) -> bool:
        """Return whether all bytes have come."""
        ...

    @property
    def utf8(self) -> bool:
        """Return whether this is text that says no charset, and is known to be UTF-8 that is not all ASCII."""
        ...

    async def measure(self) -> int:
        """Return the length in bytes once it is certain: at the fill's end if the upstream has not announced it."""
        ...

    async def close(self) -> None:
        """Free what this reader holds."""
        ...


class StoredBody:
    """Bytes that have all come."""

    whole: Final = True

    def __init__(self, *, utf8: bool) -> None:
        self.utf8: Final = utf8

    def expect(self, first: int, end: int) -> None:
        """Ask for nothing: the bytes are here."""

    async def come(self, end: int, seconds: float) -> bool:
        return True


class RamBody(StoredBody):
    """Bytes in RAM."""

    def __init__(self, content: bytes, *, utf8: bool = False) -> None:
        super().__init__(utf8=utf8)
        self._content = content

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        if offset == 0 and size >= len(self._content):
            return self._content
        # All readers share the bytes, without a copy.
        return memoryview(self._content)[offset : offset + size]

    async def measure(self) -> int:
        return len(self._content)

    async def close(self) -> None:
        """Hold nothing."""


class FileBody(StoredBody):
    """A whole file of the disk tier."""

    def __init__(self, file: BodyFile, length: int, *, utf8: bool = False) -> None:
        super().__init__(utf8=utf8)
        self._file = file
        self._length = length
        self._open = True

    async def read(self, offset: int, size: int) -> bytes:
        await self._check_end(offset + size)
        return await self._file.read(offset, max(0, min(size, self._length - offset)))

    @property
    def descriptor(self) -> int:
        """The open file, from which bytes may be sent once they are `ready`."""
        return self._file.descriptor

    def is_ready(self, offset: int, size: int) -> bool:
        """Return whether these bytes, at least one, may be sent now."""
        return self._file.damaged is False and self._file.is_warm(offset, size)

    async def ready(self, offset: int, size: int) -> None:
        """Wait until these bytes, at least one, may be sent without waiting for the disk. Raises `StoreError`."""
        await self._check_end(offset + size)
        if self._file.damaged:
            raise StoreError(note="a stored body is damaged")
        await self._file.warm(offset, size)

    async def _check_end(self, end: int) -> None:
        """Hold the end back until the bytes are known to be those that were stored, so that no whole answer is wrong.

        A file that has not been checked in time goes out as it is, and is dropped once it is found damaged.
        """
        if end >= self._length and self._file.damaged is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._file.checked()

    async def measure(self) -> int:
        return self._length

    async def close(self) -> None:
        if self._open:
            self._open = False
            await self._file.close()

    def release(self) -> None:
        """Close the file without waiting."""
        if self._open:
            self._open = False
            self._file.release()
