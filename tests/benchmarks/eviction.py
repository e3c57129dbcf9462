"""The entries that a bounded RAM tier should keep: four rules over made-up traces.

Run it by `python -m tests.benchmarks.eviction`.

Popularity is Zipf's, sizes are log-normal between 20 KB and 5 MB; of a media above 1 MB the tier holds metadata alone.
Some requests are for media that are never asked for again. Every rule takes amortised constant time for a request.
"""

from __future__ import annotations

import math
import random
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tests.benchmarks.tables import table

METADATA: Final = 1_700
"""Bytes of RAM for an entry besides its body."""

LARGEST: Final = 1_000_000
"""Bytes of the largest body that the tier holds."""

WARMING: Final = 0.3
"""The share of a trace that fills the tier before hits are counted."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Media asked for, in order; `sizes` are bytes of body, `working_set` bytes of RAM for all that come again."""

    asked: Sequence[int]
    sizes: Sequence[int]
    working_set: int


def footprint(size: int) -> int:
    """Return bytes of RAM that the tier counts for a media of that many bytes."""
    return METADATA + (size if size <= LARGEST else 0)


def make_trace(media: int, requests: int, alpha: float, wonders: float, seed: int = 7) -> Trace:
    """Draw by Zipf's law over `media`, and a share of `wonders`, which are media asked for once."""
    chance = random.Random(seed)
    weights = [1 / rank**alpha for rank in range(1, media + 1)]
    popular = iter(chance.choices(range(media), weights, k=requests))
    asked: list[int] = []
    following = media
    for _ in range(requests):
        if chance.random() < wonders:
            asked.append(following)
            following += 1
        else:
            asked.append(next(popular))
    sizes = [min(5_000_000, max(20_000, int(chance.lognormvariate(math.log(250_000), 1)))) for _ in range(following)]
    return Trace(asked, sizes, sum(map(footprint, sizes[:media])))


class Policy(Protocol):
    """A bounded set of media. `request` says whether one was held; it is afterwards, if the rule will have it."""

    def request(self, media: int, size: int) -> bool: ...


class Lru:
    """The least recently used goes first; an entry above a `share` of the bound is not admitted."""

    def __init__(self, bound: int, share: float = 1.0) -> None:
        self._bound, self._largest, self._used = bound, bound * share, 0
        self._held: OrderedDict[int, int] = OrderedDict()

    def request(self, media: int, size: int) -> bool:
        if media in self._held:
            self._held.move_to_end(media)
            return True
        if size <= self._largest:
            self._held[media] = size
            self._used += size
            while self._used > self._bound:
                self._used -= self._held.popitem(last=False)[1]
        return False


class SmallLru(Lru):
    """`Lru` that admits nothing above a 256th of the bound."""

    def __init__(self, bound: int) -> None:
        super().__init__(bound, 1 / 256)


class GreedyDual:
    """Greedy-Dual-Size-Frequency, its priorities rounded to powers of two: each power is a queue of its own."""

    _MOST_USES = 16

    def __init__(self, bound: int) -> None:
        self._bound, self._used, self._floor = bound, 0, 0.0
        self._classes: dict[int, OrderedDict[int, float]] = {}
        self._held: dict[int, tuple[int, int, int]] = {}

    def request(self, media: int, size: int) -> bool:
        known = self._held.get(media)
        if known is not None:
            _, uses, at = known
            del self._classes[at][media]
            self._place(media, size, min(uses + 1, self._MOST_USES))
            return True
        if size > self._bound:
            return False
        self._used += size
        self._place(media, size, 1)
        while self._used > self._bound:
            lowest = min(
                (queue for queue in self._classes.values() if queue), key=lambda queue: next(iter(queue.values()))
            )
            gone, self._floor = lowest.popitem(last=False)
            self._used -= self._held.pop(gone)[0]
        return False

    def _place(self, media: int, size: int, uses: int) -> None:
        at = round(math.log2(uses / size))
        self._held[media] = (size, uses, at)
        self._classes.setdefault(at, OrderedDict())[media] = self._floor + 2.0**at


