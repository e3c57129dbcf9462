"""A fill: one upstream read that any number of readers share, owned by none of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from proxy.cache.body import BLOCK
from proxy.cache.entry import Entry, Representation, make_entry, represent
from proxy.cache.fills.spool import Bytes
from proxy.cache.redis.sharing import Sharing
from proxy.cache.stored import Stored
from proxy.cache.tiers import Tiers
from proxy.errors import GatewayError, MediaNotFound, UpstreamError, UpstreamTruncated
from proxy.model import MediaRef
from proxy.origin import Origin, OriginAnswer
from proxy.semantics.disposition import lacks_charset
from proxy.semantics.freshening import Mismatch, freshen
from proxy.semantics.stored import Storable, Validators, storable
from proxy.semantics.text import Utf8Check
from proxy.telemetry.request_context import request_facts

if TYPE_CHECKING:
    from proxy.cache.redis.lease import Turn


_HEAD: Final = -1
"""The offset that who waits for the head waits at."""
_END: Final = 1 << 62
"""The offset that who waits for the end waits at."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The upstream answers with a representation, whose bytes follow."""

    representation: Representation


@dataclass(frozen=True, slots=True)
class Validated:
    """The upstream says that the stored response is still good (304); it has been freshened."""

    stored: Stored


@dataclass(frozen=True, slots=True)
class Shared:
    """The shared tier has the response; `waited`: another gateway was waited for, which has fetched it."""

    stored: Stored
    waited: bool


Outcome = Begun | Validated | Shared


class MakeBytes(Protocol):
    """Makes what a fill writes to; `whole`: nothing is read of it before all has come."""

    def __call__(self, representation: Representation, *, whole: bool) -> Bytes: ...


