"""The engine: carries out what the cache rules decide, with one upstream read for any number of readers."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from typing import Final, Self, assert_never

from proxy.cache.body import Body
from proxy.cache.counters import STALE_IF_ERROR, Counter, counter_of
from proxy.cache.entry import Representation
from proxy.cache.fill import Begun, Fill, Validated
from proxy.cache.fills import ATTEMPTS, Fills, Need
from proxy.cache.remembered import Remembered
from proxy.cache.tiers import Stored, Tiers
from proxy.erasure import Reach
from proxy.errors import (
    GatewayError,
    MediaNotFound,
    StoreError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from proxy.model import Clock, MediaRef
from proxy.origin import PRESENTED, Origin
from proxy.semantics.cache_status import CacheStatus, Fwd
from proxy.semantics.caching import Forward, Refuse, Reuse, ReuseStale, Validate, decide, on_error
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy, current_age, freshness_lifetime, negative_lifetime
from proxy.semantics.stored import StoredMetadata

_TRIES: Final = 3
"""Look-ups of one request at the most: a stored response may vanish, and a shared fill may not be shareable."""

_REMEMBERED: Final = 10_000
"""Media remembered as not there."""


class _Again(enum.Enum):
    """Why a look-up has to be done once more."""

    CHANGED = "what was found has changed or gone"
    ALONE = "the fill that was joined may serve one request only"


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer to be sent. `age` and `remaining` freshness are in seconds; `remaining` is negative when stale.

    `in_order`: the bytes can be read once, from the first on. `attempt`: which fill in a row of failed ones this is.
    """

    representation: Representation
    body: Body
    age: float
    remaining: float
    status: CacheStatus
    in_order: bool = False
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class _Missing:
    """A 404 that is remembered until that Unix time, or the next erasure."""

    until: float
    epoch: int


