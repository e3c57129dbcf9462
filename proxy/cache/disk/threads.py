"""Blocking calls on the tier's threads: none blocks the event loop, and no cancellation leaks what a call made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from proxy.errors import StoreError

P = ParamSpec("P")
T = TypeVar("T")


async def on(threads: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call on threads; it runs to its end even if the caller is cancelled.

    Raises `StoreError` for a system error, and if the threads have stopped.
    """
    return await awaited(submit(threads, call, *args, **kwargs))


async def on_or_undo(threads: ThreadPoolExecutor, call: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Run a blocking call on threads; if the caller is cancelled, `undo` is called there with the result."""
    running = submit(threads, call)
    try:
        return await awaited(running)
    except asyncio.CancelledError:
        try:
            # Queued behind `running`, so that it never waits for a thread that it holds itself.
            threads.submit(_undo, running, undo)
        except RuntimeError:
            # The threads take no more calls, but end those that they have.
            running.add_done_callback(partial(_undo, undo=undo))
        raise


def _undo(running: Future[T], undo: Callable[[T], object]) -> None:
    if running.exception() is None:
        with contextlib.suppress(OSError):
            undo(running.result())


def _nothing() -> None:
    """Do nothing at the end of a call, as most callers want it."""


def awaited(running: Future[T], ended: Callable[[], None] = _nothing) -> asyncio.Future[T]:
    """Return a future of this loop for a call on a thread; cancelling it lets the call go on.

    `ended` is called on the loop when the call is over, even if no caller waits any more.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[T] = loop.create_future()

    # Neither function refers to the call, which refers to them: its result would stay until a garbage collection.
    def settle(over: Future[T]) -> None:
        ended()
        if waiter.done():
            # The caller was cancelled: the result, or the failure, concerns no other.
            return
        if (error := over.exception()) is None:
            waiter.set_result(over.result())
        else:
            waiter.set_exception(error)

    def tell(over: Future[T]) -> None:
        # The loop may have ended by now.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, over)

    running.add_done_callback(tell)
    return waiter


def submit(threads: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Begin a blocking call on threads. Raises `StoreError` if they have stopped."""

    def run() -> T:
        with translated():
            return call(*args, **kwargs)

    try:
        return threads.submit(run)
    except RuntimeError as error:
        raise StoreError(note="the disk tier is closed") from error


@contextmanager
def translated() -> Iterator[None]:
    """Turn a system error into a `StoreError`, whose note has no path."""
    try:
        yield
    except OSError as error:
        raise StoreError(note=f"the disk tier failed: {error.strerror or type(error).__name__}") from error
