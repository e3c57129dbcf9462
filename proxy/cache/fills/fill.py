"""A fill: one upstream read that any number of readers share, owned by none of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from proxy.cache.body import BLOCK
from proxy.cache.entry import Entry, Representation, make_entry, represent
from proxy.cache.fills.sharing import Sharing
from proxy.cache.fills.spool import Bytes
from proxy.cache.fills.states import OVER, FillEvent, FillState, following
from proxy.cache.stored import StoredResponse
from proxy.cache.tiers import Tiers
from proxy.errors import GatewayError, MediaNotFound, UpstreamError, UpstreamTruncated
from proxy.model import MediaRef
from proxy.origin import Origin, OriginAnswer
from proxy.semantics.cache_status import Fwd
from proxy.semantics.disposition import lacks_charset
from proxy.semantics.freshening import Mismatch, freshen
from proxy.semantics.stored import Storable, Validators
from proxy.semantics.text import Utf8Check
from proxy.telemetry.request_context import request_facts

if TYPE_CHECKING:
    from proxy.cache.redis.lease import Turn


_NOTHING: Final = -2
_HEAD: Final = -1
"""The offset at which readers wait for the outcome."""
_END: Final = 1 << 62
"""The offset at which readers wait for the last byte, wherever that is."""
_OVER: Final = _END + 1
"""The offset at which readers wait for a fill to be over."""
_WAKES: Final = MappingProxyType(
    {FillState.WITHHOLDING: _NOTHING, FillState.RECEIVING: _HEAD, FillState.WHOLE: _END},
)
"""The last offset whose waiters a state wakes; any other state wakes all."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The upstream has answered with a representation, whose bytes follow."""

    representation: Representation


@dataclass(frozen=True, slots=True)
class Validated:
    """The upstream has said that the stored response is still good (304), and it has been freshened."""

    stored: StoredResponse


@dataclass(frozen=True, slots=True)
class Shared:
    """The shared tier has the response. `waited`: this fill has waited for another one that fetched it."""

    stored: StoredResponse
    waited: bool


Outcome = Begun | Validated | Shared


@dataclass(frozen=True, slots=True)
class Need:
    """A question to the upstream, and its reason.

    `validators` are those of the `stored` response, or None to fetch it. `young`: as in `Origin.open`. `attempt` is one
    more than the number of fills that the readers have already seen fail.
    """

    ref: MediaRef
    stored: StoredResponse | None
    validators: Validators | None
    reason: Fwd
    young: bool
    attempt: int


