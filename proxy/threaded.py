"""An asynchronous scope that is entered and left in a thread of its own, for programs that have no event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

_CALL_SECONDS: Final = 30.0
"""Time that one call waits for the thread, at most."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ThreadScope(Generic[T]):
    """A scope that was entered in a thread: the `value` that it gave, and the loop, which runs until `stop`."""

    value: T
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    def run(self, work: Coroutine[object, object, R]) -> R:
        """Run a coroutine on the loop, and wait for its result. Raises `RuntimeError` after the end of the scope."""
        if self.loop.is_closed():
            work.close()
            raise RuntimeError("this has ended with its scope")
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_CALL_SECONDS)

    def call(self, function: Callable[[], R]) -> R:
        """Call a function on the thread's loop, and wait for its result."""

        async def called() -> R:
            return function()

        return self.run(called())


@contextmanager
def held_in_thread(scope: AbstractAsyncContextManager[T], name: str) -> Iterator[ThreadScope[T]]:
    """Enter an asynchronous scope in a thread of its own, and leave it there. Raises what the scope raises."""
    entered: list[ThreadScope[T]] = []
    settled = threading.Event()

    async def hold() -> None:
        async with scope as value:
            stop = asyncio.Event()
            entered.append(ThreadScope(value, asyncio.get_running_loop(), stop))
            settled.set()
            await stop.wait()

    with ThreadPoolExecutor(1, thread_name_prefix=name) as thread:
        ended = thread.submit(lambda: asyncio.run(hold()))
        ended.add_done_callback(lambda _: settled.set())
        settled.wait()
        try:
            if entered:
                yield entered[0]
        finally:
            for held in entered:
                held.loop.call_soon_threadsafe(held.stop.set)
            ended.result()
