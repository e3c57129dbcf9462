"""The shared tier of one worker: stored responses in Redis, the lease to fetch them, and the log that is followed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from proxy.cache.body import Body
from proxy.cache.entry import Entry
from proxy.cache.invalidation.invalidators import Invalidations
from proxy.cache.invalidation.policy import DEFAULT, Erase
from proxy.cache.redis.checkpoint import CheckpointFile
from proxy.cache.redis.chunks import CHUNK, ChunkBody, Chunks
from proxy.cache.redis.client import SECONDS, RedisClient
from proxy.cache.redis.follower import Follower, wait_for_others
from proxy.cache.redis.lease import Turn, take_turn
from proxy.cache.redis.log import InvalidationLog, Position
from proxy.cache.redis.metadata import SharedBackend, SharedEntry
from proxy.cache.redis.server_check import CLUSTER, is_cluster
from proxy.cache.redis.validations import TurnTable, Validations
from proxy.cache.stored import StoredResponse
from proxy.errors import SettingProblem, SettingsError, StoreError
from proxy.model import Clock
from proxy.settings import SharedAway, SharedServer
from proxy.telemetry.metrics import Metrics

_log: Final = logging.getLogger("media_gateway.cache")

_LIFE_SECONDS: Final = 86_400.0
"""The time for which a response stays in Redis, which may drop it before."""
_CHUNK_LIFE_SECONDS: Final = _LIFE_SECONDS + 600.0
"""The time for which its chunks stay: a little longer, so that what is found is whole."""
_STORING_SECONDS: Final = 10.0

T = TypeVar("T")


class SharedTier:
    """One worker's use of the shared tier; made by `open_shared`. `max_bytes`: the longest body that is shared."""

    def __init__(
        self,
        redis: RedisClient,
        backend: SharedBackend,
        follower: Follower,
        validations: Validations,
        *,
        max_bytes: int,
        metrics: Metrics,
    ) -> None:
        self.backend = backend
        self.follower = follower
        self.validations = validations
        self.max_bytes = max_bytes
        self._redis = redis
        self._chunks = Chunks(redis)
        self._metrics = metrics

    # --- reading ---

    async def find(self, key: str, epoch: int) -> StoredResponse | None:
        """Return a stored response that was not erased, as Redis itself knows; None also if Redis is away.

        `epoch` is the number of the last erasure here, before the look: one that comes later has a later number.
        """
        if not self.holds_bodies:
            return None
        run = self.backend.run
        with contextlib.suppress(StoreError):
            found = await self.backend.fetch(key)
            if found is not None and found.entry.length <= self.max_bytes:
                return StoredResponse(msgspec.structs.replace(found.entry, epoch=epoch), None, epoch, run=run)
        return None

    async def read(self, key: str, stored: StoredResponse) -> bytes | None:
        """Return all bytes of a small body; None if they are gone, and the response is then dropped."""
        try:
            return await self._chunks.read_whole(_run_of(stored), stored.entry)
        except StoreError:
            await self.drop(key, stored.entry.generation)
            return None

    def open(self, stored: StoredResponse, rescue: Callable[[], Awaitable[Body]]) -> Body:
        """Return a large body, which is read chunk by chunk, or from what `rescue` gives if that fails."""
        return ChunkBody(self._chunks, _run_of(stored), stored.entry, rescue)

    def turn(self, key: str, seek: Callable[[], Awaitable[T | None]]) -> AbstractAsyncContextManager[Turn[T]]:
        """Return what `seek` finds, perhaps after another gateway has fetched it; else the turn to fetch.

        Where no bodies are shared there is nothing to wait for: each gateway fetches for itself.
        """
        if not self.holds_bodies:
            return contextlib.nullcontext(Turn[T](None, None, waited=False))
        return take_turn(self._redis, self._metrics, self.backend.run, key, seek)

    # --- storing ---

    @property
    def holds_bodies(self) -> bool:
        """Return whether any body is shared."""
        return self.max_bytes > 0

    def takes(self, length: int | None) -> bool:
        """Return whether a body of that length is shared; None is a length that is not known yet."""
        return self.holds_bodies and (length or 0) <= self.max_bytes

    async def keep(self, key: str, entry: Entry, body: Body, since: Position | None) -> bool:
        """Store a whole body, unless it was erased after `since`, the last invalidation before it was asked for.

        What fails is given up: whether it is stored. The body stays its owner's.
        """
        if since is None or not self.takes(entry.length):
            return False
        shared = SharedEntry(since.number, msgspec.structs.replace(entry, epoch=0))
        try:
            async with asyncio.timeout(_STORING_SECONDS):
                await self._chunks.write(since.run, entry.generation, _chunked(body, entry.length), _CHUNK_LIFE_SECONDS)
                done, replaced = await self.backend.put(key, shared, _LIFE_SECONDS, since.run)
                if not done:
                    await self._chunks.remove(since.run, entry)
                elif replaced is not None and replaced.entry.generation != entry.generation:
                    await self._chunks.remove(since.run, replaced.entry)
                return done
        except (StoreError, TimeoutError) as error:
            note = error.note if isinstance(error, StoreError) else "it took too long"
            _log.info("A response is not shared: %s", note)
            return False

    async def freshen(self, key: str, entry: Entry) -> None:
        """Replace the metadata of a response that has these bytes in Redis too."""
        if not self.holds_bodies:
            return
        run = self.backend.run
        with contextlib.suppress(StoreError):
            found = await self.backend.fetch(key)
            if found is None or found.entry.generation != entry.generation:
                return
            fresh = SharedEntry(found.number, msgspec.structs.replace(entry, epoch=0))
            await self._chunks.prolong(run, entry, _CHUNK_LIFE_SECONDS)
            await self.backend.set(key, fresh, ttl=_LIFE_SECONDS, _cas_token=found)

    async def drop(self, key: str, generation: str | None = None) -> None:
        """Remove a response; with `generation` only that one."""
        if not self.holds_bodies:
            return
        run = self.backend.run
        with contextlib.suppress(StoreError):
            removed = await self.backend.drop_generation(key, generation)
            if removed is not None:
                await self._chunks.remove(run, removed.entry)

    async def give_back(self, prefix: str) -> None:
        """Free what every key that begins with `prefix` takes: it is erased already."""
        await give_back(self.backend, self._chunks, prefix)


