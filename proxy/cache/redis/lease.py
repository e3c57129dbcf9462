"""The lease of a media that is being fetched: it saves the other nodes the same fetch, and excludes none of them."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

from proxy.cache.redis import scripts
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.keys import ERASED, LOG, covering, lease_name
from proxy.errors import StoreError
from proxy.telemetry.metrics import LeaseWait, Metrics

LEASE_SECONDS: Final = 5.0
"""The time for which a lease outlives a gateway that has died with it."""
_RENEWAL_SECONDS: Final = 1.5
_LONGEST_WAIT_SECONDS: Final = 30.0
_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 0.2
_UNSHARED: Final = b"-"
"""The value in a lease's place that says: what is being fetched will not be shared."""

T = TypeVar("T")


class _Holder(enum.Enum):
    """The holder of a lease, as this worker sees it."""

    US = enum.auto()
    ANOTHER = enum.auto()
    NOBODY = enum.auto()


class Turn(Generic[T]):
    """A turn to fetch: another gateway's, which has fetched it (`found`), or this one's.

    `waited`: another one was waited for.
    """

    def __init__(self, lease: _Lease | None, found: T | None, *, waited: bool) -> None:
        self._lease = lease
        self.found = found
        self.waited = waited

    async def pass_on(self) -> None:
        """Say that what is being fetched will not be shared: the others need not wait for it."""
        if self._lease is not None:
            await self._lease.pass_on()


class _Lease:
    """The lease of a key, taken under a token of its own."""

    def __init__(self, redis: RedisClient, run: str, key: str) -> None:
        self._redis = redis
        self._run = run
        self._key = key
        self._name = lease_name(run, key)
        self._token = secrets.token_hex(8).encode()
        self._held = False

    async def take(self) -> _Holder:
        """Try to take it. If that cannot be told, `NOBODY` has it."""
        try:
            holder = await self._redis.run(
                scripts.TAKE_LEASE,
                (LOG, ERASED, self._name),
                (self._run, *covering(self._key), self._token, round(LEASE_SECONDS * 1000)),
            )
        except StoreError:
            return _Holder.NOBODY
        if holder == self._token:
            self._held = True
            return _Holder.US
        return _Holder.NOBODY if holder == _UNSHARED else _Holder.ANOTHER

    async def renew(self) -> None:
        """Prolong it again and again, as long as it is held."""
        while self._held:
            await asyncio.sleep(_RENEWAL_SECONDS)
            with contextlib.suppress(StoreError):
                await self._change(self._token, LEASE_SECONDS)

    async def pass_on(self) -> None:
        """Say that nothing will be shared."""
        if self._held:
            self._held = False
            with contextlib.suppress(StoreError):
                await self._change(_UNSHARED, LEASE_SECONDS)

    async def release(self) -> None:
        """Let it go, unless another gateway has it by now."""
        if self._held:
            self._held = False
            with contextlib.suppress(StoreError):
                await self._change(b"", 0)

    async def _change(self, value: bytes, seconds: float) -> None:
        await self._redis.run(scripts.CHANGE_LEASE, (self._name,), (self._token, value, round(seconds * 1000)))


@asynccontextmanager
async def take_turn(
    redis: RedisClient, metrics: Metrics, run: str, key: str, seek: Callable[[], Awaitable[T | None]]
) -> AsyncIterator[Turn[T]]:
    """Yield what another gateway has fetched, as `seek` finds it; else the lease, which is held meanwhile.

    If Redis is away, or another gateway fetches for too long, this one fetches without a lease.
    """
    found = await seek()
    if found is not None or not redis.up:
        yield Turn(None, found, waited=False)
        return
    lease = _Lease(redis, run, key)
    holder = await lease.take()
    # What was stored between the look and the lease is there now.
    found = await seek() if holder is _Holder.US else None
    waited = holder is _Holder.ANOTHER
    if waited:
        holder, found = await _wait(lease, seek, metrics)
    renewal = asyncio.create_task(lease.renew()) if holder is _Holder.US and found is None else None
    try:
        if found is not None:
            await lease.release()
        yield Turn(lease, found, waited=waited)
    finally:
        if renewal is not None:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
        await lease.release()


async def _wait(lease: _Lease, seek: Callable[[], Awaitable[T | None]], metrics: Metrics) -> tuple[_Holder, T | None]:
    """Wait until another gateway has fetched, or lets its lease go."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + _LONGEST_WAIT_SECONDS
    pause = _FIRST_PAUSE_SECONDS
    while clock() < deadline:
        # Each at another moment, so that not all of them ask at once.
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - nothing depends on who guesses it
        pause = min(1.5 * pause, _LONGEST_PAUSE_SECONDS)
        holder = await lease.take()
        if holder is _Holder.NOBODY:
            metrics.lease_wait(LeaseWait.PASSED)
            return holder, None
        found = await seek()
        if found is not None:
            metrics.lease_wait(LeaseWait.FOUND)
            return holder, found
        if holder is _Holder.US:
            # Another gateway has had it, and nothing came of it.
            metrics.lease_wait(LeaseWait.LATE)
            return holder, None
    metrics.lease_wait(LeaseWait.LATE)
    return _Holder.NOBODY, None
