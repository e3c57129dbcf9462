"""The RAM tier: its bound, its order, and what it counts."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.cache.entry import Entry, decode, encode, make_entry, represent
from proxy.cache.ram.store import FIELD_OVERHEAD, KEY_OVERHEAD, OVERHEAD, RamStore, ram_size
from proxy.cache.stored import StoredResponse
from proxy.model import MediaRef
from proxy.origin import OriginHead
from proxy.semantics.fields import Fields
from proxy.telemetry.metrics import Metrics

_BOUND = 6 * OVERHEAD
_KEYS = st.sampled_from([f"{letter}/{n}" for letter in "ab" for n in range(4)])
_ENTRY = Entry(
    version=2,
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


@dataclass
class _Kept:
    key: str
    held: StoredResponse
    uses: int = 0


class _Model:
    """A model of the tier: three plain lists, the oldest first."""

    def __init__(self) -> None:
        self.newcomers: list[_Kept] = []
        self.proven: list[_Kept] = []
        self.dropped: list[str] = []

    @property
    def all(self) -> list[_Kept]:
        return self.newcomers + self.proven

    @property
    def used(self) -> int:
        return sum(ram_size(kept.held) for kept in self.all) + KEY_OVERHEAD * len(self.dropped)

    def find(self, key: str) -> _Kept | None:
        return next((kept for kept in self.all if kept.key == key), None)

    def forget(self, *keys: str) -> None:
        self.newcomers = [kept for kept in self.newcomers if kept.key not in keys]
        self.proven = [kept for kept in self.proven if kept.key not in keys]
        self.dropped = [key for key in self.dropped if key not in keys]

    def set(self, key: str, held: StoredResponse) -> None:
        old = self.find(key)
        known = key in self.dropped or old in self.proven
        self.forget(key)
        if ram_size(held) <= _BOUND:
            while self.used + ram_size(held) > _BOUND:
                self._evict()
            queue = self.proven if known else self.newcomers
            queue.append(_Kept(key, held, old.uses if old else 0))

    def _evict(self) -> None:
        crowded = sum(ram_size(kept.held) for kept in self.newcomers) * 10 > _BOUND
        if self.newcomers and (crowded or not self.proven):
            kept = self.newcomers.pop(0)
            if kept.uses:
                self.proven.append(_Kept(kept.key, kept.held))
            else:
                self.dropped.append(kept.key)
                while len(self.dropped) > len(self.all):
                    self.dropped.pop(0)
        elif self.proven:
            kept = self.proven.pop(0)
            if kept.uses:
                self.proven.append(_Kept(kept.key, kept.held, kept.uses - 1))
        else:
            self.dropped.pop(0)


class MemoryAgainstModel(RuleBasedStateMachine):
    """The tier beside its model."""

    def __init__(self) -> None:
        super().__init__()
        self.backend = RamStore(_BOUND, Metrics())
        self.model = _Model()

    @rule(key=_KEYS, size=_SIZES)
    def set(self, key: str, size: int | None) -> None:
        held = StoredResponse(_ENTRY, None if size is None else bytes(size), 0)
        asyncio.run(self.backend.set(key, held))
        self.model.set(key, held)

    @rule(key=_KEYS)
    def get(self, key: str) -> None:
        kept = self.model.find(key)
        assert asyncio.run(self.backend.fetch(key)) == (kept.held if kept else None)
        self._used(key)

    def _used(self, key: str) -> None:
        kept = self.model.find(key)
        if kept is not None:
            kept.uses = min(kept.uses + 1, 3)

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        kept = self.model.find(key)
        assert asyncio.run(self.backend.delete(key)) == (kept is not None)
        if kept is not None:
            self.model.forget(key)

    @rule(prefix=st.sampled_from(["a/", "b/"]))
    def clear(self, prefix: str) -> None:
        asyncio.run(self.backend.clear(namespace=prefix))
        self.model.forget(*(f"{prefix}{n}" for n in range(4)))

    @invariant()
    def counts_exactly_and_never_over_the_bound(self) -> None:
        assert self.backend.used_bytes == self.model.used <= _BOUND
        assert len(self.backend) == len(self.model.all)


MemoryAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestMemoryAgainstModel = MemoryAgainstModel.TestCase


async def _fill(backend: RamStore, entry: Entry, names: str) -> None:
    for name in names:
        await backend.set(name, StoredResponse(entry, None, 0))


async def _held(backend: RamStore, names: str) -> str:
    return "".join([name for name in names if backend.use(name) is not None])


async def test_a_value_used_again_outlasts_one_that_was_not(entries: Callable[..., Entry]) -> None:
    entry = entries()
    backend = RamStore(12 * ram_size(StoredResponse(entry, None, 0)), Metrics())
    await _fill(backend, entry, "ab")
    await backend.get("a")
    await _fill(backend, entry, "cdefghijklmnopqrstuvwxyz")
    assert await _held(backend, "ab") == "a"


async def test_a_scan_displaces_nothing_that_is_in_use(entries: Callable[..., Entry]) -> None:
    entry = entries()
    backend = RamStore(40 * ram_size(StoredResponse(entry, None, 0)), Metrics())
    await _fill(backend, entry, "abcdefghij")
    for name in "abcdefghij":
        await backend.get(name)
    for number in range(1_000):
        await backend.set(f"once/{number}", StoredResponse(entry, None, 0))
    assert await _held(backend, "abcdefghij") == "abcdefghij"


async def test_a_newcomer_that_comes_back_after_its_eviction_stays(entries: Callable[..., Entry]) -> None:
    entry = entries()
    backend = RamStore(20 * ram_size(StoredResponse(entry, None, 0)), Metrics())
    await _fill(backend, entry, "abcdefghijklmnopqrstuvwxyz")
    assert backend.use("a") is None
    await _fill(backend, entry, "a")
    await _fill(backend, entry, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert backend.use("a") is not None


async def test_the_proven_that_are_no_longer_used_are_evicted(entries: Callable[..., Entry]) -> None:
    entry = entries()
    backend = RamStore(10 * ram_size(StoredResponse(entry, None, 0)), Metrics())
    await _fill(backend, entry, "abcd")
    for name in "abcd" * 4:
        await backend.get(name)
    for number in range(40):
        await _fill(backend, entry, chr(0x100 + number))
        await backend.get(chr(0x100 + number))
    assert await _held(backend, "abcd") == ""


async def test_the_proven_still_in_use_outlast_the_others(entries: Callable[..., Entry]) -> None:
    entry = entries()
    backend = RamStore(10 * ram_size(StoredResponse(entry, None, 0)), Metrics())
    await _fill(backend, entry, "abcdefgh")
    for name in "ab":
        await backend.get(name)
    for number in range(60):
        name = chr(0x100 + number)
        await _fill(backend, entry, name)
        await backend.get(name)
        await backend.get("a")
    assert await _held(backend, "ab") == "a"


async def test_a_new_value_is_held_whatever_is_evicted_for_it(entries: Callable[..., Entry]) -> None:
    entry = entries()
    backend = RamStore(10 * ram_size(StoredResponse(entry, None, 0)), Metrics())
    await _fill(backend, entry, "abcdefgh")
    for name in "abcdefgh" * 3:
        await backend.get(name)
    large = StoredResponse(entry, bytes(9 * ram_size(StoredResponse(entry, None, 0))), 0)
    await backend.set("z", large)
    assert await backend.get("z") == large
    assert await _held(backend, "abcdefgh") == ""


async def test_a_cleared_store_keeps_no_key(entries: Callable[..., Entry]) -> None:
    entry = entries()
    backend = RamStore(10 * ram_size(StoredResponse(entry, None, 0)), Metrics())
    await _fill(backend, entry, "abcdefghijklmnopqrstuvwxyz")
    await backend.clear()
    assert (len(backend), backend.used_bytes) == (0, 0)


async def test_kept_keys_give_way_if_nothing_else_is_left(entries: Callable[..., Entry]) -> None:
    entry = entries()
    one = ram_size(StoredResponse(entry, None, 0))
    backend = RamStore(10 * one, Metrics())
    await _fill(backend, entry, "abcdefghijklmnopqrstuvwxyz")
    for name in "abcdefghijklmnopqrstuvwxyz":
        await backend.delete(name)
    assert (len(backend), backend.used_bytes > 0) == (0, True)
    await backend.set("A", StoredResponse(entry, bytes(9 * one), 0))
    assert (len(backend), backend.used_bytes) == (1, 10 * one)


async def _bytes_of_a_kept_key(entry: Entry) -> float:
    """Fill a store with three times what it holds, and return the bytes that each kept key takes."""
    backend = RamStore(1_000 * (ram_size(StoredResponse(entry, None, 0)) + KEY_OVERHEAD), Metrics())
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for n in range(3_000):
            await backend.set(_realistic(n)[0], StoredResponse(entry, None, 0))
        assert len(backend) == pytest.approx(1_000, abs=1)
        for queue in (backend._newcomers, backend._proven):
            queue.slots.clear()
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(backend._evicted) == pytest.approx(1_000, abs=1)
    return taken / len(backend._evicted)


async def test_keys_of_evicted_newcomers_take_the_bytes_that_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    # Records of the log would be counted along, and so is what another thread allocates meanwhile.
    caplog.set_level(logging.CRITICAL)
    entry = _realistic(0)[1]
    own = min([await _bytes_of_a_kept_key(entry) for _ in range(2)])
    assert 0.8 * KEY_OVERHEAD < own < 1.3 * KEY_OVERHEAD


async def test_replacing_counts_the_new_value_alone(entries: Callable[..., Entry]) -> None:
    backend = RamStore(100_000, Metrics())
    await backend.set("a", StoredResponse(entries(), bytes(50_000), 0))
    await backend.set("a", StoredResponse(entries(), bytes(10), 0))
    assert backend.used_bytes == ram_size(StoredResponse(entries(), bytes(10), 0))


async def test_a_value_over_the_bound_displaces_only_its_own_key(entries: Callable[..., Entry]) -> None:
    backend = RamStore(10_000, Metrics())
    await backend.set("a", StoredResponse(entries(), b"old", 0))
    await backend.set("b", StoredResponse(entries(), b"other", 0))
    await backend.set("a", StoredResponse(entries(), bytes(10_000), 0))
    assert backend.peek("a") is None
    assert backend.peek("b") is not None


async def test_a_bound_of_nothing_holds_nothing(entries: Callable[..., Entry]) -> None:
    backend = RamStore(0, Metrics())
    await backend.set("a", StoredResponse(entries(), None, 0))
    assert (len(backend), backend.used_bytes) == (0, 0)


def test_long_field_values_are_counted(entries: Callable[..., Entry]) -> None:
    entry = entries()
    metadata = entry.metadata
    longer = Fields((*metadata.fields.lines, ("Content-Disposition", "x" * 5_000)))
    grown = entry.freshened(type(metadata)(longer, 0, 0, metadata.presented))
    assert ram_size(StoredResponse(grown, b"", 0)) == ram_size(StoredResponse(entry, b"", 0)) + FIELD_OVERHEAD + 5_000


@pytest.mark.parametrize("decoded", [False, True], ids=["filled", "promoted"])
@pytest.mark.parametrize("body", [None, 20_480])
async def test_an_entry_takes_the_bytes_that_are_counted(body: int | None, decoded: bool) -> None:
    backend = RamStore(10**12, Metrics())
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
            await backend.set(key, StoredResponse(entry, None if body is None else bytes(body), 0))
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
