"""The engine: carries out what the cache rules decide, with one upstream read for any number of readers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self, assert_never

from proxy.cache.body import Body
from proxy.cache.entry import Representation
from proxy.cache.fill import Begun, Fill, Validated
from proxy.cache.spool import Allowance, Spool
from proxy.cache.tiers import Stored, Tiers
from proxy.errors import Overloaded, UpstreamError, UpstreamTimeout
from proxy.model import Clock, MediaRef
from proxy.origin import PRESENTED, Origin
from proxy.semantics.cache_status import CacheStatus, Fwd
from proxy.semantics.caching import Forward, Refuse, Reuse, ReuseStale, Validate, decide, on_error
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy, current_age, freshness_lifetime
from proxy.semantics.stored import Storable, StoredMetadata, Validators, storable

_log = logging.getLogger("media_gateway.cache")

_TRIES: Final = 4
"""Look-ups of one request at the most: a stored response may vanish, and a shared fill may not be shareable."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer to be sent. `age` and `remaining` freshness are in seconds; `remaining` is negative when stale."""

    representation: Representation
    body: Body
    age: float
    remaining: float
    status: CacheStatus


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
    async def open(self, ref: MediaRef, request: Fields, *, fresh: bool = False) -> AsyncIterator[Opened]:
        """The answer to a GET or HEAD for a media. `fresh`: a 404 of the upstream may be transient.

        Raises `UpstreamError`, or `Overloaded` where too many fills are under way.
        """
        opened = await self._open(ref, request, fresh=fresh)
        try:
            yield opened
        finally:
            await opened.body.close()

    async def _open(self, ref: MediaRef, request: Fields, *, fresh: bool) -> Opened:
        shareable = True
        for _ in range(_TRIES):
            stored = await self.tiers.find(ref)
            now = self._clock()
            decision = decide(stored.metadata if stored else None, request, now, self._policy, presented=PRESENTED)
            opened: Opened | None
            match decision:
                case Reuse():
                    assert stored is not None
                    opened = await self._reuse(ref, stored, CacheStatus(hit=True, ttl=int(decision.remaining)))
                case ReuseStale():
                    assert stored is not None
                    if decision.revalidate:
                        self._validate_in_background(ref, stored)
                    opened = await self._reuse(ref, stored, CacheStatus(hit=True, ttl=-int(decision.staleness) or -1))
                case Validate():
                    opened = await self._forward(
                        ref, stored, decision.validators, decision.reason, fresh=fresh, shareable=shareable
                    )
                case Forward():
                    opened = await self._forward(ref, stored, None, decision.reason, fresh=fresh, shareable=shareable)
                case Refuse():
                    raise UpstreamTimeout("Nothing is stored that may be used, and only that was asked for.")
                case _:
                    assert_never(decision)
            if opened is not None:
                return opened
            # What was found has vanished, or the fill that was joined may serve its first reader alone.
            shareable = False
        raise UpstreamError("The media could not be read from the cache.", note="the stored response kept vanishing")

    async def _reuse(self, ref: MediaRef, stored: Stored, status: CacheStatus) -> Opened | None:
        body = await self.tiers.open(ref, stored)
        if body is None:
            return None
        return self._opened(stored.entry.representation, body, status)

    def _opened(self, representation: Representation, body: Body, status: CacheStatus) -> Opened:
        age = current_age(representation.metadata, self._clock())
        return Opened(representation, body, age, self._lifetime(representation.metadata) - age, status)

    def _lifetime(self, metadata: StoredMetadata) -> float:
        return freshness_lifetime(metadata.fields, metadata.answered_at, self._policy)

    # --- asking the upstream ---

    async def _forward(
        self,
        ref: MediaRef,
        stored: Stored | None,
        validators: Validators | None,
        reason: Fwd,
        *,
        fresh: bool,
        shareable: bool,
    ) -> Opened | None:
        running = self._shared.get(ref) if shareable else None
        if running is not None and running.abandoned:
            running = None
        if running is not None and running.whole:
            # Its bytes have all come and are being stored: what it leaves is a stored response.
            await running.ended.wait()
            return None
        fill = running or self._start(ref, stored, validators, fresh=fresh, shared=shareable)
        body = fill.join()
        try:
            outcome = await asyncio.shield(fill.outcome)
            match outcome:
                case Begun():
                    stores = self._stores(outcome.representation)
                    if running is not None and not stores:
                        # RFC 9111 §4: only a response that is stored or storable serves several requests.
                        await body.close()
                        return None
                    status = CacheStatus(fwd=reason, fwd_status=200, stored=stores, collapsed=running is not None)
                    return self._opened(outcome.representation, body, status)
                case Validated():
                    await body.close()
                    status = CacheStatus(fwd=reason, fwd_status=304, collapsed=running is not None)
                    return await self._reuse(ref, outcome.stored, status)
                case _:
                    assert_never(outcome)
        except UpstreamError as error:
            await body.close()
            return await self._after_error(ref, stored, error, reason)
        except BaseException:
            await body.close()
            raise

    async def _after_error(
        self, ref: MediaRef, stored: Stored | None, error: UpstreamError, reason: Fwd
    ) -> Opened | None:
        """Serve stale where RFC 5861 §4 allows it; else the error goes on."""
        if stored is not None:
            verdict = on_error(stored.metadata, error, self._clock(), self._policy, presented=PRESENTED)
            if isinstance(verdict, ReuseStale):
                return await self._reuse(ref, stored, CacheStatus(fwd=reason, detail="stale-if-error"))
        raise error.with_traceback(None)

    def _stores(self, representation: Representation) -> bool:
        verdict = storable(200, representation.metadata.fields)
        return isinstance(verdict, Storable) and self.tiers.room_for(representation.length)

    def _validate_in_background(self, ref: MediaRef, stored: Stored) -> None:
        if ref in self._shared or len(self._fills) >= self._max_fills:
            return
        self._start(ref, stored, stored.metadata.validators or None, background=True)

    def _start(
        self,
        ref: MediaRef,
        stored: Stored | None,
        validators: Validators | None,
        *,
        fresh: bool = False,
        shared: bool = True,
        background: bool = False,
    ) -> Fill:
        if len(self._fills) >= self._max_fills:
            raise Overloaded("The gateway fetches as many media as it can.")

        def make_spool(representation: Representation) -> Spool:
            if not self._stores(representation):
                # RFC 9111 §5.2.2.5: what may not be stored is not written to a disk either.
                return Spool(
                    representation.generation, None, self.tiers.ram_object_bytes, self._allowance, stores=False
                )
            return Spool(representation.generation, self.tiers.disk, self.tiers.ram_object_bytes, self._allowance)

        fill = Fill(
            ref,
            self._origin,
            self.tiers,
            make_spool,
            stored=stored if validators else None,
            validators=validators,
            fresh=fresh,
            background=background,
        )
        self._fills.add(fill)
        if shared:
            self._shared[ref] = fill
        fill.task.add_done_callback(lambda _: self._ended(fill))
        return fill

    def _ended(self, fill: Fill) -> None:
        self._fills.discard(fill)
        if self._shared.get(fill.ref) is fill:
            del self._shared[fill.ref]
        error = None if fill.task.cancelled() else fill.task.exception()
        if error is not None:
            _log.error("A fill broke down", exc_info=error)
