"""aiocache's contract, over every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import pytest
from aiocache.lock import OptimisticLock, OptimisticLockError

from proxy.cache.backend import Backend


class Clock(Protocol):
    now: float


class Store(Protocol):
    backend: Backend[Any]
    clock: Clock
    value: Callable[[int], object]


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


async def test_add_stores_a_new_key_and_refuses_an_existing_one(store: Store) -> None:
    assert await store.backend.add("a", store.value(1)) is True
    with pytest.raises(ValueError, match="already exists"):
        await store.backend.add("a", store.value(2))
    assert await store.backend.get("a") == store.value(1)


async def test_add_takes_the_place_of_what_is_past_its_deadline(store: Store) -> None:
    await store.backend.add("a", store.value(1), ttl=5)
    store.clock.now += 5
    assert await store.backend.add("a", store.value(2)) is True
    assert await store.backend.get("a") == store.value(2)


async def test_delete_returns_how_many_keys_it_removed(store: Store) -> None:
    await store.backend.set("a", store.value(1))
    assert await store.backend.delete("a") == 1
    assert await store.backend.delete("a") == 0
    assert await store.backend.get("a") is None


async def test_delete_counts_nothing_past_its_deadline(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    store.clock.now += 5
    assert await store.backend.delete("a") == 0


async def test_exists_tells_whether_a_key_is_there(store: Store) -> None:
    await store.backend.set("a", store.value(1))
    assert await store.backend.exists("a") is True
    assert await store.backend.exists("b") is False


async def test_a_value_is_gone_at_its_deadline_and_not_before(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    store.clock.now += 4.9
    assert await store.backend.get("a") == store.value(1)
    store.clock.now += 0.1
    assert await store.backend.get("a") is None
    assert await store.backend.exists("a") is False


@pytest.mark.parametrize("ttl", [0, -1])
async def test_a_time_to_live_of_nothing_is_past_at_once(store: Store, ttl: float) -> None:
    await store.backend.set("a", store.value(1), ttl=ttl)
    assert await store.backend.get("a") is None


async def test_no_time_to_live_is_no_deadline(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    await store.backend.set("a", store.value(2))
    store.clock.now += 1e9
    assert await store.backend.get("a") == store.value(2)


async def test_expire_moves_the_deadline(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    assert await store.backend.expire("a", 50) is True
    store.clock.now += 49
    assert await store.backend.exists("a") is True
    store.clock.now += 1
    assert await store.backend.exists("a") is False


async def test_expire_of_zero_takes_the_deadline_away(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    assert await store.backend.expire("a", 0) is True
    store.clock.now += 1e9
    assert await store.backend.get("a") == store.value(1)


async def test_expire_revives_nothing(store: Store) -> None:
    assert await store.backend.expire("a", 5) is False
    await store.backend.set("a", store.value(1), ttl=5)
    store.clock.now += 5
    assert await store.backend.expire("a", 5) is False
    assert await store.backend.get("a") is None


async def test_increment_refuses_what_is_no_integer(store: Store) -> None:
    await store.backend.set("a", store.value(1))
    with pytest.raises(TypeError, match="not an integer"):
        await store.backend.increment("a")
    assert await store.backend.get("a") == store.value(1)


async def test_multi_set_and_multi_get_keep_the_order_of_keys(store: Store) -> None:
    assert await store.backend.multi_set([("a", store.value(1)), ("b", store.value(2))], ttl=5) is True
    assert await store.backend.multi_get(["b", "absent", "a"]) == [store.value(2), None, store.value(1)]
    store.clock.now += 5
    assert await store.backend.multi_get(["a", "b"]) == [None, None]


async def test_clear_without_a_namespace_removes_everything(store: Store) -> None:
    await store.backend.multi_set([(f"key-{n}", store.value(n)) for n in range(5)])
    assert await store.backend.clear() is True
    assert await store.backend.multi_get([f"key-{n}" for n in range(5)]) == [None] * 5


async def test_clear_with_a_namespace_leaves_the_others(store: Store) -> None:
    for key in ("x/a", "x/b", "x", "xy", "y/a", "X/a", "x/~", "x/é"):
        await store.backend.set(key, store.value(1))
    await store.backend.clear(namespace="x/")
    assert [
        key for key in ("x/a", "x/b", "x", "xy", "y/a", "X/a", "x/~", "x/é") if await store.backend.exists(key)
    ] == ["x", "xy", "y/a", "X/a"]


async def test_clear_removes_more_than_one_step_does(store: Store) -> None:
    await store.backend.multi_set([(f"x/{n}", store.value(n)) for n in range(1_100)])
    await store.backend.clear(namespace="x/")
    assert await store.backend.multi_get([f"x/{n}" for n in range(1_100)]) == [None] * 1_100


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


async def test_a_token_past_its_deadline_is_no_token(store: Store) -> None:
    await store.backend.set("a", store.value(1), ttl=5)
    store.clock.now += 5
    assert await store.backend.set("a", store.value(2), _cas_token=store.value(1)) is False
    assert await store.backend.get("a") is None


async def test_the_optimistic_lock_finds_a_change(store: Store) -> None:
    await store.backend.set("a", store.value(1))
    async with OptimisticLock(store.backend, "a") as lock:
        await lock.cas(store.value(2))
    async with OptimisticLock(store.backend, "a") as lock:
        await store.backend.set("a", store.value(3))
        with pytest.raises(OptimisticLockError):
            await lock.cas(store.value(4))
    assert await store.backend.get("a") == store.value(3)


async def test_of_many_sets_under_one_token_one_wins(store: Store) -> None:
    await store.backend.set("a", store.value(0))
    won = await asyncio.gather(
        *(store.backend.set("a", store.value(n), _cas_token=store.value(0)) for n in range(1, 20))
    )
    assert sum(won) == 1
    assert await store.backend.get("a") == store.value(won.index(True) + 1)


async def test_of_many_adds_of_one_key_one_wins(store: Store) -> None:
    results = await asyncio.gather(*(store.backend.add("a", store.value(n)) for n in range(20)), return_exceptions=True)
    assert [type(result) for result in results if result is not True] == [ValueError] * 19
    assert await store.backend.get("a") == store.value(results.index(True))


async def test_a_lock_is_released_only_by_its_value(store: Store) -> None:
    await store.backend.add("a", store.value(1))
    assert await store.backend._redlock_release("a", store.value(2)) == 0
    assert await store.backend.exists("a") is True
    assert await store.backend._redlock_release("a", store.value(1)) == 1
    assert await store.backend._redlock_release("a", store.value(1)) == 0


async def test_a_lock_past_its_deadline_is_not_there_to_release(store: Store) -> None:
    await store.backend.add("a", store.value(1), ttl=5)
    store.clock.now += 5
    assert await store.backend._redlock_release("a", store.value(1)) == 0


async def test_concurrent_use_of_many_keys_mixes_nothing_up(store: Store) -> None:
    async def use(number: int) -> None:
        key = f"key-{number}"
        await store.backend.set(key, store.value(number))
        assert await store.backend.get(key) == store.value(number)
        if number % 2:
            await store.backend.delete(key)

    await asyncio.gather(*(use(number) for number in range(100)))
    assert [await store.backend.exists(f"key-{n}") for n in range(100)] == [n % 2 == 0 for n in range(100)]
