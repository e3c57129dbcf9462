"""The look-ups under way: one for each media, however many ask for it at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from proxy.cache.stored import Stored


class LookUps:
    """Whoever asks while a look-up is under way waits for what it finds."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[Stored | None]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def find(self, key: str, look: Callable[[Callable[[], bool]], Awaitable[Stored | None]]) -> Stored | None:
        """What `look` finds. It is given a function that tells whether nothing has changed since it began."""
        while (running := self._under_way.get(key)) is not None:
            await asyncio.wait((running,))
            # A look-up that broke off, as with the reader whose it was, is another reader's now.
            if not running.cancelled():
                return running.result()
        own = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            found = await look(lambda: self._under_way.get(key) is own)
            own.set_result(found)
            return found
        finally:
            own.cancel()
            if self._under_way.get(key) is own:
                del self._under_way[key]

    def outdate(self, key: str) -> None:
        """What is stored changes: nobody joins the look-up of before, and what it finds is kept nowhere."""
        self._under_way.pop(key, None)