class Fill:
    """One read of one media, which goes on without readers if its bytes will be stored.

    `outcome` is set when the upstream's head has come, or fails with a `GatewayError`. `whole`: every byte has come;
    `ended`: what can be stored is stored; `abandoned`: it is being ended for want of readers and takes no new one.
    `readers` have joined and not left; `unread` is told when the last of them has left a fill that goes on, `read` when
    one joins a fill that had none. `epoch`:
    the number of the last erasure that it is known not to be covered by. `failure`: why the bytes do not come whole.
    `attempt` counts the fills that its readers have seen fail before it, and one. `withheld`: the body is coded, so
    there is no outcome before all of it has come. `stored` is what was found when it began, `entry` that of all its
    bytes. `asked_by` is what the log says of the request that started it. `own` starts a task that the engine does not
    leave behind.
    """

    def __init__(
        self,
        ref: MediaRef,
        origin: Origin,
        tiers: Tiers,
        make_bytes: MakeBytes,
        own: Callable[[Coroutine[object, object, None]], asyncio.Task[None]],
        unread: Callable[[Fill], None],
        read: Callable[[Fill], None],
        *,
        stored: Stored | None,
        validators: Validators | None,
        young: bool,
        attempt: int,
        sharing: Sharing | None = None,
    ) -> None:
        self.ref = ref
        self.asked_by = request_facts()
        self.attempt = attempt
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.epoch = self._asked_at = tiers.epoch
        self.ended = asyncio.Event()
        self.whole = False
        self.abandoned = False
        self.withheld = False
        self._origin = origin
        self._tiers = tiers
        self._make_bytes = make_bytes
        self.stored = stored
        self._validators = validators
        self._young = young
        self._sharing = sharing
        self._turn: Turn[Stored] | None = None
        self._since = None if sharing is None else sharing.position
        self._length: int | None = None
        self._bytes: Bytes | None = None
        self._kept = False
        self.failure: GatewayError | None = None
        # Set with `whole`: its type is text that says no charset, and its bytes are UTF-8 and not all ASCII.
        self.utf8 = False
        self.entry: Entry | None = None
        self._waiters = _Waiters()
        self.readers = 0
        self._unread = unread
        self._read = read
        self._own = own
        self.task = own(self._run())
        self.task.add_done_callback(self._conclude)

    # --- readers ---

    def join(self) -> FillBody:
        """Return the body for one more reader, who must close it."""
        self.readers += 1
        if self.readers == 1:
            self._read(self)
        return FillBody(self)

    async def leave(self) -> None:
        """Count one reader less. The last one ends the fill if its bytes cannot be stored."""
        self.readers -= 1
        if self.readers:
            return
        if self.ended.is_set():
            await self._release()
        elif self.lasting:
            self._unread(self)
        else:
            self.abandon()

    @property
    def lasting(self) -> bool:
        """Return whether its bytes may still be stored; before the head has come, they may."""
        return self.whole or self._bytes is None or self._bytes.lasting

    @property
    def complete(self) -> bool:
        """Return whether nothing more is waited for: all announced bytes have come, or the fill has ended."""
        held = self._bytes
        return self.whole or self.ended.is_set() or (held is not None and held.received == self._length)

    def abandon(self) -> None:
        """End a fill that nobody reads, unless it is complete."""
        assert not self.readers
        if not self.complete:
            self._fail(self._give_up())
            self.task.cancel()

    async def come(self, end: int, seconds: float) -> bool:
        """As `Body.come`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (self.whole or self.failure or self._has(end)):
                    await self._waiters.wait(end - 1)
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        return self.whole or self._has(end)

    def _has(self, end: int) -> bool:
        return self._bytes is not None and end <= self._bytes.received

    async def begun(self) -> Outcome:
        """The outcome, once there is one."""
        while not self.outcome.done():
            await self._waiters.wait(_HEAD)
        return self.outcome.result()

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """As `Body.read`."""
        while True:
            held = self._bytes
            if held is not None and offset < held.received:
                return await held.read(offset, size)
            if self.failure is not None:
                raise self.failure.with_traceback(None)
            if self.whole:
                return b""
            await self._waiters.wait(offset)

    async def measure(self) -> int:
        """As `Body.measure`."""
        if self._length is None:
            await self._end()
        if self._length is None:
            raise self.failure or UpstreamTruncated()
        return self._length

    async def _end(self) -> None:
        while not (self.whole or self.failure):
            await self._waiters.wait(_END)

    # --- the task ---

    async def _run(self) -> None:
        try:
            await self._ask()
        except GatewayError as error:
            self._fail(error)
        except asyncio.CancelledError:
            self._fail(_given_up())
            raise
        except BaseException:
            # A fault of ours: the readers are cut off, and the task's owner reports it.
            self._fail(UpstreamError(note="the fill broke down"))
            raise
        finally:
            self.ended.set()
            if not self.readers:
                await self._release()

    def _conclude(self, _: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step runs none of its own clauses.
        self.ended.set()
        if not self.outcome.done():
            self._fail(_given_up())

    async def _ask(self) -> None:
        try:
            await self._require_present()
            if self._sharing is None:
                await self._ask_upstream()
                return
            async with self._sharing.turn(self.ref, self.stored) as turn:
                if turn.found is not None:
                    self._settle(Shared(turn.found, turn.waited))
                    return
                self._turn = turn
                if turn.waited:
                    await self._begin_now()
                await self._ask_upstream()
        except MediaNotFound:
            # 404 and 410 say that what is stored is no longer there (RFC 9110 §15.5.5, §15.5.11).
            await self._tiers.drop(self.ref)
            if self._sharing is not None:
                await self._sharing.drop(self.ref)
            raise

    async def _ask_upstream(self) -> None:
        if self._sharing is None or self.stored is None:
            await self._ask_origin()
            return
        async with self._sharing.validation(self.ref, self.stored) as known:
            if known is not None:
                self._settle(Shared(known, waited=True))
                return
            await self._ask_origin()

    async def _ask_origin(self) -> None:
        if self.stored and self._validators:
            if await self._validate(self.stored, self._validators):
                return
            await self._begin_now()
        async with self._origin.open(self.ref, young=self._young) as answer:
            await self._receive(answer)

    async def _begin_now(self) -> None:
        """What is asked for from here on is younger than any erasure up to now."""
        self.epoch = self._asked_at = self._tiers.epoch
        if self._sharing is not None:
            self._since = self._sharing.position
        await self._require_present()

    async def _require_present(self) -> None:
        """Raise `MediaNotFound` before anything is asked where the media is gone; any later mark beats this fill."""
        if await self._tiers.is_gone(self.ref):
            raise MediaNotFound

    async def _validate(self, stored: Stored, validators: Validators) -> bool:
        """Validate (RFC 9111 §4.3).

        False where the 304 was about another representation than the stored one, or that was erased meanwhile.
        """
        begun = self._tiers.epoch
        async with self._origin.open(self.ref, validators, young=self._young) as answer:
            if answer.head.status != 304:
                await self._receive(answer)
                return True
            head = answer.head
        metadata = freshen(stored.metadata, head.fields, requested_at=head.requested_at, answered_at=head.answered_at)
        if isinstance(metadata, Mismatch):
            return False
        entry = stored.entry.freshened(metadata)
        if self._sharing is not None:
            # No erasure up to then is in doubt any more.
            entry = msgspec.structs.replace(entry, epoch=begun)
        if isinstance(storable(200, metadata.fields), Storable):
            if not await self._tiers.freshen(self.ref, entry, stored.epoch):
                if not self.readers:
                    # Nobody asks for what was erased.
                    raise self._give_up()
                return False
            self._settle(Validated(replace(stored, entry=entry)))
            await self._share(lambda sharing: sharing.freshen(self.ref, entry))
            return True
        await self._tiers.drop(self.ref, entry.generation)
        self._settle(Validated(replace(stored, entry=entry)))
        await self._share(lambda sharing: sharing.drop(self.ref, entry.generation))
        return True

    async def _share(self, what: Callable[[Sharing], Awaitable[None]]) -> None:
        """Tell the shared tier. Readers here need not wait for it, and it is done without them too."""
        if self._sharing is not None:
            self.ended.set()
            await what(self._sharing)

    async def _receive(self, answer: OriginAnswer) -> None:
        representation = represent(self.ref, answer.head)
        self._length = representation.length
        self.withheld = answer.head.coded
        held = self._bytes = self._make_bytes(representation, whole=self.withheld)
        if not self.withheld:
            self._settle(Begun(representation))
        if self._turn is not None and not (held.lasting and self._sharing and self._sharing.takes(self._length)):
            await self._turn.pass_on()
        text = Utf8Check() if lacks_charset(representation.metadata.fields.single("Content-Type")) else None
        async for chunk in answer.chunks():
            if not (self.readers or (held.lasting and await self._is_wanted())):
                raise self._give_up()
            await held.append(chunk)
            if text is not None:
                text.add(chunk)
            self._waiters.wake(held.received)
        if self._length is not None and self._length != held.received:
            raise UpstreamTruncated(note=f"{held.received} bytes came, {self._length} were announced")
        self._length = held.received
        self.utf8 = text is not None and text.passed
        if self.withheld:
            self._settle(Begun(replace(representation, length=held.received)))
        self.whole = True
        self._waiters.wake_all()
        # Whoever waits for the last bytes comes before their storing.
        await asyncio.sleep(0)
        settled = await held.settle()
        if settled is not None:
            content, checksum = settled
            # Of the epoch in which it was asked for: a gap in the shared log since then puts it in doubt.
            entry = make_entry(
                representation, length=held.received, checksum=checksum, epoch=self._asked_at, utf8=self.utf8
            )
            self.entry = entry
            self._kept = await self._tiers.keep(self.ref, entry, content)
            await self._share(lambda sharing: sharing.keep(self.ref, entry, content, self._since))

    async def _is_wanted(self) -> bool:
        """Return whether the media was not erased since the fill began: what was erased is stored no more."""
        epoch = self._tiers.epoch
        if self.epoch != epoch:
            if await self._tiers.erased(self.ref, self.epoch):
                return False
            self.epoch = epoch
        return True

    def _give_up(self) -> GatewayError:
        self.abandoned = True
        return _given_up()

    def _settle(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)
            self._waiters.wake(_HEAD + 1)

    def _fail(self, error: GatewayError) -> None:
        """Cut the readers off, unless all bytes have come."""
        if not self.whole:
            self.failure = error
        if not self.outcome.done():
            self.outcome.set_exception(error)
            # Nobody may be waiting for it.
            self.outcome.exception()
        self._waiters.wake_all()

    async def _release(self) -> None:
        held, self._bytes = self._bytes, None
        if held is not None:
            # To its end, also where the reader that was the last one is cancelled.
            await asyncio.shield(self._own(held.close(kept=self._kept)))


def _given_up() -> GatewayError:
    return UpstreamError("The fetch was given up.", note="the fill was ended before its time")


class FillBody:
    """One reader's; closing it is to leave."""

    def __init__(self, fill: Fill) -> None:
        self._fill = fill
        self._open = True

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        return await self._fill.read(offset, min(size, BLOCK))

    def expect(self, first: int, end: int) -> None:
        """Ask for nothing: the bytes come in their order."""

    async def come(self, end: int, seconds: float) -> bool:
        return await self._fill.come(end, seconds)

    @property
    def whole(self) -> bool:
        return self._fill.whole

    @property
    def utf8(self) -> bool:
        return self._fill.utf8

    async def measure(self) -> int:
        return await self._fill.measure()

    async def close(self) -> None:
        if self._open:
            self._open = False
            await self._fill.leave()


class _Waiters:
    """Those of one fill, by the offset that each waits at."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def wait(self, offset: int) -> None:
        """Until the byte at that offset has come, or there is nothing more to wait for."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((offset, waiter))
        await waiter

    def wake(self, received: int) -> None:
        """So many bytes have come."""
        still: list[tuple[int, asyncio.Future[None]]] = []
        for offset, waiter in self._waiting:
            if waiter.done():
                # Its reader has gone.
                continue
            if offset < received:
                waiter.set_result(None)
            else:
                still.append((offset, waiter))
        self._waiting = still

    def wake_all(self) -> None:
        """There is nothing more to wait for."""
        self.wake(_END + 1)
