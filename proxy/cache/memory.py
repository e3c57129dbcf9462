"""The RAM tier: whole small bodies and the metadata of large ones, bounded in bytes, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from proxy.cache.backend import Backend
from proxy.cache.entry import Entry

OVERHEAD: Final = 2_500
"""Bytes counted for one entry besides its body: its objects, strings and table slots."""


@dataclass(frozen=True, slots=True)
class Held:
    """What RAM holds of a stored response; `body` is None where the bytes lie on disk."""

    entry: Entry
    body: bytes | None

    @property
    def size(self) -> int:
        return OVERHEAD + (len(self.body) if self.body is not None else 0)


class MemoryBackend(Backend[Held]):
    """Holds at most `max_bytes`, as `Held.size` counts them. Each operation costs the same at any number of entries."""

    NAME = "media-gateway-memory"

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._slots: OrderedDict[str, tuple[Held, float | None]] = OrderedDict()

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def __len__(self) -> int:
        return len(self._slots)

    async def _load(self, key: str) -> tuple[Held, float | None] | None:
        slot = self._slots.get(key)
        if slot is not None:
            self._slots.move_to_end(key)
        return slot

    async def _save(self, key: str, value: Held, deadline: float | None, *, only_new: bool = False) -> bool:
        if only_new and key in self._slots:
            return False
        self._remove(key)
        if value.size > self._max_bytes:
            return True
        self._slots[key] = (value, deadline)
        self._used_bytes += value.size
        while self._used_bytes > self._max_bytes:
            _, (oldest, _) = self._slots.popitem(last=False)
            self._used_bytes -= oldest.size
        return True

    async def _drop(self, key: str) -> bool:
        return self._remove(key)

    async def _drop_all(self, prefix: str) -> None:
        for key in [key for key in self._slots if key.startswith(prefix)]:
            self._remove(key)

    def _remove(self, key: str) -> bool:
        slot = self._slots.pop(key, None)
        if slot is None:
            return False
        self._used_bytes -= slot[0].size
        return True
