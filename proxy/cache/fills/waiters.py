"""Readers that wait for bytes of a fill: each is woken once, when the byte that it waits for has come."""

from __future__ import annotations

import asyncio
from typing import Final

HEAD: Final = -1
"""The offset that who waits for the head waits at."""
END: Final = 1 << 62
"""The offset that who waits for the end waits at."""


class Waiters:
    """Those of one fill, by the offset that each waits at."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def wait(self, offset: int) -> None:
        """Until the byte at that offset has come, or there is nothing more to wait for."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((offset, waiter))
        await waiter

    def wake(self, received: int) -> None:
        """So many bytes have come."""
        still: list[tuple[int, asyncio.Future[None]]] = []
        for offset, waiter in self._waiting:
            if waiter.done():
                # Its reader has gone.
                continue
            if offset < received:
                waiter.set_result(None)
            else:
                still.append((offset, waiter))
        self._waiting = still

    def wake_all(self) -> None:
        """There is nothing more to wait for."""
        self.wake(END + 1)
