"""What is known of the latest media, and forgotten of the others."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from proxy.model import MediaRef

V = TypeVar("V")


class Remembered(Generic[V]):
    """A value for each of the `most` media that were put last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[MediaRef, V] = OrderedDict()

    def put(self, ref: MediaRef, value: V) -> None:
        """Remember a value, and forget the oldest where there are too many."""
        self._values[ref] = value
        self._values.move_to_end(ref)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def get(self, ref: MediaRef) -> V | None:
        """What is remembered."""
        return self._values.get(ref)

    def pop(self, ref: MediaRef) -> V | None:
        """What was remembered; it is forgotten now."""
        return self._values.pop(ref, None)
