"""The cache's answer to a request."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.cache.body import Body
from proxy.cache.counters import Counter
from proxy.cache.entry import Representation
from proxy.semantics.cache_status import CacheStatus


@dataclass(frozen=True, slots=True)
class CacheResult:
    """An answer to be sent.

    `age` and `remaining`, the rest of its freshness lifetime, are in seconds; `remaining` is negative if it is stale.
    `counter` is the one that counts it. `in_order`: the bytes can be read only once, from the first to the last.
    `attempt` is the number of this fill in a row of failed ones.
    """

    representation: Representation
    body: Body
    age: float
    remaining: float
    status: CacheStatus
    counter: Counter
    in_order: bool = False
    attempt: int = 1
