"""The engine, which carries out what the cache rules decide, with one upstream read for any number of readers."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Final, Self, assert_never

from proxy.cache.absences import Absences
from proxy.cache.counters import Counter
from proxy.cache.disk.store import DiskStore
from proxy.cache.entry import Entry
from proxy.cache.fills.fill import Begun, Fill, FillBody, Need, Outcome, Shared, Validated
from proxy.cache.fills.registry import ATTEMPTS, FillBounds, Fills
from proxy.cache.fills.sharing import Sharing
from proxy.cache.fills.states import FillState
from proxy.cache.invalidation.policy import Block, Erase, Lift
from proxy.cache.redis.outage import Contact, Trust
from proxy.cache.result import CacheResult
from proxy.cache.rules import Rules
from proxy.cache.stored import StoredResponse
from proxy.cache.tiers import Tiers
from proxy.erasure import BlockKind, Reach
from proxy.errors import (
    GatewayError,
    MediaNotFound,
    Overloaded,
    StoreError,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from proxy.model import Clock, MediaRef, MessageRef
from proxy.node import Seat
from proxy.origin import Origin
from proxy.semantics.cache_status import CacheStatus, Fwd
from proxy.semantics.caching import Forward, Refuse, Reuse, ReuseStale, Validate
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy

_TRIES: Final = 3
"""The most look-ups of one request: a stored response may vanish, and a fill may serve one request only."""

_PATIENCE_SECONDS: Final = 2.0
"""The longest that a reader waits for a validation without which its media may be served too."""


class _Again(enum.Enum):
    """The reasons for another look-up."""

    CHANGED = "the stored response has changed or gone"
    ALONE = "the fill that was joined may serve one request only"


class Opening:
    """The scope of an answer, which begins with a look-up: leaving it closes the body."""

    __slots__ = ("_look_up", "_result")

    def __init__(self, look_up: Coroutine[object, object, CacheResult]) -> None:
        self._look_up = look_up

    async def __aenter__(self) -> CacheResult:
        self._result = await self._look_up
        return self._result

    async def __aexit__(self, *_: object) -> None:
        await self._result.body.close()


class Engine:
    """The cache in front of one origin. An async context manager: leaving it ends every fill."""

    def __init__(
        self,
        origin: Origin,
        tiers: Tiers,
        policy: FreshnessPolicy,
        clock: Clock,
        bounds: FillBounds,
        *,
        seat: Seat | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tiers = tiers
        self._rules = Rules(policy, clock)
        self._clock = clock
        sharing = None if tiers.shared is None else Sharing(tiers.shared, tiers, self._rules.may_reuse)
        self._fills = Fills(origin, tiers, bounds, seat or Seat(), sharing, monotonic=monotonic)
        self._absences = Absences(policy, clock)

    @property
    def honours_request_directives(self) -> bool:
        """Return whether a request's `Cache-Control` has a say."""
        return self._rules.policy.honour_request_directives

    @property
    def disk(self) -> DiskStore | None:
        """The disk tier, which the workers of the node share; None if there is none, or it could not be opened."""
        return self.tiers.disk

    @property
    def shared_contact(self) -> Contact | None:
        """The contact of this worker with the shared tier; None if none is configured."""
        return None if self.tiers.shared is None else self.tiers.shared.follower.contact

    @property
    def fills(self) -> frozenset[Fill]:
        """The fills under way."""
        return self._fills.under_way

    async def __aenter__(self) -> Self:
        # If it cannot be done, the first request tries again.
        with contextlib.suppress(StoreError):
            await self.tiers.blocklist.catch_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._fills.end()

    def open(
        self,
        ref: MediaRef,
        request: Fields,
        *,
        young: bool = False,
        attempt: int = 1,
        block_kinds: BlockKind | None = None,
    ) -> Opening:
        """Return the scope of the answer to a GET or HEAD for a media. `young`: as in `Origin.open`.

        `block_kinds` is what `Engine.block_kinds` has just said of the media, without a wait since; None to ask for it.

        To enter it raises `UpstreamError` (`MediaNotFound` for a media that is gone, without asking the upstream),
        `Overloaded` if too many fills are under way, and `StoreError` if it cannot be told whether the media is gone.
        """
        return Opening(self._looked_up(ref, request, young=young, attempt=attempt, block_kinds=block_kinds))

    async def _looked_up(
        self, ref: MediaRef, request: Fields, *, young: bool, attempt: int, block_kinds: BlockKind | None
    ) -> CacheResult:
        counters = self.tiers.counters
        known = await self.block_kinds(ref) if block_kinds is None else block_kinds
        if BlockKind.GONE in known or self._absences.holds(ref, self.tiers.epoch):
            counters.add(Counter.NEGATIVE_HITS)
            raise MediaNotFound
        try:
            return await self._open(ref, request, young=young, attempt=attempt)
        except GatewayError as error:
            counters.add(Counter.NOT_FOUND if isinstance(error, MediaNotFound) else Counter.ERRORS)
            raise

    async def stored_types(self, refs: Iterable[MediaRef]) -> dict[MediaRef, str]:
        """Return the `Content-Type` of each of these media that is stored here and has one; no upstream is asked."""
        entries = await self.tiers.peek(refs)
        types = {ref: entry.metadata.fields.single("Content-Type") for ref, entry in entries.items()}
        return {ref: content_type for ref, content_type in types.items() if content_type is not None}

    async def drop(self, ref: MediaRef, generation: str) -> None:
        """Remove one stored response, whose body cannot be read."""
        await self.tiers.drop(ref, generation)

    def reused(self, entry: Entry) -> CacheResult:
        """Return the answer with a stored response that is reused now, but for its bytes."""
        return self._rules.reused(entry)

    @staticmethod
    def next_attempt(result: CacheResult, error: GatewayError) -> int | None:
        """Return the `attempt` to open again with, if `result` failed before anything was sent; None to give up.

        All readers of a broken fill take on the same number, and share the next fill: they have one budget together.
        """
        return Engine._again(result.attempt, error)

    @staticmethod
    def _again(attempt: int, error: GatewayError) -> int | None:
        broken = isinstance(error, UpstreamTruncated | UpstreamUnreachable | UpstreamTimeout | StoreError)
        return attempt + 1 if broken and attempt < ATTEMPTS else None

    async def _open(self, ref: MediaRef, request: Fields, *, young: bool, attempt: int) -> CacheResult:
        alone = False
        for _ in range(_TRIES):
            # A fill that is under way and found nothing stored has looked for all readers that join it.
            seek = alone or not self._fills.found_nothing(ref)
            stored = await self.tiers.find(ref) if seek else None
            doubted = stored is not None and self._trust(ref, stored) is not Trust.FULL
            decision = self._rules.decide(stored, request, doubted=doubted)
            result: CacheResult | _Again
            match decision:
                case Reuse():
                    assert stored is not None
                    status = CacheStatus(hit=True, ttl=int(decision.remaining))
                    result = await self._reuse(ref, stored, status, attempt)
                case ReuseStale():
                    assert stored is not None
                    if decision.revalidate:
                        self._validate_in_background(ref, stored)
                    status = CacheStatus(hit=True, ttl=-ceil(decision.staleness))
                    result = await self._reuse(ref, stored, status, attempt, stale=True)
                case Validate() | Forward():
                    validators = decision.validators if isinstance(decision, Validate) else None
                    need = Need(ref, stored, validators, decision.reason, young=young, attempt=attempt)
                    result = await self._forward(need, alone=alone, sought=seek)
                case Refuse():
                    raise UpstreamTimeout("Nothing is stored that may be used, and only that was asked for.")
                case _:
                    assert_never(decision)
            if isinstance(result, CacheResult):
                self.tiers.counters.add(result.counter)
                return result
            alone = alone or result is _Again.ALONE
        # The stored responses kept changing under this reader: it fetches for itself, which depends on none of them.
        result = await self._forward(Need(ref, None, None, Fwd.MISS, young=young, attempt=attempt), alone=True)
        assert isinstance(result, CacheResult), "a fill of one's own begins or fails"
        self.tiers.counters.add(result.counter)
        return result

    async def _reuse(
        self, ref: MediaRef, stored: StoredResponse, status: CacheStatus, attempt: int, *, stale: bool = False
    ) -> CacheResult | _Again:
        body = await self.tiers.open(ref, stored, partial(self._fills.rescue, ref, stored.entry))
        if body is None:
            return _Again.CHANGED
        return self._rules.result(stored.entry.representation, body, status, attempt, stale=stale, in_ram=stored.in_ram)

    def drain(self) -> None:
        """End the fills without readers; from now on, every fill ends with its readers."""
        self._fills.drain()

    def yield_connections(self, of: Callable[[MediaRef], bool], calls: int) -> None:
        """End up to `calls` fills without readers: as many calls wait for a connection in other workers."""
        self._fills.yield_connections(of, calls)

    # --- invalidations ---

    async def erase(self, reach: Reach) -> None:
        """Erase what is stored and being fetched, for every worker of the folder at once.

        Raises `StoreError` if that cannot be done.
        """
        await self.tiers.apply(Erase(reach.prefix))
        self._fills.end_erased(reach)

    async def block_kinds(self, subject: MediaRef | MessageRef) -> BlockKind:
        """Return the kinds of the blocks on a media, or on all media of a message.

        Raises `StoreError` if that cannot be told.
        """
        if self.tiers.shared is not None:
            await self.tiers.shared.follower.settle()
        return await self.tiers.blocklist.of(Reach.of(subject).prefix)

    def block_kinds_now(self, subject: MediaRef | MessageRef) -> BlockKind | None:
        """Return the same without waiting; None if it has to be looked up."""
        return self.tiers.blocklist.now(Reach.of(subject).prefix) if self.tiers.current else None

    async def mark_gone(self, ref: MediaRef, seconds: float) -> None:
        """Block a media as gone for so many seconds, or longer if it was: it is served and fetched for no reader.

        That holds for every worker of the folder at once, and erases as `erase` does unless the media was gone: nothing
        of it is stored then. Raises `StoreError`, and of that `RevocationsFull` if it is one block too many.
        """
        await self._block(BlockKind.GONE, Reach.of(ref), seconds)

    async def unmark_gone(self, ref: MediaRef, within: float | None = None) -> None:
        """Lift that; with `within` only if it ends within so many seconds. What was erased stays erased.

        Raises `StoreError`.
        """
        until = None if within is None else self._clock() + within
        await self.tiers.apply(Lift(BlockKind.GONE, Reach.of(ref).prefix, until))

    async def require_room(self, reaches: Iterable[Reach], seconds: float) -> None:
        """Raise `RevocationsFull` if all of these cannot be revoked, and `StoreError` if that cannot be told."""
        until = self._clock() + seconds
        await self.tiers.require_room([Block(BlockKind.REVOKED, reach.prefix, until) for reach in reaches])

    async def revoke(self, reach: Reach, seconds: float) -> None:
        """Block these media as revoked for so many seconds, or longer if they were: no link opens them.

        That erases as `erase` does. Raises `StoreError`, and of that `RevocationsFull` if it is one block too many.
        """
        await self._block(BlockKind.REVOKED, reach, seconds)

    async def lift_revocation(self, reach: Reach) -> None:
        """Lift the revocation of these media, and of any part of them. Raises `StoreError`.

        What a wider revocation covers stays revoked.
        """
        await self.tiers.apply(Lift(BlockKind.REVOKED, reach.prefix))

    async def _block(self, kind: BlockKind, reach: Reach, seconds: float) -> None:
        await self.tiers.apply(Block(kind, reach.prefix, self._clock() + seconds))
        self._fills.end_erased(reach)

    # --- asking the upstream ---

    async def _forward(self, need: Need, *, alone: bool, sought: bool = True) -> CacheResult | _Again:
        epoch = self.tiers.epoch
        running = None if alone else await self._fills.joinable(need.ref)
        if running is None and not sought:
            # The fill that was relied on is over, so a stored response has to be looked for after all.
            return _Again.CHANGED
        if running is not None and running.whole:
            # Its bytes have all come and are being stored: it leaves a stored response.
            await running.ended()
            return _Again.CHANGED
        collapsed = running is not None
        if collapsed:
            self.tiers.metrics.collapsed()
        elif need.attempt == 1 and (left := self._fills.left_alone(need.ref)) is not None:
            return await self._in_its_place(need, left.refusal(), left.failure)
        dispensable = self._is_dispensable(need)
        try:
            fill = running or self._fills.start(need, shared=not alone)
        except Overloaded:
            if dispensable:
                return await self._after_error(need, UpstreamBusy(), epoch)
            raise
        body = fill.join()
        try:
            with self._fills.awaited(need.ref.account):
                async with asyncio.timeout(_PATIENCE_SECONDS if dispensable else None):
                    outcome = await fill.begun()
            return await self._answered(need, fill, body, outcome, collapsed=collapsed)
        except TimeoutError:
            # The validation goes on without this reader.
            await body.close()
            return await self._after_error(need, UpstreamTimeout(), epoch)
        except UpstreamError as error:
            await body.close()
            again = self._again(max(fill.need.attempt, need.attempt), error) if fill.state is FillState.BROKEN else None
            if again is not None:
                # It withheld its body, so that no byte has gone out: the media may be asked for again.
                return await self._forward(replace(need, attempt=again), alone=alone)
            return await self._after_error(need, error, epoch)
        except BaseException:
            await body.close()
            raise

    async def _answered(
        self, need: Need, fill: Fill, body: FillBody, outcome: Outcome, *, collapsed: bool
    ) -> CacheResult | _Again:
        """Answer with the outcome of a fill."""
        match outcome:
            case Begun():
                stores = self._fills.stores(outcome.representation)
                if collapsed and not stores:
                    # RFC 9111 §4: only a response that is stored or storable serves several requests.
                    await body.close()
                    return _Again.ALONE
                status = CacheStatus(
                    fwd=need.reason,
                    fwd_status=200,
                    stored=self._fills.will_store(fill, outcome.representation),
                    collapsed=collapsed,
                )
                attempt = max(fill.need.attempt, need.attempt)
                return self._rules.result(outcome.representation, body, status, attempt, in_order=not stores)
            case Validated():
                await body.close()
                status = CacheStatus(fwd=need.reason, fwd_status=304, collapsed=collapsed)
                return await self._reuse(need.ref, outcome.stored, status, need.attempt)
            case Shared():
                await body.close()
                # A fill that waited for another gateway's fetch was collapsed with it (RFC 9211 §2.6).
                waited = CacheStatus(fwd=need.reason, collapsed=True)
                status = waited if outcome.waited else self._rules.from_shared(outcome.stored.metadata)
                return await self._reuse(need.ref, outcome.stored, status, need.attempt)
            case _:
                assert_never(outcome)

    async def _after_error(self, need: Need, error: UpstreamError, epoch: int) -> CacheResult | _Again:
        """Serve a stale response if that is allowed; else raise the error."""
        if isinstance(error, MediaNotFound):
            self._absences.remember(need.ref, error, epoch)
        return await self._in_its_place(need, error, error)

    async def _in_its_place(self, need: Need, error: UpstreamError, cause: UpstreamError) -> CacheResult | _Again:
        """Serve a stale response if RFC 5861 §4 allows it after `cause`; else raise `error`."""
        if need.stored is not None:
            doubted = self._trust(need.ref, need.stored) is Trust.NONE
            decision = self._rules.on_error(need.stored, cause, doubted=doubted)
            if isinstance(decision, ReuseStale):
                status = self._rules.after_error(decision, need.reason)
                return await self._reuse(need.ref, need.stored, status, need.attempt)
        raise error.with_traceback(None)

    def _trust(self, ref: MediaRef, stored: StoredResponse) -> Trust:
        return self.tiers.trust(str(ref), stored.entry)

    def _is_dispensable(self, need: Need) -> bool:
        """Return whether the response may serve without this validation, which the shared tier's outage requires."""
        stored = need.stored
        if stored is None or self._trust(need.ref, stored) is not Trust.FALLBACK:
            return False
        return isinstance(self._rules.on_error(stored, UpstreamTimeout(), doubted=False), ReuseStale)

    def _validate_in_background(self, ref: MediaRef, stored: StoredResponse) -> None:
        if not self._fills.has_room_for(ref):
            return
        need = Need(ref, stored, stored.metadata.validators or None, Fwd.STALE, young=False, attempt=1)
        self._fills.start(need, shared=True, background=True)
