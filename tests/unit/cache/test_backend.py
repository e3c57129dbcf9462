"""The adapter around aiocache, beside the contract that tests/contract holds for every store."""

from __future__ import annotations

from collections.abc import Callable

from proxy.cache.entry import Entry
from proxy.cache.ram.store import RamStore
from proxy.cache.stored import StoredResponse
from proxy.telemetry.metrics import Metrics


async def test_a_call_has_no_time_out_of_its_own() -> None:
    assert not RamStore(1, Metrics()).timeout


async def test_values_pass_through_as_they_are(entries: Callable[..., Entry]) -> None:
    backend = RamStore(100_000, Metrics())
    held = StoredResponse(entries(), b"\xff\x00", 0)
    await backend.set("a", held)
    assert await backend.get("a") is held
