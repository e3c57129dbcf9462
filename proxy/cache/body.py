"""Where the bytes of an answer are read from: RAM, a file of the disk tier, or a fill that is under way."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from proxy.cache.disk.store import BodyFile
from proxy.errors import StoreError

BLOCK: Final = 262_144
"""Bytes read and written at a time."""

_PATIENCE: Final = 30.0
"""Seconds that the end of a body is held back for its check, where many wait for theirs."""


class Body(Protocol):
    """Random access to the bytes of one representation."""

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """From 1 to `size` bytes from `offset`, waiting for bytes that are still to come; empty only at the end.

        Raises `UpstreamError` where a fill fails before it has the bytes, `StoreError` where a file cannot be read.
        """
        ...

    def expect(self, first: int, end: int) -> None:
        """Note that the bytes from `first` to before `end` will be read in order, as far as their reader stays."""
        ...

    async def come(self, end: int, seconds: float) -> bool:
        """Wait at most so many seconds for the bytes before `end`; return whether they, or all bytes, have come.

        Raises `UpstreamError` where a fill has failed by then.
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
        """The length in bytes, once it is known for certain; waits for a fill's end where nothing announced it."""
        ...

    async def close(self) -> None:
        """Give back what the reading holds."""
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
        # All readers share the bytes.
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
        """The open file, whose bytes may be sent from it once they are `ready`."""
        return self._file.descriptor

    def is_ready(self, offset: int, size: int) -> bool:
        """Whether these bytes, at least one, may be sent now."""
        return self._file.damaged is False and self._file.is_warm(offset, size)

    async def ready(self, offset: int, size: int) -> None:
        """Wait until these bytes, at least one, may be sent without waiting for the disk. Raises `StoreError`."""
        await self._check_end(offset + size)
        if self._file.damaged:
            raise StoreError(note="a stored body is damaged")
        await self._file.warm(offset, size)

    async def _check_end(self, end: int) -> None:
        """The end is held back until the bytes are known to be those that were stored: no whole answer is wrong.

        What has still not had its turn goes out as it is, and is dropped once it is found damaged.
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
        """The same without waiting."""
        if self._open:
            self._open = False
            self._file.release()
