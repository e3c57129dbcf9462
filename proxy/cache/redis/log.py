"""The log of invalidations in Redis, and the table of blocks beside it: one worker's use of them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.cache import bounds
from proxy.cache.invalidation.policy import (
    CEILING,
    DEFAULT,
    FARTHEST,
    LONGEST_PREFIX,
    Block,
    BlockIdentity,
    Invalidation,
    require_room,
)
from proxy.cache.redis import scripts
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.keys import BLOCK_ENDS, BLOCK_NAMES, CHANNEL, ERASED, INVALIDATIONS, LOG, NODES
from proxy.cache.redis.records import Record, block_name, decode_member, encode, named_block
from proxy.errors import RevocationsFull, StoreError
from proxy.model import Clock

LIVE_SECONDS: Final = 2.5
"""A worker that has said nothing for so long is not waited for: it is away, or knows by itself that it stood still."""
SETTLING_SECONDS: Final = LIVE_SECONDS
"""The age of a run at which the first invalidation may be written: by then those who follow have come to it."""
_FORGOTTEN_SECONDS: Final = 60.0
_KEPT: Final = 10_000
_ERASED: Final = 100_000
_PAGE: Final = 500
_LONGEST_RECORD: Final = 8 * LONGEST_PREFIX
_LONGEST_NAME: Final = 4 * LONGEST_PREFIX + 2
"""The bytes of a kind, a slash and a prefix at most."""
_TRIES: Final = 3
_BEGIN: Final = (LOG, INVALIDATIONS, ERASED, NODES, BLOCK_ENDS, BLOCK_NAMES)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log: after the change of that number of that run."""

    run: str
    number: int


@dataclass(frozen=True, slots=True)
class News:
    """An answer of the log to a worker: its `last` place, what came after the worker's own, and if some is missing.

    `invalidations` are some of the first ones if there are many. `unreadable`: what is missing is there, and says
    nothing that can be applied here: it is damaged, or of a later version.
    """

    last: Position
    invalidations: tuple[tuple[int, Invalidation], ...]
    gap: bool
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class SharedBlocks:
    """The blocks that hold, by kind and prefix; so many besides are `unreadable`."""

    found: dict[BlockIdentity, Block]
    unreadable: int


class InvalidationLog:
    """One worker's use of the log. Calls raise `StoreError`.

    `revocations`: how many revocations and deletions it admits at once.
    """

    def __init__(self, redis: RedisClient, clock: Clock, revocations: int = DEFAULT) -> None:
        self._redis = redis
        self._clock = clock
        self._revocations = revocations
        self._node = secrets.token_hex(8)

    async def exchange(self, known: Position | None) -> News:
        """Say how far this worker has followed, and return what is new. Redis is asked even while it is away."""
        run, number = ("-", 0) if known is None else (known.run, known.number)
        answer = await self._redis.run(
            scripts.EXCHANGE,
            _BEGIN,
            (secrets.token_hex(8), self._node, run, number, _PAGE, _LONGEST_RECORD),
            probing=True,
        )
        match answer:
            case [bytes(said), int(last), int(floor), list(members)] if bounds.is_count(last, bounds.LAST_LOGGED):
                pass
            case _:
                raise StoreError(note="the shared log is not readable")
        now = Position(said.decode(errors="replace"), last)
        if known is None or now.run != known.run:
            return News(now, (), gap=True)
        found: list[tuple[int, Invalidation]] = []
        for member in members:
            decoded = decode_member(member)
            # Numbers follow each other: one that is left out is lost.
            if decoded is None or decoded[0] != known.number + len(found) + 1:
                return News(now, (), gap=True, unreadable=decoded is None)
            found.append(decoded)
        missing = known.number < floor or last < known.number or (last > known.number and not found)
        return News(now, tuple(found), gap=missing)

    async def run(self) -> str | None:
        """Return the run of the log without beginning one; None if there is none yet."""
        match await self._redis.call(lambda client: client.hget(LOG, "run"), probing=True):
            case bytes(run):
                return run.decode(errors="replace")
            case _:
                return None

    async def write(self, invalidation: Invalidation, *, restore: bool = False) -> Position:
        """Write an invalidation down, and tell every worker. Returns its place in the log. A young run is waited for.

        With `restore` it is a block that was admitted before: it is written unless Redis has it already. Raises
        `RevocationsFull` if it is one block too many; nothing is written then.
        """
        record = Record.of(invalidation, restore=restore)
        # What is restored was admitted before.
        most = CEILING if restore else self._revocations
        for _ in range(_TRIES):
            written = await self._try_to_write(record, most)
            if isinstance(written, Position):
                return written
            await asyncio.sleep(written)
        raise StoreError(note="the shared log begins again and again")

    async def _try_to_write(self, record: Record, most: int) -> Position | float:
        """Return the place of a record that is written, or the seconds after which it can be."""
        answer = await self._redis.run(
            scripts.WRITE,
            _BEGIN,
            (
                secrets.token_hex(8), record.action.value, record.prefix, str(record.kind),
                "" if record.until is None else repr(record.until), repr(self._clock()), encode(record),
                CHANNEL, _KEPT, _ERASED, most, SETTLING_SECONDS,
            ),
            lasting=True,
        )  # fmt: skip
        match answer:
            case [bytes(run), int(number)]:
                return Position(run.decode(errors="replace"), number)
            case [0, bytes(seconds)]:
                return min(float(seconds), SETTLING_SECONDS)
            case _:
                raise RevocationsFull(most)

    async def require_room(self, blocks: Sequence[Block]) -> None:
        """Raise `RevocationsFull` if these blocks together are too many."""
        names = {block_name(block) for block in blocks}
        answer = await self._redis.run(scripts.ROOM, (BLOCK_ENDS,), (repr(self._clock()), *names))
        match answer:
            case [int(held), int(more)]:
                require_room(held, more, self._revocations)
            case _:
                raise StoreError(note="the blocks of the shared log are not readable")

    async def behind(self, place: Position) -> int:
        """Return how many live workers have not followed to that place."""
        answer = await self._redis.run(
            scripts.BEHIND, (NODES,), (place.run, place.number, LIVE_SECONDS, _FORGOTTEN_SECONDS)
        )
        return answer if isinstance(answer, int) else 0

    async def blocks(self) -> SharedBlocks:
        """Return the blocks that hold; those that are not readable are counted and passed over."""
        found: dict[BlockIdentity, Block] = {}
        unreadable, after = 0, b""
        while True:
            answer = await self._redis.run(scripts.BLOCKS, (BLOCK_ENDS, BLOCK_NAMES), (after, _PAGE, _LONGEST_NAME))
            rows = answer if isinstance(answer, list) else []
            for name, end in zip(rows[::2], rows[1::2], strict=False):
                after = name or after
                block = named_block(name, _moment(end))
                if block is None:
                    unreadable += 1
                elif block.until > self._clock():
                    found[block.identity] = block
            if len(rows) < 2 * _PAGE:
                return SharedBlocks(found, unreadable)

    async def leave(self) -> None:
        """Say that this worker has ended."""
        await self._redis.call(lambda client: client.hdel(NODES, self._node))


def _moment(score: bytes) -> float:
    """Return a score of Redis as Unix time; the farthest one if it is not a number, so that no block is lost."""
    try:
        return float(score)
    except ValueError:
        return FARTHEST
