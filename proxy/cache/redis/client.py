"""The calls of one worker to Redis: a bounded pool, a bound on each wait, and nothing asked of it while it is away.

A slow answer counts against Redis, never what keeps this worker itself: neither the wait for one of its own
connections nor the time in which the worker did not come to read (`answer_within`). A crowd of cold readers would
otherwise cut a busy worker off, and each node would fetch for itself just when that costs most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as NoAnswer

from proxy.cache.redis.pools import make_pool
from proxy.errors import SharedTierAway, StoreError
from proxy.settings import SentinelService, SharedServer
from proxy.telemetry.metrics import Metrics, SharedCall

_log: Final = logging.getLogger("media_gateway.cache")

SECONDS: Final = 1.0
"""The longest that Redis may take to answer a call, unless the settings say otherwise."""
_CONNECTIONS: Final = 32
_REPLICA_SECONDS: Final = 0.3
"""The time that a replica has to take over what must outlive a fail-over."""
_TICKS: Final = 4
"""The parts in which a wait is measured."""

T = TypeVar("T")
Value = str | bytes | int | float


@asynccontextmanager
async def answer_within(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` if the body waits for longer than `seconds` while this worker runs.

    The time is measured in parts, each of which begins when the worker has come to see the end of the one before. So an
    answer that has come is always read before the time is over, however long the worker was kept from reading it, by
    its own work or by other processes.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as limit:

        def tick(left: int) -> None:
            nonlocal timer
            if left:
                timer = loop.call_later(seconds / _TICKS, tick, left - 1)
            else:
                limit.reschedule(loop.time())

        timer = loop.call_later(seconds / _TICKS, tick, _TICKS - 1)
        try:
            yield
        finally:
            timer.cancel()


class RedisClient:
    """Calls of Redis, each of which raises `StoreError` if it fails, and `SharedTierAway` if there is no answer.

    After such a failure Redis is taken to be away: calls fail at once, but for those that are `probing`, until one of
    these succeeds. What went wrong is logged once, not for each call.
    """

    def __init__(self, server: SharedServer, metrics: Metrics, *, seconds: float = SECONDS) -> None:
        self._metrics = metrics
        self._seconds = seconds
        self._replicated = isinstance(server, SentinelService)
        self._pool = make_pool(server, _CONNECTIONS)
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self.client: Redis = Redis(connection_pool=self._pool)
        self._scripts: dict[str, Callable[..., Awaitable[object]]] = {}
        self._up: bool | None = None

    @property
    def up(self) -> bool:
        """Return whether Redis answered when it was last asked; True before that."""
        return self._up is not False

    async def close(self) -> None:
        """Close every connection."""
        await self.client.aclose()
        await self._pool.disconnect()
        self._metrics.shared_up(up=False)

    async def call(self, work: Callable[[Redis], Awaitable[T]], *, probing: bool = False) -> T:
        """Return what `work` gets from Redis. Raises `StoreError`."""
        self._check(probing=probing)
        try:
            async with answer_within(self._seconds):
                await self._places.acquire()
        except TimeoutError as error:
            self._metrics.shared_call(SharedCall.SLOW)
            raise StoreError(note="too many calls of the shared tier are under way") from error
        try:
            # The calls before this one may have found that Redis is away.
            self._check(probing=probing)
            return await self._answered(work)
        finally:
            self._places.release()

    def _check(self, *, probing: bool) -> None:
        if not self.up and not probing:
            self._metrics.shared_call(SharedCall.SKIPPED)
            raise SharedTierAway("the shared tier is away")

    async def _answered(self, work: Callable[[Redis], Awaitable[T]]) -> T:
        try:
            async with answer_within(self._seconds):
                answer = await work(self.client)
        except (TimeoutError, NoAnswer) as error:
            raise self._fell(SharedCall.SLOW, "it does not answer in time") from error
        except (NoConnection, ReadOnlyError, OSError) as error:
            raise self._fell(SharedCall.AWAY, str(error)) from error
        except RedisError as error:
            self._metrics.shared_call(SharedCall.REFUSED)
            raise StoreError(note=f"the shared tier refuses a call: {error}") from error
        self._metrics.shared_call(SharedCall.OK)
        if not self._up:
            if self._up is False:
                _log.warning("The shared tier is reached again")
            self._up = True
            self._metrics.shared_up(up=True)
        return answer

    async def run(
        self,
        script: str,
        names: Sequence[str | bytes],
        values: Sequence[Value] = (),
        *,
        probing: bool = False,
        lasting: bool = False,
    ) -> object:
        """Return what a script answers. Raises `StoreError`.

        `lasting`: what it writes is to outlive a fail-over. Where sentinels decide on that, a replica is waited for as
        long as `_REPLICA_SECONDS`; one that does not answer in time is done without.
        """
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self.client.register_script(script)
        prepared = known
        if not (lasting and self._replicated):
            return await self.call(lambda _: prepared(keys=names, args=values), probing=probing)

        async def write(client: Redis) -> object:
            # WAIT is about what its own connection has written.
            async with client.pipeline(transaction=False) as pipeline:
                await prepared(keys=names, args=values, client=pipeline)
                pipeline.execute_command("WAIT", 1, round(min(_REPLICA_SECONDS, self._seconds / 2) * 1000))
                answer, replicas = await pipeline.execute()
            if not replicas:
                _log.warning("No replica of the shared tier has a change yet; a fail-over now may lose it")
            return answer

        return await self.call(write, probing=probing)

    def _fell(self, outcome: SharedCall, reason: str) -> SharedTierAway:
        self._metrics.shared_call(outcome)
        if self._up is not False:
            self._up = False
            self._metrics.shared_up(up=False)
            _log.warning("The shared tier cannot be reached; going on without it: %s", reason)
        return SharedTierAway(f"the shared tier is away: {reason}")
