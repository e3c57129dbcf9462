"""The fills of a worker: how many there may be, which one a reader may join, and which one ends before its time.

1. A fill whose bytes will be stored goes on without readers: the next reader of the media finds it, or what it stored.
2. At most `FillBounds.unread` fills of a worker have no readers, and at most `unread_by_account` of one account in all
   workers of the node. The fill that has been unread for longest ends for one more; if other workers have all of the
   account's places, the new one ends.
3. A fill without readers yields its place to one with readers if there are as many fills as there may be, or if the
   account has more fills than connections, including the calls that wait for one in another worker.
4. A fill without readers ends when its media is erased, and when the gateway drains.
5. A fill whose bytes cannot be stored ends with its readers.
6. An account has at most as many fills as there are places left, and a message about half as many. So some places
   stay free however many media of an account, or of a message, are asked for (`has_share`).
7. Of one account's readers, at most `FillBounds.readers_by_account` wait at a time for a fill to begin.
8. No fill begins for a media that is left alone because it fails again and again. The tries that belong to one fetch
   still begin.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Final, TypeVar, assert_never

from proxy.bounded_table import BoundedTable
from proxy.cache.body import Body
from proxy.cache.entry import Entry, Representation
from proxy.cache.fills.failing_media import PAUSE_SECONDS, FailingMedia, LeftAlone
from proxy.cache.fills.fill import Begun, Fill, Need, Shared, Validated
from proxy.cache.fills.sharing import Sharing
from proxy.cache.fills.spool import Allowance, Bytes, Spool, Window
from proxy.cache.fills.states import FillState
from proxy.cache.tiers import Tiers
from proxy.erasure import Reach
from proxy.errors import GatewayError, Overloaded, StoreError, UpstreamError
from proxy.model import AccountSid, MediaRef, MessageRef
from proxy.node import Seat, Share
from proxy.origin import Origin
from proxy.semantics.cache_status import Fwd
from proxy.semantics.stored import Storable
from proxy.telemetry.metrics import FillOutcome

_log = logging.getLogger("media_gateway.cache")

ATTEMPTS: Final = 3
"""The most fills in a row for readers whose fill broke off before any of its bytes had gone out to them."""

_REMEMBERED: Final = 10_000
"""The most media whose last fill is remembered as broken."""


@dataclass(frozen=True, slots=True)
class _Broken:
    """The failure of the last fill of a media, and its number in a row of failed fills."""

    attempt: int
    failure: GatewayError


@dataclass(frozen=True, slots=True)
class FillBounds:
    """The bounds on the fills of a worker.

    `most` is the number of fills, and `unread` of those without readers; `unread_by_account` is that of one account in
    all workers of the node. An account has at most `connections` at once, which its fills take turns at, and at most
    `readers_by_account` readers that wait for a fill to begin. `spool_bytes` is the RAM that all bodies on their way
    take together, and `largest` the length of the largest body that the origin gives; both are in bytes.
    """

    most: int = 1_024
    unread: int = 64
    unread_by_account: int = 24
    connections: int = 32
    readers_by_account: int = 5_000
    spool_bytes: int = 200_000_000
    largest: int = 100_000_000


def has_share(most: int, running: int, of_account: int, of_message: int) -> bool:
    """Return whether one more of at most `most` fills may be for an account, and a message, that has so many.

    The share shrinks with the places that are left: one account comes to about half of all places, two to a third each,
    and a message of an account that has no others to a third. However many there are, some places are left for the next
    one, until there are as many accounts as places.
    """
    left = most - running
    return left > 0 and of_account <= left and 2 * of_message <= left + 1


class Fills:
    """The fills of one engine, within bounds.

    `seat` is for what the node's workers share, `sharing` for a shared tier, `monotonic` a clock in seconds.
    """

    def __init__(
        self,
        origin: Origin,
        tiers: Tiers,
        bounds: FillBounds,
        seat: Seat,
        sharing: Sharing | None = None,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._origin = origin
        self._monotonic = monotonic
        self._failing = FailingMedia()
        self._tiers = tiers
        self._sharing = sharing
        self._bounds = bounds
        self._seat = seat
        self._allowance = Allowance(bounds.spool_bytes)
        self._shared: dict[MediaRef, Fill] = {}
        self._running: set[Fill] = set()
        self._of_account: Counter[AccountSid] = Counter()
        self._of_message: Counter[MessageRef] = Counter()
        self._waiting: Counter[AccountSid] = Counter()
        # The fills without readers and the places that they have, the one that has been unread for longest first.
        self._unread: OrderedDict[Fill, int] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BoundedTable[MediaRef, _Broken] = BoundedTable(_REMEMBERED)
        self._asked_last: tuple[Representation | None, bool] = None, False
        self._ending = False
        self._draining = False

    @property
    def under_way(self) -> frozenset[Fill]:
        """The fills that are not over."""
        return frozenset(self._running)

    def drain(self) -> None:
        """End the fills without readers; from now on, every fill ends with its readers."""
        self._draining = True
        self._end_unread(lambda _: True)

    def end_erased(self, reach: Reach) -> None:
        """End the fills without readers whose media were just erased: their bytes would not be stored."""
        self._end_unread(lambda fill: reach.covers(fill.ref))

    def _end_unread(self, ends: Callable[[Fill], bool]) -> None:
        for fill in self._idle():
            if ends(fill):
                self._abandon(fill)

    async def end(self) -> None:
        """End every fill, and start no more. A body that has come whole is still stored, which takes a moment."""
        self._ending = True
        for fill in self._running:
            if not fill.whole:
                fill.task.cancel()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            # If all tasks had ended, `gather` did not wait; the callbacks that take them out of the set run now.
            await asyncio.sleep(0)

    def has_room_for(self, ref: MediaRef) -> bool:
        """Return whether a fill of that media can start without readers and without taking another one's place."""
        busy = self._draining or self._ending or not self._has_place_for(ref) or self._has_many_unread(ref.account)
        return not (busy or ref in self._shared or self.left_alone(ref))

    def left_alone(self, ref: MediaRef) -> LeftAlone | None:
        """Return what is known of a media that is not asked for now because it fails again and again."""
        self._note_end_of_last(ref)
        return self._failing.left_alone(ref, self._monotonic())

    def _has_many_unread(self, account: AccountSid) -> bool:
        if sum(1 for _ in self._idle()) >= self._bounds.unread:
            return True
        key = self._seat.key(account.value)
        return not self._seat.has_free(Share.UNREAD_FILLS, key, self._bounds.unread_by_account)

    @property
    def _full(self) -> bool:
        return len(self._running) >= self._bounds.most

    def _has_place_for(self, ref: MediaRef) -> bool:
        of_account, of_message = self._of_account[ref.account], self._of_message[ref.parent]
        return has_share(self._bounds.most, len(self._running), of_account, of_message)

    @contextmanager
    def awaited(self, account: AccountSid) -> Iterator[None]:
        """Count a reader that waits for a fill to begin. Raises `Overloaded` if too many of its account do."""
        if self._waiting[account] >= self._bounds.readers_by_account:
            raise Overloaded("Too many requests wait for media of this account.")
        self._waiting[account] += 1
        try:
            yield
        finally:
            _less(self._waiting, account)

    def will_store(self, fill: Fill, representation: Representation) -> bool:
        """Return whether the bytes of a fill will be stored unless it fails; an unknown length may be the largest.

        That is what `Cache-Status` says of a miss (RFC 9211 §2.5).
        """
        length = self._bounds.largest if representation.length is None else representation.length
        return self.stores(representation) and fill.lasting and self._tiers.has_room_for(representation, length)

    def stores(self, representation: Representation) -> bool:
        """Return whether its bytes may go to the tiers once they are whole (RFC 9111 §3)."""
        # Every reader of a fill asks, and all ask about the same representation.
        asked, stores = self._asked_last
        if asked is not representation:
            storable = isinstance(representation.metadata.storability, Storable)
            stores = storable and self._tiers.has_room_for(representation, representation.length or 0)
            self._asked_last = representation, stores
        return stores

    async def joinable(self, ref: MediaRef) -> Fill | None:
        """Return the fill that a new reader may join; None if it is over, or was erased since it began."""
        while True:
            running = self._shared.get(ref)
            if running is None or running.over:
                return None
            epoch = self._tiers.epoch
            if running.epoch == epoch:
                return running
            erased = await self._tiers.erased(ref, running.epoch)
            if erased and self._shared.get(ref) is running:
                return None
            if not erased:
                running.epoch = epoch

    def found_nothing(self, ref: MediaRef) -> bool:
        """Return whether a fill that a new reader may join began with nothing stored, so that no look-up is needed."""
        running = self._shared.get(ref)
        if running is None or running.whole or running.over:
            return False
        return running.need.stored is None and running.epoch == self._tiers.epoch

    def start(self, need: Need, *, shared: bool, background: bool = False) -> Fill:
        """Start a fill, for one request alone unless it is `shared`. Raises `Overloaded` if there are too many."""
        self._note_end_of_last(need.ref)
        if self._ending:
            raise Overloaded("The gateway is shutting down.")
        if not self._has_place_for(need.ref):
            self._yield_one(need.ref.account, of_account=not self._full)
        if not self._has_place_for(need.ref):
            raise Overloaded("The gateway fetches as many media as it can.")
        need = replace(need, attempt=self._attempt(need))
        fill = Fill(need, self._origin, self._tiers, self._sharing, self)
        self._running.add(fill)
        self._of_account[need.ref.account] += 1
        self._of_message[need.ref.parent] += 1
        self._tiers.metrics.fill_began()
        if shared:
            self._shared[need.ref] = fill
        fill.task.add_done_callback(lambda _: self._ended(fill))
        if background:
            self.note_unread(fill)
        else:
            self._yield_connection(need.ref.account)
        return fill

    def note_unread(self, fill: Fill) -> None:
        """Keep a fill that has lost its last reader going, within the bounds."""
        if fill not in self._running:
            return
        account = fill.ref.account
        place = None if self._draining else self._unread_place(account)
        if place is None:
            self._abandon(fill)
            return
        self._unread[fill] = place
        if sum(1 for _ in self._idle()) > self._bounds.unread:
            self._yield_one(account, of_account=False)
        self._yield_connection(account)

    def note_read(self, fill: Fill) -> None:
        """Give back the place of a fill that has a reader again, or is over."""
        place = self._unread.pop(fill, None)
        if place is not None:
            self._seat.give_back(Share.UNREAD_FILLS, self._seat.key(fill.ref.account.value), place)

    def _unread_place(self, account: AccountSid) -> int | None:
        """Take a place for one more unread fill of an account, that of another one here if there is no free one."""
        key, most = self._seat.key(account.value), self._bounds.unread_by_account
        place = self._seat.take(Share.UNREAD_FILLS, key, most)
        if place is None:
            # Fills that have come whole are only being stored.
            for fill in [fill for fill in self._unread if fill.complete and fill.ref.account == account]:
                self.note_read(fill)
            place = self._seat.take(Share.UNREAD_FILLS, key, most)
        if place is None:
            self._yield_one(account, of_account=True)
            place = self._seat.take(Share.UNREAD_FILLS, key, most)
        return place

    def _yield_connection(self, account: AccountSid) -> None:
        """End an unread fill of an account if another one has to wait for its connection."""
        fetching = sum(fill.ref.account == account and not fill.complete for fill in self._running)
        if fetching > self._bounds.connections:
            self._yield_one(account, of_account=True)

    def yield_connections(self, of: Callable[[MediaRef], bool], calls: int) -> None:
        """End fills without readers, as `Engine.yield_connections` does."""
        for fill in self._idle():
            if calls > 0 and of(fill.ref):
                self._abandon(fill)
                calls -= 1

    def _idle(self) -> Iterator[Fill]:
        """Return the fills without readers, beginning with the one that has been unread for longest."""
        return (fill for fill in list(self._unread) if not fill.complete)

    def _yield_one(self, account: AccountSid, *, of_account: bool) -> None:
        """End the fill that has been unread for longest, of that account or of any, if there is one."""
        for fill in self._idle():
            if not of_account or fill.ref.account == account:
                self._abandon(fill)
                return

    def _abandon(self, fill: Fill) -> None:
        fill.abandon()
        if fill.state is FillState.ABANDONED:
            # Its place is free now, though its task has a few steps to go.
            self._note_end(fill)

    async def rescue(self, ref: MediaRef, entry: Entry) -> Body:
        """Return the bytes of a response that the shared tier has lost while they were read, fetched again.

        Raises `StoreError` if the origin has other bytes now, and `UpstreamError`.
        """
        if self._sharing is not None:
            await self._sharing.drop(ref, entry.generation)
        need = Need(ref, None, None, Fwd.MISS, young=False, attempt=1)
        fill = await self.joinable(ref)
        if fill is None:
            left = self.left_alone(ref)
            if left is not None:
                raise left.refusal()
            fill = self.start(need, shared=True)
        reader = fill.join()
        try:
            await fill.begun()
            await fill.ended()
            if fill.entry is not None and fill.entry.checksum == entry.checksum:
                return reader
        except BaseException:
            await reader.close()
            raise
        await reader.close()
        raise StoreError(note="a body went from the shared tier while it was read, and another one took its place")

    def own(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Start a task that does not outlive the engine."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _attempt(self, need: Need) -> int:
        """Return the number of this fill in a row. Raises what broke the last one if the readers' budget is used up."""
        broken = self._broken.pop(need.ref)
        if need.attempt == 1 or broken is None:
            return need.attempt
        # A reader that comes late from an earlier fill finds that other readers have tried again meanwhile.
        if broken.attempt >= ATTEMPTS:
            self._broken.put(need.ref, broken)
            raise copy(broken.failure)
        return max(need.attempt, broken.attempt + 1)

    def make_bytes(self, representation: Representation, *, whole: bool) -> Bytes:
        """Make the store for the bytes of a fill, as `FillOwner` says."""
        if self.stores(representation):
            return Spool(representation.generation, self._tiers.disk, self._tiers.ram_object_bytes, self._allowance)
        return Window(self._allowance, whole=whole)

    def _note_end_of_last(self, ref: MediaRef) -> None:
        last = self._shared.get(ref)
        if last is not None and last.over:
            # Its task has a few steps to go, but its failure counts already.
            self._note_end(last)

    def _note_end(self, fill: Fill) -> None:
        """Take a fill that is over out of the tables, once: several callers may find it over."""
        if fill not in self._running:
            return
        self._running.discard(fill)
        self.note_read(fill)
        _less(self._of_account, fill.ref.account)
        _less(self._of_message, fill.ref.parent)
        self._tiers.metrics.fill_ended(self._outcome(fill))
        if self._shared.get(fill.ref) is fill:
            del self._shared[fill.ref]
        if fill.failure is None:
            self._failing.answered(fill.ref)
        elif fill.state is not FillState.ABANDONED:
            # The error itself holds on to every frame that it has passed through; a copy does not.
            failure = copy(fill.failure)
            self._broken.put(fill.ref, _Broken(fill.need.attempt, failure))
            self._note_failure(fill, failure)

    def _note_failure(self, fill: Fill, failure: GatewayError) -> None:
        # Further attempts belong to the fetch that has already failed.
        if (
            fill.need.attempt == 1
            and isinstance(failure, UpstreamError)
            and self._failing.failed(fill.ref, failure, self._monotonic())
        ):
            self._tiers.metrics.left_alone()
            facts = {**failure.facts, **fill.asked_by}
            _log.warning(
                "%s fails again and again and is left alone for %d s", fill.ref, PAUSE_SECONDS, extra={"facts": facts}
            )

    def _outcome(self, fill: Fill) -> FillOutcome:
        if fill.failure is not None:
            return FillOutcome.ABANDONED if fill.state is FillState.ABANDONED else FillOutcome.FAILED
        match fill.outcome:
            case Validated():
                return FillOutcome.VALIDATED
            case Shared():
                return FillOutcome.SHARED
            case Begun(representation):
                return FillOutcome.STORED if self.stores(representation) else FillOutcome.PASSED
            case None:
                raise AssertionError("a fill that has not failed has come to something")
            case _:
                assert_never(fill.outcome)

    def _ended(self, fill: Fill) -> None:
        self._note_end(fill)
        error = None if fill.task.cancelled() else fill.task.exception()
        if error is not None:
            _log.error("A fill broke down", exc_info=error, extra={"facts": fill.asked_by})


_Counted = TypeVar("_Counted")


def _less(counts: Counter[_Counted], counted: _Counted) -> None:
    counts[counted] -= 1
    if not counts[counted]:
        del counts[counted]
