"""aiocache's contract, typed: the verbs that the tiers need, over four operations that each tier gives."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, NoReturn, TypeVar

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer

V = TypeVar("V")


class Backend(BaseCache, Generic[V]):
    """An `aiocache.BaseCache` whose values are of one type.

    It has the verbs `get`, `set` (with a `_cas_token` as well), `delete` and `clear`; every other one raises
    `NotImplementedError`. A subclass gives `_load`, `_save`, `_drop` and `_drop_all`, each of them one step for all
    users of the tier. No timer is started, and no call has aiocache's time-out, since each one is bounded by itself.
    """

    NAME = "media-gateway"

    def __init__(self) -> None:
        super().__init__(serializer=NullSerializer(encoding=None), timeout=0)

    # --- what a tier gives ---

    @abstractmethod
    async def _load(self, key: str) -> V | None: ...

    @abstractmethod
    async def _save(self, key: str, value: V, ttl: float | None, instead_of: V | None) -> bool:
        """Insert or replace; with `instead_of` only that value is replaced. Return whether it was done.

        `ttl` is in seconds, None for no limit. A tier whose values have none raises `NotImplementedError` for one.
        """

    @abstractmethod
    async def _drop(self, key: str) -> bool:
        """Remove a key. Return whether it was there."""

    @abstractmethod
    async def _drop_all(self, prefix: str) -> None: ...

    # --- what a caller in this package uses ---

    async def fetch(self, key: str) -> V | None:
        """Return what `get` does: typed, and without the steps that aiocache takes for plugins."""
        return await self._load(key)

    # --- what aiocache asks for ---

    async def _get(self, key: str, encoding: str | None = None, _conn: None = None) -> V | None:
        return await self._load(key)

    async def _set(
        self, key: str, value: V, ttl: float | None = None, _cas_token: V | None = None, _conn: None = None
    ) -> bool:
        return await self._save(key, value, ttl, _cas_token)

    async def _delete(self, key: str, _conn: None = None) -> int:
        return int(await self._drop(key))

    async def _clear(self, namespace: str | None = None, _conn: None = None) -> bool:
        await self._drop_all(namespace or "")
        return True

    async def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(f"{self.NAME} has get, set, delete and clear")

    # aiocache's Redis backend, which a subclass may have as another base, would send values as they are.
    _add = _exists = _expire = _gets = _increment = _multi_get = _multi_set = _raw = _redlock_release = _refuse


def require_no_ttl(ttl: float | None) -> None:
    """Raise `NotImplementedError` if a value is to have a time to live, for a tier that keeps none."""
    if ttl is not None:
        raise NotImplementedError("values are kept until they are evicted")
