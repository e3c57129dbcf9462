"""aiocache's contract, typed, over the few operations that a tier of ours has to give."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer

V = TypeVar("V")


class Backend(BaseCache, Generic[V]):
    """An `aiocache.BaseCache` whose values are of one type.

    A subclass gives `_load`, `_save`, `_drop` and `_drop_all`; deadlines are Unix seconds, None for no deadline. No
    timer is started, and no call has aiocache's time-out, since each one is bounded by itself.
    """

    NAME = "media-gateway"

    def __init__(self) -> None:
        super().__init__(serializer=NullSerializer(encoding=None), timeout=0)

    # --- what a tier gives ---

    @abstractmethod
    async def _load(self, key: str) -> tuple[V, float | None] | None: ...

    @abstractmethod
    async def _save(self, key: str, value: V, deadline: float | None, *, only_new: bool = False) -> bool: ...

    @abstractmethod
    async def _drop(self, key: str) -> bool: ...

    @abstractmethod
    async def _drop_all(self, prefix: str) -> None: ...

    # --- what a caller in this package uses ---

    async def fetch(self, key: str) -> V | None:
        """`get`, typed."""
        value: V | None = await self.get(key)
        return value

    # --- what aiocache asks for ---

    async def _live(self, key: str) -> tuple[V, float | None] | None:
        held = await self._load(key)
        if held is not None and held[1] is not None and held[1] <= time.time():
            await self._drop(key)
            return None
        return held

    async def _get(self, key: str, encoding: str | None = None, _conn: None = None) -> V | None:
        held = await self._live(key)
        return held[0] if held else None

    async def _gets(self, key: str, encoding: str | None = None, _conn: None = None) -> V | None:
        return await self._get(key)

    async def _multi_get(self, keys: Sequence[str], encoding: str | None = None, _conn: None = None) -> list[V | None]:
        return [await self._get(key) for key in keys]

    async def _set(
        self, key: str, value: V, ttl: float | None = None, _cas_token: V | None = None, _conn: None = None
    ) -> bool:
        if _cas_token is not None and await self._get(key) != _cas_token:
            return False
        return await self._save(key, value, _deadline(ttl))

    async def _multi_set(self, pairs: Sequence[tuple[str, V]], ttl: float | None = None, _conn: None = None) -> bool:
        for key, value in pairs:
            await self._save(key, value, _deadline(ttl))
        return True

    async def _add(self, key: str, value: V, ttl: float | None = None, _conn: None = None) -> bool:
        await self._live(key)
        if not await self._save(key, value, _deadline(ttl), only_new=True):
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        return True

    async def _exists(self, key: str, _conn: None = None) -> bool:
        return await self._live(key) is not None

    async def _increment(self, key: str, delta: int, _conn: None = None) -> int:
        raise TypeError("Value is not an integer")

    async def _expire(self, key: str, ttl: float | None, _conn: None = None) -> bool:
        held = await self._live(key)
        return held is not None and await self._save(key, held[0], _deadline(ttl))

    async def _delete(self, key: str, _conn: None = None) -> int:
        return int(await self._drop(key))

    async def _clear(self, namespace: str | None = None, _conn: None = None) -> bool:
        await self._drop_all(namespace or "")
        return True

    async def _redlock_release(self, key: str, value: V) -> int:
        return int(await self._get(key) == value and await self._drop(key))


def _deadline(ttl: float | None) -> float | None:
    # aiocache passes None for «no time limit»; 0 or less is a deadline that has passed.
    return None if ttl is None else time.time() + ttl
