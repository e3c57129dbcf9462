"""The RAM tier: whole small bodies and the metadata of large ones, bounded in bytes, least recently used out first."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from proxy.cache.backend import Backend
from proxy.cache.entry import Entry
from proxy.model import Clock

OVERHEAD: Final = 900
"""Bytes counted for one entry besides its body and its field lines: its objects, identifiers and table slots."""

FIELD_OVERHEAD: Final = 130
"""Bytes counted for one field line besides its value."""


@dataclass(frozen=True, slots=True)
class Held:
    """What RAM holds of a stored response; `body` is None where the bytes lie on disk.

    `epoch`: the number of the last erasure when it was last known not to be erased.
    """

    entry: Entry
    body: bytes | None
    epoch: int

    @property
    def size(self) -> int:
        """Bytes of RAM, by measured averages for everything but bodies and field values."""
        lines = sum(FIELD_OVERHEAD + len(value) for _, value in self.entry.fields)
        return OVERHEAD + lines + (len(self.body) if self.body is not None else 0)


@dataclass(frozen=True, slots=True)
class _Slot:
    value: Held
    size: int
    deadline: float | None


class MemoryBackend(Backend[Held]):
    """Holds at most `max_bytes`, as `Held.size` counts them. Each operation costs the same at any number of entries."""

    NAME = "media-gateway-memory"

    def __init__(self, max_bytes: int, clock: Clock = time.time) -> None:
        super().__init__(clock)
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._slots: OrderedDict[str, _Slot] = OrderedDict()

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def __len__(self) -> int:
        return len(self._slots)

    async def _load(self, key: str) -> Held | None:
        slot = self._live(key)
        if slot is None:
            return None
        self._slots.move_to_end(key)
        return slot.value

    async def _save(
        self, key: str, value: Held, deadline: float | None, *, only_new: bool = False, instead_of: Held | None = None
    ) -> bool:
        slot = self._live(key)
        if only_new and slot is not None:
            return False
        if instead_of is not None and (slot is None or slot.value != instead_of):
            return False
        self._remove(key)
        size = value.size
        if size > self._max_bytes:
            return True
        self._slots[key] = _Slot(value, size, deadline)
        self._used_bytes += size
        while self._used_bytes > self._max_bytes:
            _, oldest = self._slots.popitem(last=False)
            self._used_bytes -= oldest.size
        return True

    async def _drop(self, key: str, value: Held | None = None) -> bool:
        slot = self._live(key)
        if slot is None or (value is not None and slot.value != value):
            return False
        self._remove(key)
        return True

    async def _drop_all(self, prefix: str) -> None:
        for key in [key for key in self._slots if key.startswith(prefix)]:
            self._remove(key)

    async def _prolong(self, key: str, deadline: float | None) -> bool:
        slot = self._live(key)
        if slot is None:
            return False
        self._slots[key] = _Slot(slot.value, slot.size, deadline)
        return True

    def _live(self, key: str) -> _Slot | None:
        slot = self._slots.get(key)
        if slot is not None and slot.deadline is not None and slot.deadline <= self._clock():
            self._remove(key)
            return None
        return slot

    def _remove(self, key: str) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._used_bytes -= slot.size
