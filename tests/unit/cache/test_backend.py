"""What the adapter around aiocache adds to its contract, which tests/contract holds for every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proxy.cache.entry import Entry
from proxy.cache.ram.store import Held, MemoryBackend


async def test_a_call_has_no_time_out_of_its_own() -> None:
    assert not MemoryBackend(1).timeout


async def test_a_deadline_starts_no_timer(entries: Callable[..., Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    backend = MemoryBackend(100_000)

    def start(*args: object) -> None:
        pytest.fail("a timer was started")

    with monkeypatch.context() as watched:
        watched.setattr(asyncio.get_running_loop(), "call_at", start)
        watched.setattr(asyncio.get_running_loop(), "call_later", start)
        await backend.set("a", Held(entries(), b"", 0), ttl=60)
        await backend.expire("a", 600)


async def test_values_pass_through_as_they_are(entries: Callable[..., Entry]) -> None:
    backend = MemoryBackend(100_000)
    held = Held(entries(), b"\xff\x00", 0)
    await backend.set("a", held)
    assert await backend.get("a") is held
