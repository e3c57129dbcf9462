"""aiocache's contract, typed, over the few operations that a tier of ours has to give."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer

from proxy.model import Clock

V = TypeVar("V")


class Backend(BaseCache, Generic[V]):
    """An `aiocache.BaseCache` whose values are of one type.

    A subclass gives `_load`, `_save`, `_drop`, `_drop_all` and `_prolong`, each of them one step for everyone who
    shares the tier. Deadlines are Unix seconds, None for no deadline; what is past its deadline is not there. No timer
    is started, and no call has aiocache's time-out, since each one is bounded by itself.
    """

    NAME = "media-gateway"

    def __init__(self, clock: Clock) -> None:
        super().__init__(serializer=NullSerializer(encoding=None), timeout=0)
        self._clock = clock

    # --- what a tier gives ---

    @abstractmethod
    async def _load(self, key: str) -> V | None: ...

    @abstractmethod
    async def _save(
        self, key: str, value: V, deadline: float | None, *, only_new: bool = False, instead_of: V | None = None
    ) -> bool:
        """Insert or replace. False where `only_new` finds a value, or another one than `instead_of` is there."""

    @abstractmethod
    async def _drop(self, key: str, value: V | None = None) -> bool:
        """Remove a key, where `value` is given only if that is its value."""

    @abstractmethod
    async def _drop_all(self, prefix: str) -> None: ...

    @abstractmethod
    async def _prolong(self, key: str, deadline: float | None) -> bool: ...

    # --- what a caller in this package uses ---

    async def fetch(self, key: str) -> V | None:
        """`get`, typed, and without what aiocache puts around it for its plugins: there are none."""
        return await self._load(key)

    # --- what aiocache asks for ---

    async def _get(self, key: str, encoding: str | None = None, _conn: None = None) -> V | None:
        return await self._load(key)

    async def _gets(self, key: str, encoding: str | None = None, _conn: None = None) -> V | None:
        return await self._load(key)

    async def _multi_get(self, keys: Sequence[str], encoding: str | None = None, _conn: None = None) -> list[V | None]:
        return [await self._load(key) for key in keys]

    async def _set(
        self, key: str, value: V, ttl: float | None = None, _cas_token: V | None = None, _conn: None = None
    ) -> bool:
        return await self._save(key, value, self._deadline(ttl), instead_of=_cas_token)

    async def _multi_set(self, pairs: Sequence[tuple[str, V]], ttl: float | None = None, _conn: None = None) -> bool:
        for key, value in pairs:
            await self._save(key, value, self._deadline(ttl))
        return True

    async def _add(self, key: str, value: V, ttl: float | None = None, _conn: None = None) -> bool:
        if not await self._save(key, value, self._deadline(ttl), only_new=True):
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        return True

    async def _exists(self, key: str, _conn: None = None) -> bool:
        return await self._load(key) is not None

    async def _increment(self, key: str, delta: int, _conn: None = None) -> int:
        raise TypeError("Value is not an integer")

    async def _expire(self, key: str, ttl: float | None, _conn: None = None) -> bool:
        # aiocache: a time to live of 0 takes the limit away.
        return await self._prolong(key, self._deadline(ttl or None))

    async def _delete(self, key: str, _conn: None = None) -> int:
        return int(await self._drop(key))

    async def _clear(self, namespace: str | None = None, _conn: None = None) -> bool:
        await self._drop_all(namespace or "")
        return True

    async def _redlock_release(self, key: str, value: V) -> int:
        return int(await self._drop(key, value))

    def _deadline(self, ttl: float | None) -> float | None:
        # None is aiocache's «no time limit»; a value set with 0 or less is past its deadline at once.
        return None if ttl is None else self._clock() + ttl
