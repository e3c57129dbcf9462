"""A table with a bound, for what may be forgotten: the oldest pair goes when there are too many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedTable(Generic[K, V]):
    """The pairs that were put, or used, last: no more than `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pairs: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, key: K) -> bool:
        return key in self._pairs

    def put(self, key: K, value: V) -> tuple[K, V] | None:
        """Insert or replace a pair, which is the newest then. Return the pair that had to go for it, if one had to."""
        self._pairs[key] = value
        self._pairs.move_to_end(key)
        return self._pairs.popitem(last=False) if len(self._pairs) > self._most else None

    def get(self, key: K) -> V | None:
        """Return the value of a key, and leave its pair as old as it is."""
        return self._pairs.get(key)

    def use(self, key: K) -> V | None:
        """Return the value of a key, whose pair is the newest then."""
        value = self._pairs.get(key)
        if value is not None:
            self._pairs.move_to_end(key)
        return value

    def first(self, key: K, value: V) -> V:
        """Return the value of a key, and insert this one if there was none; a known pair stays as old as it is."""
        if (known := self._pairs.get(key)) is not None:
            return known
        self.put(key, value)
        return value

    def pop(self, key: K) -> V | None:
        """Remove a pair, and return its value."""
        return self._pairs.pop(key, None)

    def pairs(self) -> tuple[tuple[K, V], ...]:
        """Return all pairs, the oldest first."""
        return tuple(self._pairs.items())

    def clear(self) -> None:
        """Remove all pairs."""
        self._pairs.clear()