class FillOwner(Protocol):
    """The registry, as a fill knows it."""

    def make_bytes(self, representation: Representation, *, whole: bool) -> Bytes:
        """Make the store for the fill's bytes; `whole`: no byte is read before all bytes have come."""
        ...

    def own(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Start a task that does not outlive the engine."""
        ...

    def note_unread(self, fill: Fill) -> None:
        """Note that a fill that goes on has lost its last reader."""
        ...

    def note_read(self, fill: Fill) -> None:
        """Note that a fill that had no readers has one."""
        ...


class Fill:
    """One read of one media, by the rules and the table of this package.

    `state` is how far it is, and changes by `_advance` alone. `outcome` is what the readers learn, and `failure` why
    they do not, or why the bytes do not come whole. `readers` have joined and not left. `epoch` is the number of the
    last erasure that is known not to cover the media. `entry` is that of all its bytes, once they have come. `asked_by`
    is what the log says of the request that started it.
    """

    def __init__(
        self,
        need: Need,
        origin: Origin,
        tiers: Tiers,
        sharing: Sharing | None,
        owner: FillOwner,
    ) -> None:
        self.need = need
        self.ref = need.ref
        self.asked_by = request_facts()
        self.state = FillState.ASKING
        self.outcome: Outcome | None = None
        self.failure: GatewayError | None = None
        self.epoch = self._asked_at = tiers.epoch
        self._origin = origin
        self._tiers = tiers
        self._owner = owner
        # A request whose own directives demand it gets the answer of the origin, and not of another node.
        self._sharing = sharing = None if need.reason is Fwd.REQUEST else sharing
        self._turn: Turn[StoredResponse] | None = None
        self._since = None if sharing is None else sharing.position
        self._length: int | None = None
        self._bytes: Bytes | None = None
        self._kept = False
        # Set in WHOLE: its type is text that says no charset, and its bytes are UTF-8 and not all ASCII.
        self.utf8 = False
        self.entry: Entry | None = None
        self._waiters = _Waiters()
        self.readers = 0
        self.task = owner.own(self._run())
        self.task.add_done_callback(self._conclude)

    # --- readers ---

    def join(self) -> FillBody:
        """Return the body for one more reader, who must close it."""
        self.readers += 1
        if self.readers == 1:
            self._owner.note_read(self)
        return FillBody(self)

    async def leave(self) -> None:
        """Count one reader less. The last one to leave ends a fill whose bytes cannot be stored."""
        self.readers -= 1
        if self.readers:
            return
        if self.over:
            await self._release()
        elif self.lasting:
            self._owner.note_unread(self)
        else:
            self.abandon()

    @property
    def whole(self) -> bool:
        """Return whether all bytes have come."""
        return self.state is FillState.WHOLE or self.state is FillState.DONE

    @property
    def over(self) -> bool:
        """Return whether its state is final; its task may still have some steps to go."""
        return self.state in OVER

    @property
    def lasting(self) -> bool:
        """Return whether its bytes may still be stored; before the head has come, they may."""
        return self.whole or self._bytes is None or self._bytes.lasting

    @property
    def complete(self) -> bool:
        """Return whether nothing more is waited for: all announced bytes have come, or the fill is over."""
        held = self._bytes
        return (held is not None and held.received == self._length) or self.whole or self.over

    def abandon(self) -> None:
        """End a fill that has no readers, unless it is complete."""
        assert not self.readers
        if not self.complete:
            self._give_up()
            self.task.cancel()

    async def come(self, end: int, seconds: float) -> bool:
        """Wait for the bytes before `end`, as `Body.come` does."""
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
        """Return the outcome, once there is one. Raises the failure of a fill that has none."""
        while self.outcome is None:
            if self.failure is not None:
                raise self.failure.with_traceback(None)
            await self._waiters.wait(_HEAD)
        return self.outcome

    async def ended(self) -> None:
        """Wait until the fill is over."""
        while not self.over:
            await self._waiters.wait(_OVER)

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return bytes from `offset`, as `Body.read` does."""
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
        """Return the length in bytes, as `Body.measure` does."""
        while self._length is None and self.failure is None:
            await self._waiters.wait(_END)
        if self._length is None:
            raise self.failure or UpstreamTruncated()
        return self._length

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
            # This is a fault of ours: the readers are cut off, and the task's owner reports it.
            self._fail(UpstreamError(note="the fill broke down"))
            raise
        finally:
            if not self.readers:
                await self._release()

    def _conclude(self, _: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step runs none of its own clauses.
        self._fail(_given_up())

    async def _ask(self) -> None:
        try:
            await self._require_present()
            if self._sharing is None:
                await self._ask_upstream()
                return
            async with self._sharing.turn(self.ref, self.need.stored) as turn:
                if turn.found is not None:
                    self._come_to(Shared(turn.found, turn.waited), FillEvent.USABLE)
                    return
                self._turn = turn
                if turn.waited:
                    await self._begin_now()
                await self._ask_upstream()
        except MediaNotFound:
            # 404 and 410 say that the stored response has gone (RFC 9110 §15.5.5, §15.5.11).
            await self._tiers.drop(self.ref)
            if self._sharing is not None:
                await self._sharing.drop(self.ref)
            raise

    async def _ask_upstream(self) -> None:
        if self._sharing is None or self.need.stored is None:
            await self._ask_origin()
            return
        async with self._sharing.validation(self.ref, self.need.stored) as known:
            if known is not None:
                self._come_to(Shared(known, waited=True), FillEvent.USABLE)
                return
            await self._ask_origin()

    async def _ask_origin(self) -> None:
        if self.need.stored and self.need.validators:
            if await self._validate(self.need.stored, self.need.validators):
                return
            await self._begin_now()
        async with self._origin.open(self.ref, young=self.need.young) as answer:
            await self._receive(answer)

    async def _begin_now(self) -> None:
        """Note that what is asked for from here on is younger than any erasure up to now."""
        self.epoch = self._asked_at = self._tiers.epoch
        if self._sharing is not None:
            self._since = self._sharing.position
        await self._require_present()

    async def _require_present(self) -> None:
        """Raise `MediaNotFound` if the media is gone before the upstream is asked; a later deletion beats this fill."""
        if await self._tiers.is_gone(self.ref):
            raise MediaNotFound

    async def _validate(self, stored: StoredResponse, validators: Validators) -> bool:
        """Validate the stored response (RFC 9111 §4.3); return False if the media has to be asked for again.

        That is so if the 304 was about another representation, or if the stored response was erased meanwhile.
        """
        begun = self._tiers.epoch
        async with self._origin.open(self.ref, validators, young=self.need.young) as answer:
            if answer.head.status != 304:
                await self._receive(answer)
                return True
            head = answer.head
        metadata = freshen(stored.metadata, head.fields, requested_at=head.requested_at, answered_at=head.answered_at)
        if isinstance(metadata, Mismatch):
            return False
        entry = stored.entry.freshened(metadata)
        if self._sharing is not None:
            # No erasure from before the validation is in doubt any more.
            entry = msgspec.structs.replace(entry, epoch=begun)
        if isinstance(metadata.storability, Storable):
            if not await self._tiers.freshen(self.ref, entry, stored.epoch):
                if not self.readers:
                    # No reader asks for what was erased.
                    raise self._give_up()
                return False
            self._come_to(Validated(replace(stored, entry=entry)), FillEvent.USABLE)
            await self._share(lambda sharing: sharing.freshen(self.ref, entry))
            return True
        await self._tiers.drop(self.ref, entry.generation)
        self._come_to(Validated(replace(stored, entry=entry)), FillEvent.USABLE)
        await self._share(lambda sharing: sharing.drop(self.ref, entry.generation))
        return True

    async def _share(self, what: Callable[[Sharing], Awaitable[None]]) -> None:
        """Tell the shared tier, once the fill is over: no reader waits for that, and it is done without readers too."""
        if self._sharing is not None:
            await what(self._sharing)

    async def _receive(self, answer: OriginAnswer) -> None:
        representation = represent(self.ref, answer.head)
        self._length = representation.length
        withheld = answer.head.coded
        held = self._bytes = self._owner.make_bytes(representation, whole=withheld)
        if withheld:
            self._advance(FillEvent.CODED_HEAD)
        else:
            self._come_to(Begun(representation), FillEvent.HEAD)
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
        if withheld:
            self.outcome = Begun(replace(representation, length=held.received))
        self._advance(FillEvent.LAST_BYTE)
        # The readers that wait for the last bytes come before the storing.
        await asyncio.sleep(0)
        settled = await held.settle()
        if settled is None:
            self._advance(FillEvent.STORED)
        else:
            content, checksum = settled
            # It has the epoch in which it was asked for: a gap in the shared log since then puts it in doubt.
            entry = make_entry(
                representation, length=held.received, checksum=checksum, epoch=self._asked_at, utf8=self.utf8
            )
            self.entry = entry
            self._kept = await self._tiers.keep(self.ref, entry, content)
            self._advance(FillEvent.STORED)
            await self._share(lambda sharing: sharing.keep(self.ref, entry, content, self._since))

    async def _is_wanted(self) -> bool:
        """Return whether the media has not been erased since the fill began; its bytes are not stored if it has."""
        epoch = self._tiers.epoch
        if self.epoch != epoch:
            if await self._tiers.erased(self.ref, self.epoch):
                return False
            self.epoch = epoch
        return True

    def _give_up(self) -> GatewayError:
        """Let the fill be abandoned, and return the error that ends its task."""
        self.failure = _given_up()
        self._advance(FillEvent.UNWANTED)
        return self.failure

    def _come_to(self, outcome: Outcome, event: FillEvent) -> None:
        """Let an event happen with which the readers learn the outcome."""
        self.outcome = outcome
        self._advance(event)

    def _fail(self, error: GatewayError) -> None:
        """Cut the readers off, unless all bytes have come or the fill is over."""
        if self.over:
            return
        if not self.whole:
            self.failure = error
        self._advance(FillEvent.FAILURE)

    def _advance(self, event: FillEvent) -> None:
        """Let an event happen, and wake the readers that wait for it."""
        self.state = following(self.state, event)
        self._waiters.wake(_WAKES.get(self.state, _OVER) + 1)

    async def _release(self) -> None:
        held, self._bytes = self._bytes, None
        if held is not None:
            # It runs to its end even if the last reader, which may be the caller, is cancelled.
            await asyncio.shield(self._owner.own(held.close(kept=self._kept)))


def _given_up() -> GatewayError:
    return UpstreamError("The fetch was given up.", note="the fill was ended before its time")


class FillBody:
    """One reader's view of a fill; to close it is to leave the fill."""

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
    """The readers of one fill that wait, each at an offset, until the byte there has come."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def __len__(self) -> int:
        """Return the number of readers that wait."""
        return len(self._waiting)

    async def wait(self, offset: int) -> None:
        """Wait until the byte at that offset has come, or there is nothing more to wait for."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((offset, waiter))
        await waiter

    def wake(self, received: int) -> None:
        """Wake the readers at offsets below `received`, the number of bytes that have come."""
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
