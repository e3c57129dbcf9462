"""A reader's view of a fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cache.body import BLOCK

if TYPE_CHECKING:
    from proxy.cache.fills.fill import Fill


class FillBody:
    """One reader's; closing it is to leave."""

    def __init__(self, fill: Fill) -> None:
        self._fill = fill
        self._open = True

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        return await self._fill.read(offset, min(size, BLOCK))

    def expect(self, first: int, end: int) -> None:
        """Ask for nothing: the bytes come in their order."""

    async def come(self, end: int, seconds: float) -> bool:
        return await self._fill.come(end, seconds)

    @property
    def whole(self) -> bool:
        return self._fill.whole

    @property
    def utf8(self) -> bool:
        return self._fill.utf8

    async def measure(self) -> int:
        return await self._fill.measure()

    async def close(self) -> None:
        if self._open:
            self._open = False
            await self._fill.leave()
