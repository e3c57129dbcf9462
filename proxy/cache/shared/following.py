"""A worker that follows the log: what others erase is erased here, and what cannot be known is in doubt.

It asks what is new twice a second, and at once when it is told of a change; being told is quicker and never relied on.
What it has stored is trusted as long as it knows that nothing was erased that it has not heard of.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.cache.erasures import Erasures
from proxy.cache.shared.changes import Change
from proxy.cache.shared.link import Link, make_pool
from proxy.cache.shared.log import LIVE_SECONDS, ChangeLog, Position
from proxy.cache.shared.names import CHANNEL
from proxy.cache.shared.standpoint import Standpoint, StandpointFile
from proxy.cache.verdict_log import Verdict
from proxy.errors import StoreError
from proxy.model import Clock

_log: Final = logging.getLogger("media_gateway.cache")

CUT_OFF_SECONDS: Final = 9.0
"""Without an exchange for so long, nothing that is stored here is reused before it is validated. Within one second more
the express lane, which asks once a second, knows it too."""
STALL_SECONDS: Final = 1.5
"""A process that stood still for so long may have missed what others waited for it to hear of. It is less than what
they wait, by more than the time between two exchanges."""
_BEAT_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 5.0
_NO_KEY: Final = " "
"""No key begins with it: erasing it gives a new number and erases nothing."""


class Following:
    """One worker's place in the log; `erasures` are those of its cache folder, or its own without one."""

    def __init__(
        self,
        log: ChangeLog,
        link: Link,
        erasures: Erasures,
        file: StandpointFile,
        clock: Clock,
        *,
        enter_run: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._link = link
        self._erasures = erasures
        self._file = file
        self._clock = clock
        self._enter_run = enter_run
        self._monotonic = monotonic
        self._position: Position | None = None
        self._line = 0
        self._verdicts_known = False
        self._obstacle = ""
        self._exchanged = -CUT_OFF_SECONDS
        self._trusted_until = -1.0
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []

    # --- what is known ---

    @property
    def position(self) -> Position | None:
        """The last change that holds here; None before the first exchange."""
        return self._position

    @property
    def current(self) -> bool:
        """Whether every change that its writer was told of holds here."""
        return self._monotonic() <= self._trusted_until

    def doubts(self, epoch: int) -> bool:
        """Whether a stored response of that epoch may have been erased without a word of it."""
        return epoch < self._line or not self.current

    async def settle(self) -> None:
        """Give a worker that is not current a moment to become so; none where Redis is away."""
        if not self.current and self._link.up:
            await self._turned(_PATIENCE_SECONDS)

    # --- changing ---

    async def change(self, change: Change) -> None:
        """Let a change hold here and in every gateway that can be reached. Raises `StoreError`.

        Where Redis is away nothing is changed.
        """
        place = await self._log.write(change)
        deadline = self._monotonic() + LIVE_SECONDS
        while not self._has(place):
            if self._monotonic() > deadline or not self._link.up:
                raise StoreError(note="a change is written down, and could not be carried out here")
            await self._turned(_PATIENCE_SECONDS)
        await wait_for_others(self._log, place, self._monotonic)

    def _has(self, place: Position) -> bool:
        """Whether a change holds here."""
        known = self._position
        return known is not None and known.run == place.run and known.number >= place.number

    # --- following ---

    @asynccontextmanager
    async def following(self, url: str) -> AsyncIterator[None]:
        """Follow meanwhile; the first exchange is over when this yields, whether it succeeded or not."""
        standpoint = await self._file.read()
        # One that doubts even what will be stored is of another folder's count.
        if standpoint is not None and standpoint.line <= self._erasures.epoch:
            self._position, self._line = standpoint.position, standpoint.line
            self._enter_run(standpoint.position.run)
        tasks: list[asyncio.Task[None]] = []
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * _PATIENCE_SECONDS):
                    await self._turn()
            tasks += [asyncio.create_task(work) for work in (self._follow(), self._tick(), self._listen(url))]
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tell()
            with contextlib.suppress(StoreError):
                await self._log.leave()

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            await self._turn()
            self._tell()

    async def _turn(self) -> None:
        try:
            while not await self._exchange():
                pass
        except StoreError as error:
            # The link says that Redis is away; that it cannot be followed for another reason is said here, once.
            if self._link.up and error.note != self._obstacle:
                _log.warning("What other gateways erase cannot be followed: %s", error.note)
                self._obstacle = error.note
        else:
            self._obstacle = ""

    async def _exchange(self) -> bool:
        """Hear what is new and carry it out; whether that was all."""
        began = self._monotonic()
        news = await self._log.exchange(self._position)
        if news.gap:
            await self._begin_anew(news.last)
            return False
        if not self._verdicts_known:
            await self._take_verdicts(both_ways=False)
            self._verdicts_known = True
        for number, change in news.changes:
            await change.apply(self._erasures, self._clock())
            self._position = Position(news.last.run, number)
        if news.changes:
            await self._note()
            return False
        now = self._monotonic()
        if now - began > STALL_SECONDS:
            # What was heard is as old as that.
            return False
        self._exchanged = began
        self._trusted_until = min(began + CUT_OFF_SECONDS, now + STALL_SECONDS)
        return True

    async def _begin_anew(self, last: Position) -> None:
        """Some changes are lost: everything that is stored here is in doubt from now on.

        Of one run the verdicts in Redis are those that hold; what another run lost is given back to it.
        """
        known = self._position
        await self._erasures.erase(_NO_KEY, self._clock())
        self._line = self._erasures.epoch
        if known is not None and known.run == last.run:
            await self._lift_missing()
        await self._take_verdicts(both_ways=known is None or known.run != last.run)
        self._verdicts_known = True
        self._position = last
        self._enter_run(last.run)
        await self._note()
        if known is not None:
            _log.warning("Changes of other gateways were lost; what is stored is validated before it is reused")

    async def _note(self) -> None:
        if self._position is not None:
            await self._file.write(Standpoint(self._position, self._line))

    async def _held(self) -> dict[tuple[int, str], Verdict]:
        now = self._clock()
        known = await self._erasures.verdicts(-1)
        return {(held.kind.value, held.prefix): held for held in known.found if held.until > now}

    async def _take_verdicts(self, *, both_ways: bool) -> None:
        ours, theirs = await self._held(), await self._log.verdicts()
        for name, verdict in theirs.items():
            if name not in ours or ours[name].until < verdict.until:
                await self._erasures.judge(verdict, self._clock())
        if not both_ways:
            return
        for name, verdict in ours.items():
            if name not in theirs or theirs[name].until < verdict.until:
                await self._log.write(Change.judge(verdict, restore=True))

    async def _lift_missing(self) -> None:
        """End what does not hold any more. What that ends besides is taken again afterwards."""
        theirs = await self._log.verdicts()
        for name, verdict in (await self._held()).items():
            if name not in theirs:
                await self._erasures.lift(verdict.kind, verdict.prefix, self._clock())

    # --- time and messages ---

    async def _tick(self) -> None:
        """Notice that time has passed with nobody there: a process that stood still asks before it trusts again."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS / 2)
            now = self._monotonic()
            if now <= self._trusted_until:
                self._trusted_until = min(self._exchanged + CUT_OFF_SECONDS, now + STALL_SECONDS)

    async def _listen(self, url: str) -> None:
        """Wake up for each change that is published, as long as that works."""
        while True:
            pool = make_pool(url, 1)
            client: Redis = Redis(connection_pool=pool)
            try:
                with contextlib.suppress(RedisError, OSError, TimeoutError):
                    await self._hear(client)
            finally:
                await client.aclose()
                await pool.disconnect()
            await asyncio.sleep(_BEAT_SECONDS)

    async def _hear(self, client: Redis) -> None:
        async with client.pubsub() as subscription:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await subscription.subscribe(CHANNEL)
            asked = False
            while True:
                # What was published before the subscription began is asked for too: its beginning is a message.
                message = await subscription.get_message(timeout=_SILENCE_SECONDS)
                if message is not None:
                    asked = False
                    self._wake.set()
                elif asked:
                    # A connection that answers nothing is none.
                    return
                else:
                    asked = True
                    await subscription.ping()

    async def _turned(self, seconds: float) -> None:
        """Wait for the end of a turn that has yet to begin or is under way."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await waiter

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


async def wait_for_others(log: ChangeLog, place: Position, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Wait until each live worker has a change; one that stays behind for too long is not waited for."""
    deadline = monotonic() + LIVE_SECONDS
    pause = 0.002
    while behind := await log.behind(place):
        if monotonic() > deadline:
            _log.warning("A change has not reached %d workers in time; they are told when they ask", behind)
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)