class S3Fifo:
    """Three queues: newcomers (a tenth of the bytes), those that were asked for again, and names of newcomers gone."""

    _MOST_USES = 3

    def __init__(self, bound: int) -> None:
        self._bound, self._few, self._small_used, self._main_used = bound, bound // 10, 0, 0
        self._small: OrderedDict[int, int] = OrderedDict()
        self._main: OrderedDict[int, int] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._uses: dict[int, int] = {}

    def request(self, media: int, size: int) -> bool:
        uses = self._uses.get(media)
        if uses is not None:
            self._uses[media] = min(uses + 1, self._MOST_USES)
            return True
        if size > self._bound:
            return False
        self._uses[media] = 0
        if media in self._ghosts:
            del self._ghosts[media]
            self._main[media] = size
            self._main_used += size
        else:
            self._small[media] = size
            self._small_used += size
        while self._small_used + self._main_used > self._bound:
            if self._small_used > self._few or not self._main:
                self._evict_newcomer()
            else:
                self._evict()
        return False

    def _evict_newcomer(self) -> None:
        media, size = self._small.popitem(last=False)
        self._small_used -= size
        if self._uses[media] > 0:
            self._uses[media] = 0
            self._main[media] = size
            self._main_used += size
            return
        del self._uses[media]
        self._ghosts[media] = None
        while len(self._ghosts) > len(self._main) + len(self._small):
            self._ghosts.popitem(last=False)

    def _evict(self) -> None:
        media, size = self._main.popitem(last=False)
        if self._uses[media] > 0:
            self._uses[media] -= 1
            self._main[media] = size
            return
        self._main_used -= size
        del self._uses[media]


POLICIES: Final[dict[str, type[Lru | GreedyDual | S3Fifo]]] = {
    "LRU": Lru,
    "LRU ≤ 1/256": SmallLru,
    "GDSF": GreedyDual,
    "S3-FIFO": S3Fifo,
}


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of requests and of bytes that RAM may hold that were answered from it; seconds for a request."""

    hits: float
    byte_hits: float
    seconds: float


def replay(trace: Trace, policy: Policy) -> Score:
    """Return what a rule makes of a trace, once it is warm."""
    sizes, warm = trace.sizes, int(len(trace.asked) * WARMING)
    footprints = [footprint(size) for size in sizes]
    hits = asked_bytes = hit_bytes = 0
    began = time.perf_counter()
    for number, media in enumerate(trace.asked):
        size = footprints[media]
        held = policy.request(media, size)
        if number < warm:
            continue
        asked_bytes += size
        if held:
            hits += 1
            hit_bytes += size
    seconds = (time.perf_counter() - began) / len(trace.asked)
    return Score(hits / (len(trace.asked) - warm), hit_bytes / asked_bytes, seconds)


def compare(media: int, requests: int, alphas: Sequence[float] = (0.7, 0.9, 1.1)) -> list[Score]:
    """Run every rule over every trace and bound; print both hit ratios in per cent, and return the scores."""
    rows: list[list[str]] = []
    scores: list[Score] = []
    for alpha in alphas:
        for wonders in (0.0, 0.3, 0.6):
            trace = make_trace(media, requests, alpha, wonders)
            for share in (0.01, 0.05, 0.2):
                bound = int(trace.working_set * share)
                row = [replay(trace, policy(bound)) for policy in POLICIES.values()]
                scores += row
                cells = [f"{100 * score.hits:.1f} / {100 * score.byte_hits:.1f}" for score in row]
                rows.append([f"{alpha}", f"{wonders:.0%}", f"{share:.0%}", *cells])
    print(f"\nHits / byte hits, %, of {requests:,} requests for {media:,} media")
    table(["alpha", "once", "bound", *POLICIES], rows)
    each = [sum(score.seconds for score in scores[n :: len(POLICIES)]) for n in range(len(POLICIES))]
    runs = len(scores) // len(POLICIES)
    print("µs a request: " + ", ".join(f"{name} {1e6 * t / runs:.2f}" for name, t in zip(POLICIES, each, strict=True)))
    return scores


if __name__ == "__main__":
    compare(100_000, 500_000)
