"""What the express lane remembers, in tables with a bound: heads, links, and what was answered to them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from proxy.cache.entry import Entry
from proxy.links import Claims
from proxy.model import MediaRef
from proxy.telemetry.batches import Words

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The `most` pairs that were used last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pairs: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, key: K) -> V | None:
        value = self._pairs.get(key)
        if value is not None:
            self._pairs.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self._pairs[key] = value
        self._pairs.move_to_end(key)
        if len(self._pairs) > self._most:
            self._pairs.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Head:
    """What a block of fields says: the one entity-tag of `If-None-Match`; `client` where a trusted proxy names one."""

    etag: str | None
    agent: Words
    client: Words | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer's head up to and after its request id, and what the log says of it."""

    before: bytes
    after: bytes
    words: Words


@dataclass(slots=True)
class Shape:
    """A stored response as links with the same claims show it.

    `kinds`: the fields of an ordinary answer, by `HEAD` or not and status. `rendered` holds this `second`'s heads, by
    kind and the link's end.
    """

    ref: MediaRef
    claims: Claims
    entry: Entry
    key: str
    kinds: dict[tuple[bool, int], tuple[tuple[str, str], ...]] = field(default_factory=dict)
    second: int = 0
    stale_at: float = 0.0
    rendered: dict[tuple[bool, int, int], Rendered] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """A verified link, as the request for it begins."""

    shape: Shape
    expires: int
    is_head: bool
    words: Words


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection, as the log names it; `trusted`: its `X-Forwarded-For` is believed."""

    words: Words
    trusted: bool
