"""The store of the RAM tier: three queues, bounded in bytes, which decide what is evicted."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.cache.backend import Backend, require_no_ttl
from proxy.cache.stored import StoredResponse
from proxy.erasure import prefixes
from proxy.semantics.fields import Fields
from proxy.telemetry.metrics import Metrics, Tier

OVERHEAD: Final = 900
"""Bytes counted for one entry besides its body and its field lines: its objects, identifiers and table slots."""

FIELD_OVERHEAD: Final = 130
"""Bytes counted for one field line besides its value."""

KEY_OVERHEAD: Final = 260
"""Bytes counted for the key of a newcomer that was evicted."""

_SWEPT_AT_A_TIME: Final = 500
_NEWCOMERS_SHARE: Final = 10
_MOST_USES: Final = 3


def ram_size(stored: StoredResponse) -> int:
    """Return the bytes of RAM that a stored response takes, by measured averages for all but body and field values."""
    return _size(stored.entry.fields, 0 if stored.content is None else len(stored.content))


def _size(fields: Iterable[tuple[str, str]], length: int) -> int:
    return OVERHEAD + sum(FIELD_OVERHEAD + len(value) for _, value in fields) + length


@dataclass(slots=True)
class _Slot:
    """A place in a queue. `uses` counts the uses since the value came into it, up to `_MOST_USES`."""

    value: StoredResponse
    size: int
    uses: int = 0


class _Queue:
    """A queue of slots by key, and the bytes that they take."""

    def __init__(self) -> None:
        self.slots: OrderedDict[str, _Slot] = OrderedDict()
        self.bytes = 0

    def push(self, key: str, slot: _Slot) -> None:
        self.slots[key] = slot
        self.bytes += slot.size

    def pop(self) -> tuple[str, _Slot]:
        """Take the oldest out."""
        key, slot = self.slots.popitem(last=False)
        self.bytes -= slot.size
        return key, slot

    def remove(self, key: str) -> bool:
        slot = self.slots.pop(key, None)
        if slot is not None:
            self.bytes -= slot.size
        return slot is not None


class RamStore(Backend[StoredResponse]):
    """The store of at most `max_bytes`, as `ram_size` and `KEY_OVERHEAD` count them.

    An operation on a key costs the same at any number of entries.
    """

    NAME = "media-gateway-memory"

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._newcomers = _Queue()
        self._proven = _Queue()
        self._evicted: OrderedDict[str, None] = OrderedDict()
        self._metrics = metrics
        self._count()

    def _count(self) -> None:
        self._metrics.ram_holds(self.used_bytes, len(self), self._max_bytes)

    def has_room_for(self, fields: Fields, length: int) -> bool:
        """Return whether a response with these fields and a body of so many bytes can be held."""
        return _size(fields.lines, length) <= self._max_bytes

    @property
    def used_bytes(self) -> int:
        return self._newcomers.bytes + self._proven.bytes + KEY_OVERHEAD * len(self._evicted)

    def __len__(self) -> int:
        return len(self._newcomers.slots) + len(self._proven.slots)

    def use(self, key: str) -> StoredResponse | None:
        """Return what is held, and count a use, as `get` does."""
        slot = self._slot(key)
        if slot is None:
            return None
        if slot.uses < _MOST_USES:
            slot.uses += 1
        return slot.value

    def peek(self, key: str) -> StoredResponse | None:
        """Return what is held, without counting a use."""
        slot = self._slot(key)
        return None if slot is None else slot.value

    async def _load(self, key: str) -> StoredResponse | None:
        return self.use(key)

    async def _save(
        self, key: str, value: StoredResponse, ttl: float | None, instead_of: StoredResponse | None
    ) -> bool:
        require_no_ttl(ttl)
        slot = self._slot(key)
        if instead_of is not None and (slot is None or slot.value != instead_of):
            return False
        queue = self._proven if key in self._proven.slots or key in self._evicted else self._newcomers
        self._remove(key)
        new = _Slot(value, ram_size(value), slot.uses if slot is not None else 0)
        # Room is made before the new value comes, so that it is not evicted itself.
        if new.size <= self._max_bytes:
            self._make_room(new.size)
            queue.push(key, new)
            self._count()
        return True

    async def _drop(self, key: str) -> bool:
        return self._slot(key) is not None and self._remove(key)

    async def _drop_all(self, prefix: str) -> None:
        for names in (self._newcomers.slots, self._proven.slots, self._evicted):
            for key in [key for key in names if key.startswith(prefix)]:
                self._remove(key)

    async def sweep(self, erased: Mapping[str, int]) -> None:
        """Remove what erasures cover: prefixes of keys, each with the number of its last erasure.

        What was looked up since stays. Other work has its turn in between.
        """
        whole = all(prefix and not prefix.endswith("/") for prefix in erased)
        keys = list(erased) if whole else [*self._newcomers.slots, *self._proven.slots, *self._evicted]
        for start in range(0, len(keys), _SWEPT_AT_A_TIME):
            for key in keys[start : start + _SWEPT_AT_A_TIME]:
                covering = [erased[prefix] for prefix in prefixes(key) if prefix in erased]
                held = self.peek(key)
                if covering and (held is None or held.epoch < max(covering)):
                    self._remove(key)
            await asyncio.sleep(0)

    def _slot(self, key: str) -> _Slot | None:
        return self._proven.slots.get(key) or self._newcomers.slots.get(key)

    def _remove(self, key: str) -> bool:
        self._evicted.pop(key, None)
        removed = self._newcomers.remove(key) or self._proven.remove(key)
        self._count()
        return removed

    # --- eviction ---

    def _make_room(self, size: int) -> None:
        while self.used_bytes + size > self._max_bytes:
            crowded = self._newcomers.bytes * _NEWCOMERS_SHARE > self._max_bytes
            if self._newcomers.slots and (crowded or not self._proven.slots):
                self._turn_out_newcomer()
            elif self._proven.slots:
                self._turn_out_proven()
            else:
                self._evicted.popitem(last=False)

    def _turn_out_newcomer(self) -> None:
        """Move the oldest newcomer to the proven if it was used, else evict it and keep its key.

        At most as many keys are kept as there are entries.
        """
        key, slot = self._newcomers.pop()
        if slot.uses:
            slot.uses = 0
            self._proven.push(key, slot)
            return
        self._metrics.evicted(Tier.RAM, 1)
        self._evicted[key] = None
        while len(self._evicted) > len(self):
            self._evicted.popitem(last=False)

    def _turn_out_proven(self) -> None:
        """Let the oldest of the proven go round once more if it has a use left, else evict it."""
        key, slot = self._proven.pop()
        if slot.uses:
            slot.uses -= 1
            self._proven.push(key, slot)
            return
        self._metrics.evicted(Tier.RAM, 1)