class Engine:
    """The cache in front of one origin. An async context manager: leaving it ends every fill."""

    def __init__(
        self,
        origin: Origin,
        tiers: Tiers,
        policy: FreshnessPolicy,
        clock: Clock,
        *,
        max_fills: int,
        spool_bytes: int,
    ) -> None:
        self.tiers = tiers
        self._policy = policy
        self._clock = clock
        self._fills = Fills(origin, tiers, max_fills=max_fills, spool_bytes=spool_bytes)
        self._missing: Remembered[_Missing] = Remembered(_REMEMBERED)

    @property
    def fills(self) -> frozenset[Fill]:
        """The fills under way."""
        return self._fills.under_way

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._fills.end()

    @asynccontextmanager
    async def open(
        self, ref: MediaRef, request: Fields, *, fresh: bool = False, attempt: int = 1
    ) -> AsyncIterator[Opened]:
        """The answer to a GET or HEAD for a media. `fresh`: a 404 of the upstream may be transient.

        Raises `UpstreamError`, or `Overloaded` where too many fills are under way.
        """
        counters = self.tiers.counters
        if not fresh and self._is_missing(ref):
            counters.add(Counter.NEGATIVE_HITS)
            raise MediaNotFound
        try:
            opened = await self._open(ref, request, fresh=fresh, attempt=attempt)
        except GatewayError as error:
            counters.add(Counter.NOT_FOUND if isinstance(error, MediaNotFound) else Counter.ERRORS)
            raise
        try:
            yield opened
        finally:
            await opened.body.close()

    @staticmethod
    def next_attempt(opened: Opened, error: GatewayError) -> int | None:
        """The `attempt` to open anew with, after `opened` failed before anything was sent; None to give up.

        All readers of a broken fill take the same number on, and share the next fill: one budget for all of them.
        """
        broken = isinstance(error, UpstreamTruncated | UpstreamUnreachable | UpstreamTimeout | StoreError)
        return opened.attempt + 1 if broken and opened.attempt < ATTEMPTS else None

    async def _open(self, ref: MediaRef, request: Fields, *, fresh: bool, attempt: int) -> Opened:
        alone = False
        for _ in range(_TRIES):
            stored = await self.tiers.find(ref)
            now = self._clock()
            decision = decide(stored.metadata if stored else None, request, now, self._policy, presented=PRESENTED)
            opened: Opened | _Again
            match decision:
                case Reuse():
                    assert stored is not None
                    status = CacheStatus(hit=True, ttl=int(decision.remaining))
                    opened = await self._reuse(ref, stored, status, attempt)
                case ReuseStale():
                    assert stored is not None
                    if decision.revalidate:
                        self._validate_in_background(ref, stored)
                    status = CacheStatus(hit=True, ttl=-ceil(decision.staleness))
                    opened = await self._reuse(ref, stored, status, attempt)
                case Validate() | Forward():
                    validators = decision.validators if isinstance(decision, Validate) else None
                    need = Need(ref, stored, validators, decision.reason, fresh=fresh, attempt=attempt)
                    opened = await self._forward(need, alone=alone)
                case Refuse():
                    raise UpstreamTimeout("Nothing is stored that may be used, and only that was asked for.")
                case _:
                    assert_never(decision)
            if isinstance(opened, Opened):
                in_ram = stored is not None and stored.in_ram
                stale = isinstance(decision, ReuseStale)
                self.tiers.counters.add(counter_of(opened.status, stale=stale, in_ram=in_ram))
                return opened
            alone = alone or opened is _Again.ALONE
        # Whatever was found kept changing under this reader: it fetches for itself, which depends on nothing stored.
        opened = await self._forward(Need(ref, None, None, Fwd.MISS, fresh=fresh, attempt=attempt), alone=True)
        assert isinstance(opened, Opened), "a fill of one's own begins or fails"
        self.tiers.counters.add(counter_of(opened.status, stale=False, in_ram=False))
        return opened

    async def _reuse(self, ref: MediaRef, stored: Stored, status: CacheStatus, attempt: int) -> Opened | _Again:
        body = await self.tiers.open(ref, stored)
        if body is None:
            return _Again.CHANGED
        return self._opened(stored.entry.representation, body, status, attempt)

    def _opened(
        self,
        representation: Representation,
        body: Body,
        status: CacheStatus,
        attempt: int,
        *,
        in_order: bool = False,
    ) -> Opened:
        age = current_age(representation.metadata, self._clock())
        remaining = self._lifetime(representation.metadata) - age
        return Opened(representation, body, age, remaining, status, in_order, attempt)

    def _lifetime(self, metadata: StoredMetadata) -> float:
        return freshness_lifetime(metadata.fields, metadata.answered_at, self._policy)

    # --- asking the upstream ---

    async def _forward(self, need: Need, *, alone: bool) -> Opened | _Again:
        running = None if alone else await self._fills.joinable(need.ref)
        if running is not None and running.whole:
            # Its bytes have all come and are being stored: what it leaves is a stored response.
            await running.ended.wait()
            return _Again.CHANGED
        collapsed = running is not None
        fill = running or self._fills.start(need, shared=not alone)
        body = fill.join()
        try:
            outcome = await asyncio.shield(fill.outcome)
            match outcome:
                case Begun():
                    stores = self._fills.stores(outcome.representation)
                    if collapsed and not stores:
                        # RFC 9111 §4: only a response that is stored or storable serves several requests.
                        await body.close()
                        return _Again.ALONE
                    status = CacheStatus(fwd=need.reason, fwd_status=200, stored=stores, collapsed=collapsed)
                    attempt = max(fill.attempt, need.attempt)
                    return self._opened(outcome.representation, body, status, attempt, in_order=not stores)
                case Validated():
                    await body.close()
                    status = CacheStatus(fwd=need.reason, fwd_status=304, collapsed=collapsed)
                    return await self._reuse(need.ref, outcome.stored, status, need.attempt)
                case _:
                    assert_never(outcome)
        except UpstreamError as error:
            await body.close()
            return await self._after_error(need, error)
        except BaseException:
            await body.close()
            raise

    async def erase(self, reach: Reach) -> None:
        """Erase what is stored and being fetched, for every worker of the folder at once.

        Raises `StoreError` where that cannot be done.
        """
        await self.tiers.erase(reach)

    async def _after_error(self, need: Need, error: UpstreamError) -> Opened | _Again:
        """Serve stale where RFC 5861 §4 allows it; else the error goes on."""
        if isinstance(error, MediaNotFound) and not need.fresh:
            self._remember_missing(need.ref)
        if need.stored is not None:
            verdict = on_error(need.stored.metadata, error, self._clock(), self._policy, presented=PRESENTED)
            if isinstance(verdict, ReuseStale):
                status = CacheStatus(fwd=need.reason, detail=STALE_IF_ERROR)
                return await self._reuse(need.ref, need.stored, status, need.attempt)
        raise error.with_traceback(None)

    def _remember_missing(self, ref: MediaRef) -> None:
        """Negative caching: for a short while the upstream is not asked for the same media again."""
        now = self._clock()
        lifetime = negative_lifetime(404, Fields(), now, self._policy)
        if lifetime > 0:
            self._missing.put(ref, _Missing(now + lifetime, self.tiers.epoch))

    def _is_missing(self, ref: MediaRef) -> bool:
        missing = self._missing.get(ref)
        return missing is not None and missing.until > self._clock() and missing.epoch == self.tiers.epoch

    def _validate_in_background(self, ref: MediaRef, stored: Stored) -> None:
        if not self._fills.has_room_for(ref):
            return
        need = Need(ref, stored, stored.metadata.validators or None, Fwd.STALE, fresh=False, attempt=1)
        self._fills.start(need, shared=True, background=True)
