"""The RAM tier: its bound, its order, and what it counts."""

from __future__ import annotations

import asyncio
import secrets
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.cache.entry import Entry, decode, encode, make_entry, represent
from proxy.cache.memory import FIELD_OVERHEAD, OVERHEAD, Held, MemoryBackend
from proxy.model import MediaRef
from proxy.origin import OriginHead
from proxy.semantics.fields import Fields

_BOUND = 6 * OVERHEAD
_KEYS = st.sampled_from([f"{letter}/{n}" for letter in "ab" for n in range(4)])
_ENTRY = Entry(
    version=1,
    generation="0" * 32,
    etag="",
    length=0,
    checksum="",
    epoch=1 << 62,
    fields=(),
    presented=(),
    requested_at=0.0,
    answered_at=0.0,
)
_SIZES = st.one_of(st.none(), st.integers(0, 3 * OVERHEAD), st.just(5 * OVERHEAD), st.integers(_BOUND, 2 * _BOUND))


class MemoryAgainstModel(RuleBasedStateMachine):
    """The tier beside a plain list of what it must hold, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.backend = MemoryBackend(_BOUND, lambda: self.now)
        self.model: OrderedDict[str, tuple[Held, float | None]] = OrderedDict()

    def _expire_in_model(self, key: str) -> None:
        if key in self.model:
            deadline = self.model[key][1]
            if deadline is not None and deadline <= self.now:
                del self.model[key]

    @rule(key=_KEYS, size=_SIZES, ttl=st.none() | st.integers(1, 5))
    def set(self, key: str, size: int | None, ttl: int | None) -> None:
        held = Held(_ENTRY, None if size is None else bytes(size), 0)
        asyncio.run(self.backend.set(key, held, ttl=ttl))
        self.model.pop(key, None)
        if held.size <= _BOUND:
            self.model[key] = (held, None if ttl is None else self.now + ttl)
            while sum(value.size for value, _ in self.model.values()) > _BOUND:
                self.model.popitem(last=False)

    @rule(key=_KEYS)
    def get(self, key: str) -> None:
        self._expire_in_model(key)
        found = asyncio.run(self.backend.fetch(key))
        assert found == (self.model[key][0] if key in self.model else None)
        if found is not None:
            self.model.move_to_end(key)

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        self._expire_in_model(key)
        assert asyncio.run(self.backend.delete(key)) == (self.model.pop(key, None) is not None)

    @rule(key=_KEYS, ttl=st.integers(1, 5))
    def expire(self, key: str, ttl: int) -> None:
        self._expire_in_model(key)
        assert asyncio.run(self.backend.expire(key, ttl)) == (key in self.model)
        if key in self.model:
            self.model[key] = (self.model[key][0], self.now + ttl)

    @rule(prefix=st.sampled_from(["a/", "b/"]))
    def clear(self, prefix: str) -> None:
        asyncio.run(self.backend.clear(namespace=prefix))
        for key in [key for key in self.model if key.startswith(prefix)]:
            del self.model[key]

    @rule()
    def pass_time(self) -> None:
        self.now += 1

    @invariant()
    def counts_exactly_and_never_over_the_bound(self) -> None:
        assert self.backend.used_bytes == sum(value.size for value, _ in self.model.values()) <= _BOUND
        assert len(self.backend) == len(self.model)


MemoryAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestMemoryAgainstModel = MemoryAgainstModel.TestCase


async def test_the_least_recently_used_goes_first(entries: Callable[..., Entry]) -> None:
    one = Held(entries(), None, 0).size
    backend = MemoryBackend(3 * one)
    for key in "abc":
        await backend.set(key, Held(entries(), None, 0))
    await backend.get("a")
    await backend.set("d", Held(entries(), None, 0))
    assert [key for key in "abcd" if await backend.exists(key)] == ["a", "c", "d"]


async def test_replacing_counts_the_new_value_alone(entries: Callable[..., Entry]) -> None:
    backend = MemoryBackend(100_000)
    await backend.set("a", Held(entries(), bytes(50_000), 0))
    await backend.set("a", Held(entries(), bytes(10), 0))
    assert backend.used_bytes == Held(entries(), bytes(10), 0).size


async def test_a_value_over_the_bound_displaces_only_its_own_key(entries: Callable[..., Entry]) -> None:
    backend = MemoryBackend(10_000)
    await backend.set("a", Held(entries(), b"old", 0))
    await backend.set("b", Held(entries(), b"other", 0))
    await backend.set("a", Held(entries(), bytes(10_000), 0))
    assert await backend.exists("a") is False
    assert await backend.exists("b") is True


async def test_a_bound_of_nothing_holds_nothing(entries: Callable[..., Entry]) -> None:
    backend = MemoryBackend(0)
    await backend.set("a", Held(entries(), None, 0))
    assert (len(backend), backend.used_bytes) == (0, 0)


def test_long_field_values_are_counted(entries: Callable[..., Entry]) -> None:
    entry = entries()
    metadata = entry.metadata
    longer = Fields((*metadata.fields.lines, ("Content-Disposition", "x" * 5_000)))
    grown = entry.freshened(type(metadata)(longer, 0, 0, metadata.presented))
    assert Held(grown, b"", 0).size == Held(entry, b"", 0).size + FIELD_OVERHEAD + 5_000


@pytest.mark.parametrize("decoded", [False, True], ids=["filled", "promoted"])
@pytest.mark.parametrize("body", [None, 20_480])
async def test_an_entry_takes_the_bytes_that_are_counted(body: int | None, decoded: bool) -> None:
    backend = MemoryBackend(10**12)
    number = 2_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(number):
            key, entry = _realistic(n)
            if decoded:
                again = decode(encode(entry))
                assert again is not None
                entry = again
            await backend.set(key, Held(entry, None if body is None else bytes(body), 0))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    own = taken / number - (body or 0)
    counted = backend.used_bytes / number - (body or 0)
    assert 0.85 * counted < own < 1.1 * counted


def _realistic(n: int) -> tuple[str, Entry]:
    # From bytes, as a parser makes them: no text is shared between two responses.
    received = (
        f"Content-Type: image/jpeg\nContent-Length: {n + 20_000}\n"
        f'ETag: "{secrets.token_hex(16)}"\nLast-Modified: Tue, 15 Nov 2022 12:{n % 60:02}:31 GMT\n'
        f"Date: Tue, 15 Nov 2022 12:{n % 60:02}:31 GMT\nCache-Control: max-age=31536000\n"
        f'Content-Disposition: attachment; filename="IMG_{n}.jpeg"\nAge: {n + 300}'
    ).encode()
    pairs = (line.decode().partition(": ") for line in received.split(b"\n"))
    ref = MediaRef.parse(*(kind + secrets.token_hex(16) for kind in ("AC", "MM", "ME")))
    head = OriginHead(200, Fields.of((name, value) for name, _, value in pairs), 20_000, 1_000.5 + n, 1_001.5 + n)
    return str(ref), make_entry(represent(ref, head), length=20_000, checksum=secrets.token_hex(32), epoch=1 << 62)
