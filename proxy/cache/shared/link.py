"""The link of one worker to Redis: a bounded pool, a bound on each wait, and nothing asked of it while it is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as NoAnswer

from proxy.errors import StoreError
from proxy.telemetry.metrics import Metrics, SharedCall

_log: Final = logging.getLogger("media_gateway.cache")

SECONDS: Final = 1.0
"""The longest that one call takes."""
_CONNECTIONS: Final = 32

T = TypeVar("T")
Value = str | bytes | int | float


def make_pool(url: str, connections: int) -> BlockingConnectionPool:
    """A pool that makes callers wait, where redis-py's own refuses them, and that tries nothing twice.

    How long an answer is waited for is the caller's to say.
    """
    return BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=SECONDS,
        # With a time of its own redis-py loses a cancellation that comes as it has sent a command (Python 3.11).
        socket_timeout=None,
        socket_connect_timeout=SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=False,
        # It would be looked up on disk for each connection.
        driver_info=None,
    )


class Link:
    """Calls of Redis, each of which raises `StoreError` where it fails.

    After a failure Redis is taken to be away: calls fail at once, but for those that are `probing`, until one of these
    succeeds. What went wrong is logged once, not for each call.
    """

    def __init__(self, url: str, metrics: Metrics, *, seconds: float = SECONDS) -> None:
        self._metrics = metrics
        self._seconds = seconds
        self._pool = make_pool(url, _CONNECTIONS)
        self.client: Redis = Redis(connection_pool=self._pool)
        self._scripts: dict[str, Callable[..., Awaitable[object]]] = {}
        self._up: bool | None = None

    @property
    def up(self) -> bool:
        """Whether Redis answered when it was last asked; True before that."""
        return self._up is not False

    async def close(self) -> None:
        """Close every connection."""
        await self.client.aclose()
        await self._pool.disconnect()
        self._metrics.shared_up(up=False)

    async def call(self, work: Callable[[Redis], Awaitable[T]], *, probing: bool = False) -> T:
        """What `work` gets from Redis."""
        if not self.up and not probing:
            self._metrics.shared_call(SharedCall.SKIPPED)
            raise StoreError(note="the shared tier is away")
        try:
            async with asyncio.timeout(self._seconds):
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
        self, script: str, names: Sequence[str | bytes], values: Sequence[Value] = (), *, probing: bool = False
    ) -> object:
        """What a script answers."""
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self.client.register_script(script)
        prepared = known
        return await self.call(lambda _: prepared(keys=names, args=values), probing=probing)

    def _fell(self, outcome: SharedCall, reason: str) -> StoreError:
        self._metrics.shared_call(outcome)
        if self._up is not False:
            self._up = False
            self._metrics.shared_up(up=False)
            _log.warning("The shared tier cannot be reached; going on without it: %s", reason)
        return StoreError(note=f"the shared tier is away: {reason}")
