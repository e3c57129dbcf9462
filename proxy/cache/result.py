"""What the cache answers a request with."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.cache.body import Body
from proxy.cache.counters import Counter
from proxy.cache.entry import Representation
from proxy.semantics.cache_status import CacheStatus


@dataclass(frozen=True, slots=True)
class CacheResult:
    """An answer to be sent. `age` and `remaining` freshness are in seconds; `remaining` is negative when stale.

    `counter` is how it counts. `in_order`: the bytes can be read once, from the first on. `attempt`: which fill in a
    row of failed ones this is.
    """

    representation: Representation
    body: Body
    age: float
    remaining: float
    status: CacheStatus
    counter: Counter
    in_order: bool = False
    attempt: int = 1
