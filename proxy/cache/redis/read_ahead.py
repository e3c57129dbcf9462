"""Reading ahead: parts of a body are asked for before their reader comes to them, so that a far Redis costs one way.

A body has at most `AHEAD` parts that are asked for or wait to be read, and all bodies of a worker together have at most
`ALL_AHEAD`. Beyond that, a part is asked for when its reader comes to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

AHEAD: Final = 4
"""The parts of one body."""
ALL_AHEAD: Final = 16
"""The parts of all bodies of a worker; each holds a chunk in RAM once it has come."""


@dataclass(slots=True)
class PartsAhead:
    """The number of parts that all bodies of a worker may still ask for ahead."""

    free: int = ALL_AHEAD


class ReadAhead:
    """The parts of one body, which its one reader takes in order. `read` gives the part of a number.

    It is closed by its owner.
    """

    def __init__(self, read: Callable[[int], Awaitable[bytes]], parts_ahead: PartsAhead) -> None:
        self._read = read
        self._parts_ahead = parts_ahead
        self._under_way: dict[int, asyncio.Task[bytes]] = {}

    async def take(self, number: int, end: int) -> bytes:
        """Return a part, and ask for those behind it up to `end`, which is not one of them. Raises what `read` raises.

        The part stays until another one is taken or it is let go.
        """
        await self._drop([other for other in self._under_way if not number <= other < number + AHEAD])
        for following in range(number, min(number + AHEAD, end)):
            if following not in self._under_way and self._parts_ahead.free > 0:
                self._parts_ahead.free -= 1
                self._under_way[following] = asyncio.create_task(self._part(following))
        known = self._under_way.get(number)
        return await (self._read(number) if known is None else known)

    async def _part(self, number: int) -> bytes:
        return await self._read(number)

    async def let_go(self) -> None:
        """Give up all parts that have not been taken."""
        await self._drop(list(self._under_way))

    async def _drop(self, numbers: Sequence[int]) -> None:
        tasks = [self._under_way.pop(number) for number in numbers]
        self._parts_ahead.free += len(tasks)
        for task in tasks:
            task.cancel()
        # Their failures concern no reader now.
        await asyncio.gather(*tasks, return_exceptions=True)
