"""aiocache's contract, over every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from proxy.cache.backend import Backend

that_evict = pytest.mark.parametrize("store", ["disk", "memory"], indirect=True)
shared_alone = pytest.mark.parametrize(
    "store", [pytest.param("shared", marks=pytest.mark.system("redis-server"))], indirect=True
)


class Clock(Protocol):
    now: float


class Store(Protocol):
    backend: Backend[Any]
    clock: Clock
    value: Callable[[int], object]


async def there(store: Store, keys: list[str]) -> list[str]:
    """Return those of the keys that have a value."""
    return [key for key in keys if await store.backend.get(key) is not None]


async def test_get_gives_what_set_stored(store: Store) -> None:
    assert await store.backend.set("a", store.value(1)) is True
    assert await store.backend.get("a") == store.value(1)
    assert await store.backend.fetch("a") == store.value(1)


async def test_get_of_an_absent_key_is_none_or_the_default(store: Store) -> None:
    assert await store.backend.get("a") is None
    assert await store.backend.get("a", default="other") == "other"


async def test_set_replaces(store: Store) -> None:
    await store.backend.set("a", store.value(1))
    await store.backend.set("a", store.value(2))
    assert await store.backend.get("a") == store.value(2)


async def test_delete_returns_how_many_keys_it_removed(store: Store) -> None:
    await store.backend.set("a", store.value(1))
    assert await store.backend.delete("a") == 1
    assert await store.backend.delete("a") == 0
    assert await store.backend.get("a") is None


async def test_clear_without_a_namespace_removes_everything(store: Store) -> None:
    keys = [f"key-{n}" for n in range(5)]
    for key in keys:
        await store.backend.set(key, store.value(1))
    assert await store.backend.clear() is True
    assert await there(store, keys) == []


async def test_clear_with_a_namespace_leaves_the_others(store: Store) -> None:
    keys = ["x/a", "x/b", "x", "xy", "y/a", "X/a", "x/~", "x/é"]
    for key in keys:
        await store.backend.set(key, store.value(1))
    await store.backend.clear(namespace="x/")
    assert await there(store, keys) == ["x", "xy", "y/a", "X/a"]


async def test_clear_removes_more_than_one_step_does(store: Store) -> None:
    keys = [f"x/{n}" for n in range(1_100)]
    for key in keys:
        await store.backend.set(key, store.value(1))
    await store.backend.clear(namespace="x/")
    assert await there(store, keys) == []


async def test_a_namespace_is_a_prefix_of_the_key(store: Store) -> None:
    await store.backend.set("a", store.value(1), namespace="x/")
    assert await store.backend.get("a") is None
    assert await store.backend.get("a", namespace="x/") == store.value(1)
    assert await store.backend.get("x/a") == store.value(1)


async def test_a_set_under_a_token_replaces_only_that_value(store: Store) -> None:
    await store.backend.set("a", store.value(1))
    assert await store.backend.set("a", store.value(2), _cas_token=store.value(9)) is False
    assert await store.backend.get("a") == store.value(1)
    assert await store.backend.set("a", store.value(2), _cas_token=store.value(1)) is True
    assert await store.backend.get("a") == store.value(2)
    assert await store.backend.set("absent", store.value(2), _cas_token=store.value(1)) is False


async def test_of_many_sets_under_one_token_one_wins(store: Store) -> None:
    await store.backend.set("a", store.value(0))
    won = await asyncio.gather(
        *(store.backend.set("a", store.value(n), _cas_token=store.value(0)) for n in range(1, 20))
    )
    assert sum(won) == 1
    assert await store.backend.get("a") == store.value(won.index(True) + 1)


async def test_concurrent_use_of_many_keys_mixes_nothing_up(store: Store) -> None:
    async def use(number: int) -> None:
        key = f"key-{number}"
        await store.backend.set(key, store.value(number))
        assert await store.backend.get(key) == store.value(number)
        if number % 2:
            await store.backend.delete(key)

    await asyncio.gather(*(use(number) for number in range(100)))
    assert await there(store, [f"key-{n}" for n in range(100)]) == [f"key-{n}" for n in range(0, 100, 2)]


@pytest.mark.parametrize("verb", ["add", "exists", "expire", "increment", "multi_get", "multi_set", "raw"])
async def test_a_verb_that_no_caller_needs_is_refused(store: Store, verb: str) -> None:
    arguments = {"multi_get": (["a"],), "multi_set": ([("a", store.value(1))],), "add": ("a", 1), "expire": ("a", 1)}
    with pytest.raises(NotImplementedError):
        await getattr(store.backend, verb)(*arguments.get(verb, ("a",)))


@that_evict
async def test_a_tier_that_evicts_refuses_a_time_to_live(store: Store) -> None:
    with pytest.raises(NotImplementedError):
        await store.backend.set("a", store.value(1), ttl=5)
    assert await store.backend.get("a") is None


# --- a time to live, which the shared tier alone has -------------------------------------------------------------


@shared_alone
async def test_delete_counts_nothing_past_its_deadline(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    store.clock.now += 5
    assert await store.backend.delete("a") == 0


@shared_alone
async def test_a_value_is_gone_at_its_deadline_and_not_before(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    store.clock.now += 4.9
    assert await store.backend.get("a") == store.value(1)
    store.clock.now += 0.1
    assert await store.backend.get("a") is None


@shared_alone
@pytest.mark.parametrize("ttl", [0, -1])
async def test_a_time_to_live_of_nothing_is_past_at_once(store: Store, ttl: float) -> None:
    await store.backend.set("a", store.value(1), ttl=ttl)
    assert await store.backend.get("a") is None


@shared_alone
async def test_no_time_to_live_is_no_deadline(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    await store.backend.set("a", store.value(2))
    store.clock.now += 1e9
    assert await store.backend.get("a") == store.value(2)


@shared_alone
async def test_a_token_past_its_deadline_is_no_token(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    store.clock.now += 5
    assert await store.backend.set("a", store.value(2), _cas_token=store.value(1)) is False
    assert await store.backend.get("a") is None
