"""The engine: carries out what the cache rules decide, with one upstream read for any number of readers."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from typing import Final, Self, TypeVar, assert_never

from proxy.cache.body import Body
from proxy.cache.entry import Representation
from proxy.cache.fill import Begun, Fill, Validated
from proxy.cache.spool import Allowance, Bytes, Spool, Window
from proxy.cache.tiers import Stored, Tiers
from proxy.erasure import Reach
from proxy.errors import (
    GatewayError,
    MediaNotFound,
    Overloaded,
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
from proxy.semantics.stored import Storable, StoredMetadata, Validators, storable

T = TypeVar("T")

_log = logging.getLogger("media_gateway.cache")

_TRIES: Final = 4
"""Look-ups of one request at the most: a stored response may vanish, and a shared fill may not be shareable."""

_ATTEMPTS: Final = 3
"""Fills in a row for the readers of one fill that broke off before any of its bytes had gone out to them."""

_REMEMBERED: Final = 10_000
"""Media remembered as not there, and media whose last fill is remembered as broken."""


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
class _Need:
    """What has to be asked of the upstream, and why; `validators` of the `stored` response, None to fetch anew."""

    ref: MediaRef
    stored: Stored | None
    validators: Validators | None
    reason: Fwd
    fresh: bool
    attempt: int


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
        self._origin = origin
        self._policy = policy
        self._clock = clock
        self._max_fills = max_fills
        self._allowance = Allowance(spool_bytes)
        self._shared: dict[MediaRef, Fill] = {}
        self._fills: set[Fill] = set()
        self._missing: OrderedDict[MediaRef, float] = OrderedDict()
        self._broken: OrderedDict[MediaRef, Fill] = OrderedDict()

    @property
    def fills(self) -> frozenset[Fill]:
        """The fills under way."""
        return frozenset(self._fills)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        fills = list(self._fills)
        for fill in fills:
            # What has come whole is stored, which takes a moment.
            if not fill.whole:
                fill.task.cancel()
        await asyncio.gather(*(fill.task for fill in fills), return_exceptions=True)

    @asynccontextmanager
    async def open(
        self, ref: MediaRef, request: Fields, *, fresh: bool = False, attempt: int = 1
    ) -> AsyncIterator[Opened]:
        """The answer to a GET or HEAD for a media. `fresh`: a 404 of the upstream may be transient.

        Raises `UpstreamError`, or `Overloaded` where too many fills are under way.
        """
        if not fresh and self._missing.get(ref, 0) > self._clock():
            raise MediaNotFound
        opened = await self._open(ref, request, fresh=fresh, attempt=attempt)
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
        return opened.attempt + 1 if broken and opened.attempt < _ATTEMPTS else None

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
                    opened = await self._reuse(ref, stored, CacheStatus(hit=True, ttl=int(decision.remaining)))
                case ReuseStale():
                    assert stored is not None
                    if decision.revalidate:
                        self._validate_in_background(ref, stored)
                    opened = await self._reuse(ref, stored, CacheStatus(hit=True, ttl=-ceil(decision.staleness)))
                case Validate() | Forward():
                    validators = decision.validators if isinstance(decision, Validate) else None
                    need = _Need(ref, stored, validators, decision.reason, fresh=fresh, attempt=attempt)
                    opened = await self._forward(need, alone=alone)
                case Refuse():
                    raise UpstreamTimeout("Nothing is stored that may be used, and only that was asked for.")
                case _:
                    assert_never(decision)
            if isinstance(opened, Opened):
                return opened
            alone = alone or opened is _Again.ALONE
        raise UpstreamError("The media could not be read from the cache.", note="the stored response kept vanishing")

    async def _reuse(self, ref: MediaRef, stored: Stored, status: CacheStatus) -> Opened | _Again:
        body = await self.tiers.open(ref, stored)
        if body is None:
            return _Again.CHANGED
        return self._opened(stored.entry.representation, body, status)

    def _opened(
        self,
        representation: Representation,
        body: Body,
        status: CacheStatus,
        *,
        in_order: bool = False,
        attempt: int = 1,
    ) -> Opened:
        age = current_age(representation.metadata, self._clock())
        remaining = self._lifetime(representation.metadata) - age
        return Opened(representation, body, age, remaining, status, in_order, attempt)

    def _lifetime(self, metadata: StoredMetadata) -> float:
        return freshness_lifetime(metadata.fields, metadata.answered_at, self._policy)

    # --- asking the upstream ---

    async def _forward(self, need: _Need, *, alone: bool) -> Opened | _Again:
        running = None if alone else await self._joinable(need.ref)
        if running is not None and running.whole:
            # Its bytes have all come and are being stored: what it leaves is a stored response.
            await running.ended.wait()
            return _Again.CHANGED
        collapsed = running is not None
        fill = running or self._start(need, shared=not alone)
        body = fill.join()
        try:
            outcome = await asyncio.shield(fill.outcome)
            match outcome:
                case Begun():
                    stores = self._stores(outcome.representation)
                    if collapsed and not stores:
                        # RFC 9111 §4: only a response that is stored or storable serves several requests.
                        await body.close()
                        return _Again.ALONE
                    status = CacheStatus(fwd=need.reason, fwd_status=200, stored=stores, collapsed=collapsed)
                    return self._opened(outcome.representation, body, status, in_order=not stores, attempt=fill.attempt)
                case Validated():
                    await body.close()
                    status = CacheStatus(fwd=need.reason, fwd_status=304, collapsed=collapsed)
                    return await self._reuse(need.ref, outcome.stored, status)
                case _:
                    assert_never(outcome)
        except UpstreamError as error:
            await body.close()
            return await self._after_error(need, error)
        except BaseException:
            await body.close()
            raise

    async def _joinable(self, ref: MediaRef) -> Fill | None:
        """The fill that a new reader may join: none that is over or given up, or was erased since it began."""
        while True:
            running = self._shared.get(ref)
            if running is None or running.abandoned or running.ended.is_set():
                return None
            epoch = self.tiers.epoch
            if running.epoch == epoch:
                return running
            erased = await self.tiers.erased(ref, running.epoch)
            if erased and self._shared.get(ref) is running:
                return None
            if not erased:
                running.epoch = epoch

    async def erase(self, reach: Reach) -> None:
        """Erase what is stored and being fetched, for every worker of the folder at once.

        Raises `StoreError` where that cannot be done.
        """
        await self.tiers.erase(reach)
        for ref in [ref for ref in self._missing if reach.covers(ref)]:
            del self._missing[ref]

    async def _after_error(self, need: _Need, error: UpstreamError) -> Opened | _Again:
        """Serve stale where RFC 5861 §4 allows it; else the error goes on."""
        if isinstance(error, MediaNotFound) and not need.fresh:
            self._remember_missing(need.ref)
        if need.stored is not None:
            verdict = on_error(need.stored.metadata, error, self._clock(), self._policy, presented=PRESENTED)
            if isinstance(verdict, ReuseStale):
                return await self._reuse(need.ref, need.stored, CacheStatus(fwd=need.reason, detail="stale-if-error"))
        raise error.with_traceback(None)

    def _remember_missing(self, ref: MediaRef) -> None:
        """Negative caching: for a short while the upstream is not asked for the same media again."""
        now = self._clock()
        lifetime = negative_lifetime(404, Fields(), now, self._policy)
        if lifetime > 0:
            _remember(self._missing, ref, now + lifetime)

    def _stores(self, representation: Representation) -> bool:
        verdict = storable(200, representation.metadata.fields)
        return isinstance(verdict, Storable) and self.tiers.room_for(representation.length)

    def _validate_in_background(self, ref: MediaRef, stored: Stored) -> None:
        if ref in self._shared or len(self._fills) >= self._max_fills:
            return
        need = _Need(ref, stored, stored.metadata.validators or None, Fwd.STALE, fresh=False, attempt=1)
        self._start(need, shared=True, background=True)

    def _start(self, need: _Need, *, shared: bool, background: bool = False) -> Fill:
        if len(self._fills) >= self._max_fills:
            raise Overloaded("The gateway fetches as many media as it can.")
        attempt = self._attempt(need)
        fill = Fill(
            need.ref,
            self._origin,
            self.tiers,
            self._make_bytes,
            stored=need.stored if need.validators else None,
            validators=need.validators,
            fresh=need.fresh,
            attempt=attempt,
            background=background,
        )
        self._fills.add(fill)
        if shared:
            self._shared[need.ref] = fill
        fill.task.add_done_callback(lambda _: self._ended(fill))
        return fill

    def _attempt(self, need: _Need) -> int:
        """Which fill in a row this will be. Raises what broke the last one where the readers' budget is used up."""
        broken = self._broken.pop(need.ref, None)
        if need.attempt == 1 or broken is None:
            return need.attempt
        # A reader that comes late from an earlier fill finds that others have tried on meanwhile.
        if broken.attempt >= _ATTEMPTS and broken.failure is not None:
            _remember(self._broken, need.ref, broken)
            raise broken.failure.with_traceback(None)
        return max(need.attempt, broken.attempt + 1)

    def _make_bytes(self, representation: Representation) -> Bytes:
        if self._stores(representation):
            return Spool(representation.generation, self.tiers.disk, self.tiers.ram_object_bytes, self._allowance)
        return Window(self._allowance)

    def _ended(self, fill: Fill) -> None:
        self._fills.discard(fill)
        if self._shared.get(fill.ref) is fill:
            del self._shared[fill.ref]
        if fill.failure is not None:
            _remember(self._broken, fill.ref, fill)
        error = None if fill.task.cancelled() else fill.task.exception()
        if error is not None:
            _log.error("A fill broke down", exc_info=error)


def _remember(table: OrderedDict[MediaRef, T], ref: MediaRef, value: T) -> None:
    table[ref] = value
    table.move_to_end(ref)
    if len(table) > _REMEMBERED:
        table.popitem(last=False)
