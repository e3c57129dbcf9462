"""The follower of one worker: it applies here what the log says, and knows what it may have missed.

It asks what is new twice a second, and at once when it is told of an invalidation; being told is quicker and never
relied on. What is stored here is trusted while the follower knows that it has heard of everything.

No invalidation stops it:

1. One that cannot be read (damaged, too long, of a later version) counts as lost: everything that is stored is in
   doubt, and the blocks are read again from the table of those that hold.
2. One that the folder cannot take (it is full or damaged, or has as many blocks as there can be) is passed over, and
   owed: a block holds in RAM meanwhile, everything that is stored is in doubt, and the folder is told everything again
   as soon as that works. A start goes on from what the folder was told before. The express lane, which asks once a
   second, may serve what is revoked so for that second.
3. A block that finds no room even in RAM closes what cannot be told apart: everything is revoked then.

Each is logged and counted. The position moves on, so that the others do not wait for this worker.

Each worker has a follower of its own, though the workers of a folder apply the same invalidations to it. For trust is
each worker's own: one that stood still must not be vouched for by another one that did not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, assert_never

from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.cache.invalidation.block_table import BlockTable
from proxy.cache.invalidation.invalidators import Invalidations
from proxy.cache.invalidation.policy import CEILING, FARTHEST, Block, BlockIdentity, Blocks, Erase, Invalidation, Lift
from proxy.cache.redis.checkpoint import Checkpoint, CheckpointFile
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.keys import CHANNEL
from proxy.cache.redis.log import LIVE_SECONDS, InvalidationLog, Position, SharedBlocks
from proxy.cache.redis.outage import Contact
from proxy.cache.redis.pools import make_pool
from proxy.erasure import BlockKind
from proxy.errors import RevocationsFull, SharedTierAway, StoreError
from proxy.model import Clock
from proxy.settings import SharedServer
from proxy.telemetry.metrics import Metrics, PassedOver

_log: Final = logging.getLogger("media_gateway.cache")

CUT_OFF_SECONDS: Final = 9.0
"""The time without an exchange after which nothing that is stored here is reused before it is validated. Within one
second more the express lane, which asks once a second, knows it too."""
STALL_SECONDS: Final = 1.5
"""The time after which a process that stood still may have missed what others waited for it to hear of. It is less than
what they wait, by more than the time between two exchanges."""
_BEAT_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 5.0
_FIRST_RETRY_SECONDS: Final = 1.0
_LONGEST_RETRY_SECONDS: Final = 60.0
_NEW_NUMBER: Final = Erase(" ")
"""The erasure of nothing, for no key begins with a space: it gives the folder a new number."""


class Follower:
    """The shared tier's invalidator, and one worker's place in the log.

    `invalidations` are those of the worker's cache folder, or its own without a folder.
    """

    def __init__(
        self,
        log: InvalidationLog,
        redis: RedisClient,
        invalidations: Invalidations,
        file: CheckpointFile,
        clock: Clock,
        *,
        enter_run: Callable[[str], None],
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._redis = redis
        self._invalidations = invalidations
        self._file = file
        self._clock = clock
        self._enter_run = enter_run
        self._metrics = metrics
        self._monotonic = monotonic
        self._position: Position | None = None
        self._line = 0
        # Set if the tier was not reached when this worker started: everything that was stored by then is before it.
        self._start_line: int | None = None
        # The losses of the folder after which its blocks were compared with those of the log; None before that.
        self._compared: int | None = None
        self._obstacle = ""
        self._exchanged = -CUT_OFF_SECONDS
        # The last exchange has failed, and this worker has not stood still since.
        self._failing = False
        self._ticked = -math.inf
        self._trusted_until = -1.0
        self.unwritten = BlockTable()
        """The blocks that the folder could not take."""
        self._owed_since: int | None = None
        self._folder_fails = False
        self._retry_at = 0.0
        self._retry_pause = _FIRST_RETRY_SECONDS
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []

    # --- what is known ---

    @property
    def position(self) -> Position | None:
        """The place of the last invalidation that holds here; None before the first exchange."""
        return self._position

    @property
    def current(self) -> bool:
        """Return whether every invalidation whose `apply` has returned anywhere holds here."""
        return self._monotonic() <= self._trusted_until

    @property
    def contact(self) -> Contact:
        """Return what this worker knows of the log now."""
        if self.current:
            return Contact.CURRENT
        stood_still = self._monotonic() - self._ticked > STALL_SECONDS
        return Contact.AWAY if self._failing and not stood_still else Contact.UNKNOWN

    def behind(self, epoch: int) -> bool:
        """Return whether a stored response of that epoch is from before a gap in what this worker has heard."""
        return self._owed_since is not None or epoch < max(self._line, self._start_line or 0)

    async def settle(self) -> None:
        """Give a worker that may have missed something a moment to ask; none if the tier is known to be away."""
        if self.contact is Contact.UNKNOWN:
            await self._turned(_PATIENCE_SECONDS)

    # --- applying ---

    async def apply(self, invalidation: Invalidation, now: float) -> None:
        """Apply an invalidation here and in every gateway that can be reached. Raises `StoreError`.

        While Redis is away nothing is changed.
        """
        place = await self._log.write(invalidation)
        deadline = self._monotonic() + LIVE_SECONDS
        while not self._has(place):
            if not self._redis.up:
                raise SharedTierAway(
                    "an invalidation is in the log, and the shared tier went away before it was heard here"
                )
            if self._monotonic() > deadline:
                raise StoreError(note="an invalidation is in the log, and could not be applied here")
            await self._turned(_PATIENCE_SECONDS)
        await wait_for_others(self._log, place, self._monotonic)
        if self._owed_since is not None and place.number >= self._owed_since:
            raise StoreError(note="an invalidation holds in the other gateways, and the folder here could not take it")

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        """Raise `RevocationsFull` if these blocks together are more than are admitted."""
        await self._log.require_room(blocks)

    def _has(self, place: Position) -> bool:
        """Return whether everything up to a place holds here."""
        known = self._position
        return known is not None and known.run == place.run and known.number >= place.number

    # --- following ---

    @asynccontextmanager
    async def following(self, server: SharedServer) -> AsyncIterator[None]:
        """Follow the log meanwhile; the first exchange is over when this yields, whether it succeeded or not."""
        checkpoint = await self._file.read()
        # A line that doubts even what will be stored is of another folder's count.
        if checkpoint is not None and checkpoint.line <= self._invalidations.epoch:
            self._position, self._line = checkpoint.position, checkpoint.line
            self._enter_run(checkpoint.position.run)
        tasks: list[asyncio.Task[None]] = []
        self._ticked = self._monotonic()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * _PATIENCE_SECONDS):
                    await self._turn()
            if not self.current:
                await self._doubt_all()
            tasks += [asyncio.create_task(work) for work in (self._follow(), self._tick(), self._listen(server))]
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._metrics.shared_away(away=False)
            self._tell()
            with contextlib.suppress(StoreError):
                await self._log.leave()

    async def _doubt_all(self) -> None:
        """Let everything that is stored be from before a gap, until the tier is reached."""
        # If the folder gives no number now, what is stored until it does is from before the line too.
        self._start_line = self._invalidations.epoch + 1
        with contextlib.suppress(StoreError):
            await self._invalidations.apply(_NEW_NUMBER, self._clock())
            self._start_line = self._invalidations.epoch

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._turn()
            except Exception as error:  # noqa: BLE001 - see below
                # A worker that follows no more would trust nothing until it is started again, and would not say so.
                self._failing = True
                if str(error) != self._obstacle:
                    _log.exception("What other gateways erase cannot be followed")
                    self._obstacle = str(error)
            self._tell()

    async def _turn(self) -> None:
        try:
            while not await self._exchange():
                pass
        except StoreError as error:
            # The client says that Redis is away; that it cannot be followed for another reason is said here, once.
            if self._redis.up and error.note != self._obstacle:
                _log.warning("What other gateways erase cannot be followed: %s", error.note)
                self._obstacle = error.note
        else:
            self._obstacle = ""

    async def _exchange(self) -> bool:
        """Hear what is new and apply it; return whether that was all."""
        began = self._monotonic()
        try:
            news = await self._log.exchange(self._position)
        except StoreError:
            self._failing = True
            raise
        if news.unreadable:
            self._pass_over(PassedOver.UNREADABLE, "it is damaged, or of a later version")
        if news.gap:
            await self._begin_again(news.last)
            return False
        losses = self._invalidations.losses
        if self._compared != losses:
            await self._take_blocks((await self._read_blocks()).found, both_ways=False)
            self._compared = losses
        for number, invalidation in news.invalidations:
            await self._follow_one(number, invalidation)
            self._position = Position(news.last.run, number)
        if news.invalidations:
            await self._note()
            return False
        now = self._monotonic()
        if self._owed_since is not None and now >= self._retry_at:
            await self._begin_again(news.last)
            return False
        if now - began > STALL_SECONDS:
            # What was heard is as old as that: it is asked again.
            return False
        self._exchanged, self._failing, self._start_line = began, False, None
        self._trusted_until = min(began + CUT_OFF_SECONDS, now + STALL_SECONDS)
        return True

    async def _follow_one(self, number: int, invalidation: Invalidation) -> None:
        """Apply an invalidation here, in RAM alone if the folder cannot take it."""
        if self._owed_since is None and await self._written(invalidation, number):
            return
        match invalidation:
            case Erase():
                # All that is stored is in doubt while anything is owed.
                pass
            case Block():
                self._hold_unwritten(invalidation)
            case Lift():
                self.unwritten.apply(invalidation, self._clock())
            case _:
                assert_never(invalidation)

    async def _written(self, invalidation: Invalidation, number: int = 0) -> bool:
        """Return whether this machine's folder takes an invalidation; one that it refuses is owed from then on."""
        try:
            try:
                await self._invalidations.adopt(invalidation, self._clock())
            except RevocationsFull:
                raise
            except StoreError:
                # A damaged index has been replaced by a new one.
                await self._invalidations.adopt(invalidation, self._clock())
        except StoreError as error:
            self._owe(number, error)
            return False
        return True

    def _owe(self, number: int, error: StoreError) -> None:
        self._folder_fails = True
        self._owed_since = number if self._owed_since is None else min(number, self._owed_since)
        self._retry_at = self._monotonic() + self._retry_pause
        self._retry_pause = min(2 * self._retry_pause, _LONGEST_RETRY_SECONDS)
        self._pass_over(PassedOver.FAILED, error.note)

    def _pass_over(self, kind: PassedOver, reason: str) -> None:
        self._metrics.passed_over(kind)
        _log.warning(
            "An invalidation of the shared log cannot be applied; what is stored is validated before it is reused: %s",
            reason,
        )

    def _hold_unwritten(self, block: Block) -> None:
        try:
            self.unwritten.apply(block, self._clock(), most=CEILING)
        except RevocationsFull:
            # The provider itself says what is gone, and all that is stored is validated.
            if block.kind is BlockKind.REVOKED:
                everything = Block(BlockKind.REVOKED, "", block.until)
                self.unwritten.take_over(Blocks((everything,), whole=False), self._clock())

    async def _begin_again(self, last: Position) -> None:
        """Begin again at `last`, for something between is lost: everything that is stored here is in doubt from now on.

        Within one run the blocks in Redis are those that hold; blocks that a new run does not have are given to it.
        """
        known, owed = self._position, self._owed_since is not None
        self._folder_fails, losses = False, self._invalidations.losses
        # Read first: what another worker of this folder takes over from now on may be younger than theirs.
        ours = await self._held()
        theirs = await self._read_blocks()
        if await self._written(_NEW_NUMBER):
            self._line = self._invalidations.epoch
        if known is not None and known.run == last.run and not theirs.unreadable:
            await self._lift_missing(ours, theirs.found)
        await self._take_blocks(theirs.found, both_ways=known is None or known.run != last.run)
        if not self._folder_fails:
            self._owed_since, self._retry_pause = None, _FIRST_RETRY_SECONDS
        self._compared = losses
        self._position = last
        self._enter_run(last.run)
        await self._note()
        if not self._folder_fails and owed:
            _log.warning("The folder has caught up with the shared log")
        elif known is not None and not owed:
            _log.warning("Invalidations by other gateways were missed; what is stored is validated before it is reused")

    async def _read_blocks(self) -> SharedBlocks:
        theirs = await self._log.blocks()
        if theirs.unreadable:
            self._pass_over(PassedOver.UNREADABLE, f"{theirs.unreadable} blocks are damaged, or of a later version")
        return theirs

    async def _note(self) -> None:
        # While something is owed, a start has to read it again.
        if self._position is not None and self._owed_since is None:
            await self._file.write(Checkpoint(self._position, self._line))

    async def _held(self) -> dict[BlockIdentity, Block]:
        """Return the blocks that this machine's folder has; none if they cannot be read."""
        now = self._clock()
        try:
            known = await self._invalidations.blocks(-1)
        except StoreError as error:
            self._owe(0, error)
            return {}
        return {block.identity: block for block in known.found if block.until > now}

    async def _take_blocks(self, theirs: Mapping[BlockIdentity, Block], *, both_ways: bool) -> None:
        ours = await self._held()
        wanted = dict(theirs)
        if both_ways:
            # A block of everything stands for those that found no room, and is not told to Redis.
            for block in (*ours.values(), *(held for held in self.unwritten.blocks() if held.prefix)):
                if _end(theirs.get(block.identity)) < block.until:
                    wanted[block.identity] = block
                    await self._give_back(block)
        unwritten = [
            block
            for block in wanted.values()
            # A folder that has failed is not tried for each of thousands.
            if _end(ours.get(block.identity)) < block.until and (self._folder_fails or not await self._written(block))
        ]
        self.unwritten.take_over(Blocks((), whole=True), self._clock())
        for block in unwritten:
            self._hold_unwritten(block)

    async def _give_back(self, block: Block) -> None:
        try:
            await self._log.write(block, restore=True)
        except RevocationsFull as error:
            self._pass_over(PassedOver.FAILED, error.note)

    async def _lift_missing(self, ours: Mapping[BlockIdentity, Block], theirs: Mapping[BlockIdentity, Block]) -> None:
        """Lift the blocks that do not hold any more, but none that was given again since, which ends later.

        A block of narrower reach that is lifted with them is taken again afterwards.
        """
        for block in ours.values():
            if block.identity not in theirs and not self._folder_fails:
                await self._written(Lift(block.kind, block.prefix, block.until))

    # --- time and messages ---

    async def _tick(self) -> None:
        """Notice a time in which this process stood still: it asks before it trusts again."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS / 2)
            now = self._monotonic()
            if now - self._ticked > STALL_SECONDS:
                self._failing = False
            self._ticked = now
            self._metrics.shared_away(away=self.contact is Contact.AWAY)
            if now <= self._trusted_until:
                self._trusted_until = min(self._exchanged + CUT_OFF_SECONDS, now + STALL_SECONDS)

    async def _listen(self, server: SharedServer) -> None:
        """Wake the follower for each invalidation that is published, as long as that works."""
        while True:
            pool = make_pool(server, 1)
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
                # The subscription's beginning is a message too, so that what was published before it is asked for.
                message = await subscription.get_message(timeout=_SILENCE_SECONDS)
                if message is not None:
                    asked = False
                    self._wake.set()
                elif asked:
                    # A connection without an answer is dead.
                    return
                else:
                    asked = True
                    await subscription.ping()

    async def _turned(self, seconds: float) -> None:
        """Wait until a turn ends that is under way or has yet to begin, for at most so many seconds."""
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


async def wait_for_others(
    log: InvalidationLog, place: Position, monotonic: Callable[[], float] = time.monotonic
) -> None:
    """Wait until each live worker has followed to a place, but no longer than `LIVE_SECONDS`."""
    deadline = monotonic() + LIVE_SECONDS
    pause = 0.002
    while behind := await log.behind(place):
        if monotonic() > deadline:
            _log.warning("An invalidation has not reached %d workers in time; they hear of it when they ask", behind)
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)


def _end(block: Block | None) -> float:
    return -FARTHEST if block is None else block.until