def _run_of(stored: StoredResponse) -> str:
    assert stored.run is not None, "the shared tier reads what it has found"
    return stored.run


async def give_back(backend: SharedBackend, chunks: Chunks, prefix: str) -> int:
    """Remove metadata and bodies of every key that begins with `prefix`, as far as Redis lets that be done.

    Returns how many stored responses were removed.
    """
    run = backend.run
    count = 0
    with contextlib.suppress(StoreError):
        while (removed := await backend.remove_some(prefix)) is not None:
            count += len(removed)
            for shared in removed:
                await chunks.remove(run, shared.entry)
    return count


async def _chunked(body: Body, length: int) -> AsyncIterator[bytes]:
    for start in range(0, length, CHUNK):
        chunk, size = bytearray(), min(CHUNK, length - start)
        while len(chunk) < size:
            part = await body.read(start + len(chunk), size - len(chunk))
            if not part:
                raise StoreError(note="a body that is being shared is shorter than its entry says")
            chunk += part
        yield bytes(chunk)


@asynccontextmanager
async def open_shared(
    server: SharedServer,
    invalidations: Invalidations,
    folder: Path | None,
    clock: Clock,
    *,
    max_bytes: int,
    away: SharedAway,
    metrics: Metrics,
    revocations: int = DEFAULT,
    seconds: float = SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[SharedTier]:
    """Open the shared tier of that server; `invalidations` and `folder` are those of the disk tier, if there is one.

    `away`: how what is stored is used while the tier is away. `seconds`: the longest that Redis may take to answer a
    call. `revocations`: how many revocations and deletions are admitted at once. Where Redis is away, the tier opens
    without it and uses it as soon as it is reached.
    """
    redis = RedisClient(server, metrics, seconds=seconds)
    try:
        await _refuse_cluster(redis)
        backend = SharedBackend(redis, clock)
        follower = Follower(
            InvalidationLog(redis, clock, revocations),
            redis,
            invalidations,
            CheckpointFile(folder),
            clock,
            enter_run=backend.enter_run,
            metrics=metrics,
            monotonic=monotonic,
        )
        with closing(TurnTable(folder)) as turns:
            validations = Validations(away, follower, turns, clock)
            async with follower.following(server):
                yield SharedTier(redis, backend, follower, validations, max_bytes=max_bytes, metrics=metrics)
    finally:
        await redis.close()


async def _refuse_cluster(redis: RedisClient) -> None:
    """Raise `SettingsError` if Redis is a node of a cluster; while it is away, that cannot be told."""
    with contextlib.suppress(StoreError):
        if await redis.call(is_cluster):
            raise SettingsError([SettingProblem("GATEWAY_SHARED_CACHE", CLUSTER)])


async def erase_shared(server: SharedServer, prefix: str, clock: Clock, *, seconds: float = SECONDS) -> int:
    """Erase every key that begins with `prefix` in every gateway, for a program that is not a gateway.

    `seconds`: as for `open_shared`. Returns how many stored responses the shared tier had. Raises `StoreError`.
    """
    redis = RedisClient(server, Metrics(), seconds=seconds)
    try:
        log = InvalidationLog(redis, clock)
        place = await log.write(Erase(prefix))
        backend = SharedBackend(redis, clock)
        backend.enter_run(place.run)
        await wait_for_others(log, place)
        return await give_back(backend, Chunks(redis), prefix)
    finally:
        await redis.close()


async def count_shared(server: SharedServer, prefix: str, clock: Clock, *, seconds: float = SECONDS) -> int:
    """Return how many stored responses the shared tier has of keys that begin with `prefix`, and change nothing.

    `seconds`: as for `open_shared`. Raises `StoreError`.
    """
    redis = RedisClient(server, Metrics(), seconds=seconds)
    try:
        run = await InvalidationLog(redis, clock).run()
        if run is None:
            return 0
        backend = SharedBackend(redis, clock)
        backend.enter_run(run)
        return await backend.count(prefix)
    finally:
        await redis.close()
