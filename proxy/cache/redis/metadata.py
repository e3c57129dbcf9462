"""The metadata of the shared tier: aiocache's Redis backend, mended, over entries that are checked on reading."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

import msgspec
from aiocache import RedisCache
from aiocache.serializers import NullSerializer

from proxy.cache import bounds
from proxy.cache.backend import Backend
from proxy.cache.entry import Entry, decode, encode
from proxy.cache.redis import scripts
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.keys import ERASED, LOG, covering, index_name, metadata_name
from proxy.model import Clock

_DEADLINE: Final = struct.Struct(">d")
_BATCH: Final = 500


class SharedEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A stored response of the shared tier. `number`: that of the log's last invalidation when its fill began."""

    number: int
    entry: Entry


class _Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    number: int
    encoded: bytes


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Stored)


def _encode(value: SharedEntry) -> bytes:
    return _encoder.encode(_Stored(value.number, encode(value.entry)))


def _decode(stored: object) -> tuple[SharedEntry, float] | None:
    """Return what was stored, and its deadline; None for anything that is not ours."""
    if not isinstance(stored, bytes) or not _DEADLINE.size < len(stored) <= scripts.LONGEST_STORED:
        return None
    (deadline,) = _DEADLINE.unpack_from(stored)
    try:
        found = _decoder.decode(memoryview(stored)[_DEADLINE.size :])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    entry = decode(found.encoded)
    if entry is None or not bounds.is_count(found.number, bounds.LAST_LOGGED) or math.isnan(deadline):
        return None
    return SharedEntry(found.number, entry), deadline


class SharedBackend(Backend[SharedEntry], RedisCache):
    """Entries in Redis, under the run of the log that is followed. Calls raise `StoreError`.

    What was erased since its fill began is not there, and is not stored.
    """

    NAME = "media-gateway-shared"

    def __init__(self, redis: RedisClient, clock: Clock) -> None:
        RedisCache.__init__(
            self,
            serializer=NullSerializer(encoding=None),
            timeout=0,
            connection_pool_class=lambda **_: redis.client.connection_pool,
        )
        self._clock = clock
        self._redis = redis
        self.run = ""

    def enter_run(self, run: str) -> None:
        """Find and store under that run of the log from now on."""
        self.run = run

    async def put(self, key: str, value: SharedEntry, ttl: float, run: str) -> tuple[bool, SharedEntry | None]:
        """Store what was fetched under that run. Return whether it is stored, and what it has replaced."""
        return await self._put(key, value, self._deadline(ttl), run)

    async def drop_generation(self, key: str, generation: str | None) -> SharedEntry | None:
        """Remove a response; with `generation` only that one. Return what was removed."""
        found = await self._load(key)
        if found is None or generation not in {None, found.entry.generation}:
            return None
        return found if await self._drop_value(key, _encode(found)) else None

    async def count(self, prefix: str) -> int:
        """Return how many stored responses have a key that begins with `prefix`."""
        counted, after = 0, b""
        while keys := await self._some_keys(prefix, after):
            counted += await self._count_stored(keys)
            after = keys[-1]
        return counted

    async def _count_stored(self, keys: Sequence[bytes]) -> int:
        """Return how many of these keys are there: the index forgets late."""
        stem = metadata_name(self.run, "").encode()
        return await self._redis.call(lambda client: client.exists(*(stem + key for key in keys)))

    async def _some_keys(self, prefix: str, after: bytes = b"") -> list[bytes]:
        """Return some of the keys that begin with `prefix` and come after `after`, in order."""
        least = b"(" + after if after else f"[{prefix}".encode()
        most = (f"({prefix}".encode() + b"\xff") if prefix else b"+"
        index = index_name(self.run)
        names = await self._redis.call(lambda client: client.zrangebylex(index, least, most, start=0, num=_BATCH))
        return [name if isinstance(name, bytes) else name.encode() for name in names]

    async def remove_some(self, prefix: str) -> list[SharedEntry] | None:
        """Remove some of the keys that begin with `prefix`. Return what was removed; None if there is no more."""
        index, stem = index_name(self.run), metadata_name(self.run, "").encode()
        # As bytes: a key that is not text has to go too.
        names = await self._some_keys(prefix)
        removed: list[SharedEntry] = []
        for key in names:
            old = await self._redis.run(scripts.DROP, (stem + key, index), (key, ""))
            decoded = _decode(old)
            if decoded is not None:
                removed.append(decoded[0])
        return removed if names else None

    # --- what the contract asks for ---

    def _build_key(self, key: str, namespace: str | None = None) -> str:
        return f"{namespace or ''}{key}"

    async def _load(self, key: str) -> SharedEntry | None:
        found = await self._redis.run(
            scripts.FETCH, (LOG, ERASED, metadata_name(self.run, key)), (self.run, *covering(key))
        )
        match found:
            case [bytes(stored), int(last), int(present)]:
                decoded = _decode(stored)
            case _:
                return None
        # A number after the last one there is would be beaten by no erasure.
        if decoded is None or not last <= decoded[0].number <= present or decoded[1] <= self._clock():
            return None
        return decoded[0]

    async def _save(self, key: str, value: SharedEntry, ttl: float | None, instead_of: SharedEntry | None) -> bool:
        done, _ = await self._put(key, value, self._deadline(ttl), self.run, instead_of)
        return done

    async def _put(
        self,
        key: str,
        value: SharedEntry,
        deadline: float | None,
        run: str,
        instead_of: SharedEntry | None = None,
    ) -> tuple[bool, SharedEntry | None]:
        over = "any" if instead_of is None else "this"
        expected = b"" if instead_of is None else _encode(instead_of)
        done = await self._redis.run(
            scripts.SAVE,
            (LOG, ERASED, metadata_name(run, key), index_name(run)),
            (
                run, *covering(key), key, value.number, _DEADLINE.pack(_finite(deadline)) + _encode(value),
                self._life(deadline), self._clock(), over, expected,
            ),
        )  # fmt: skip
        match done:
            case [1, *rest]:
                decoded = _decode(rest[0]) if rest else None
                return True, decoded[0] if decoded is not None else None
            case _:
                return False, None

    async def _drop(self, key: str) -> bool:
        return await self._drop_value(key, b"")

    async def _drop_value(self, key: str, expected: bytes) -> bool:
        """Remove a key; with `expected` only if that is its value. Return whether it was there and alive."""
        names = metadata_name(self.run, key), index_name(self.run)
        decoded = _decode(await self._redis.run(scripts.DROP, names, (key, expected)))
        return decoded is not None and decoded[1] > self._clock()

    async def _drop_all(self, prefix: str) -> None:
        while await self.remove_some(prefix) is not None:
            pass

    def _deadline(self, ttl: float | None) -> float | None:
        # A value that is set with 0 or less is past its deadline at once.
        return None if ttl is None else self._clock() + ttl

    def _life(self, deadline: float | None) -> int | str:
        """Return the milliseconds up to a deadline; past it no value is there, dropped by Redis or not."""
        return "" if deadline is None else max(1, math.ceil((deadline - self._clock()) * 1000))


def _finite(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline
