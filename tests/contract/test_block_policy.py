"""One policy of blocks, in Python, in SQL and in Redis's own language: the same changes leave the same blocks."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.cache.disk.index import Index
from proxy.cache.invalidation.block_table import BlockTable
from proxy.cache.invalidation.policy import (
    CEILING,
    DEFAULT,
    KINDS,
    Block,
    Lift,
    is_lifted,
    prolonged,
    require_room,
    takes_room,
)
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.log import InvalidationLog
from proxy.erasure import BlockKind
from proxy.errors import RevocationsFull
from proxy.settings.model import Limits
from proxy.telemetry.metrics import Metrics
from tests.redis_server import RedisServer

NOW: Final = 1_800_000_000.0
MOST: Final = 3
REVOKED, GONE = BlockKind.REVOKED, BlockKind.GONE
Held = dict[tuple[BlockKind, str], float]


@dataclass(frozen=True)
class Hold:
    """A block of so many seconds from `at`, itself seconds after `NOW`; `refused`: it is one too many."""

    kind: BlockKind
    prefix: str
    seconds: float
    at: float = 0.0
    refused: bool = False


@dataclass(frozen=True)
class End:
    """The end of blocks; with `by` of those that end so many seconds after `NOW`."""

    kind: BlockKind
    prefix: str
    by: float | None = None
    at: float = 0.0


@dataclass(frozen=True)
class Room:
    """The question if all of these, of a minute, can be revoked at once."""

    prefixes: tuple[str, ...]
    at: float = 0.0
    refused: bool = False


Step = Hold | End | Room


@dataclass(frozen=True)
class Case:
    """Steps, of which those that are refused say so, and what holds then: kind, prefix, and seconds after `NOW`."""

    steps: Sequence[Step]
    held: Sequence[tuple[BlockKind, str, float]]
    at: float = 0.0


CASES: Final = {
    "one-holds": Case([Hold(REVOKED, "a/b/c", 60)], [(REVOKED, "a/b/c", 60)]),
    "it-ends-by-itself": Case([Hold(REVOKED, "a/b/c", 60)], [], at=60),
    "a-later-end-prolongs": Case([Hold(REVOKED, "a", 60), Hold(REVOKED, "a", 90)], [(REVOKED, "a", 90)]),
    "an-earlier-end-shortens-nothing": Case([Hold(GONE, "a", 60), Hold(GONE, "a", 10)], [(GONE, "a", 60)]),
    "what-has-ended-is-no-block": Case([Hold(REVOKED, "a", 0), Hold(GONE, "b", -5)], []),
    "given-again-after-its-end-it-holds-as-long-as-it-says": Case(
        [Hold(REVOKED, "a", 60), Hold(REVOKED, "a", 30, at=61)], [(REVOKED, "a", 91)], at=61
    ),
    "given-again-after-it-was-lifted-it-holds-as-long-as-it-says": Case(
        [Hold(REVOKED, "a", 60), End(REVOKED, "a"), Hold(REVOKED, "a", 30)], [(REVOKED, "a", 30)]
    ),
    "lifting-ends-one-kind-on-all-it-covers": Case(
        [Hold(REVOKED, "a/", 60), Hold(REVOKED, "a/b", 60), Hold(GONE, "a/b", 60), End(REVOKED, "a/")],
        [(GONE, "a/b", 60)],
    ),
    "lifting-a-part-leaves-the-whole": Case(
        [Hold(REVOKED, "a/", 60), Hold(REVOKED, "a/b", 60), End(REVOKED, "a/b")], [(REVOKED, "a/", 60)]
    ),
    "lifting-spares-what-ends-later": Case(
        [Hold(GONE, "a/b", 60), Hold(GONE, "a/c", 61), End(GONE, "a/", by=60)], [(GONE, "a/c", 61)]
    ),
    "one-too-many-is-refused": Case(
        [Hold(REVOKED, p, 60) for p in "abc"] + [Hold(REVOKED, "d", 60, refused=True)],
        [(REVOKED, p, 60) for p in "abc"],
    ),
    "a-deletion-too-many-is-refused-too": Case(
        [Hold(GONE, p, 60) for p in "abc"] + [Hold(GONE, "d", 60, refused=True)], [(GONE, p, 60) for p in "abc"]
    ),
    "both-kinds-share-the-bound": Case(
        [Hold(REVOKED, "a", 60), Hold(GONE, "a", 60), Hold(REVOKED, "b", 60), Hold(GONE, "b", 60, refused=True)],
        [(REVOKED, "a", 60), (GONE, "a", 60), (REVOKED, "b", 60)],
    ),
    "what-holds-is-prolonged-though-there-is-no-room": Case(
        [Hold(REVOKED, p, 60) for p in "abc"] + [Hold(REVOKED, "b", 90)],
        [(REVOKED, "a", 60), (REVOKED, "b", 90), (REVOKED, "c", 60)],
    ),
    "what-has-ended-makes-room": Case(
        [Hold(REVOKED, "a", 10), Hold(GONE, "b", 60), Hold(REVOKED, "c", 60), Hold(REVOKED, "d", 60, at=10)],
        [(GONE, "b", 60), (REVOKED, "c", 60), (REVOKED, "d", 70)],
        at=10,
    ),
    "one-that-has-ended-needs-room-as-any-other": Case(
        [
            Hold(REVOKED, "a", 10),
            Hold(REVOKED, "b", 60),
            Hold(REVOKED, "c", 60),
            Hold(REVOKED, "d", 60, at=10),
            Hold(REVOKED, "a", 60, at=11, refused=True),
        ],
        [(REVOKED, "b", 60), (REVOKED, "c", 60), (REVOKED, "d", 70)],
        at=11,
    ),
    "what-was-lifted-makes-room": Case(
        [Hold(REVOKED, p, 60) for p in "abc"] + [End(REVOKED, "b"), Hold(GONE, "d", 60)],
        [(REVOKED, "a", 60), (REVOKED, "c", 60), (GONE, "d", 60)],
    ),
    "one-that-has-ended-already-is-never-refused": Case(
        [Hold(REVOKED, p, 60) for p in "abc"] + [Hold(REVOKED, "d", 0)], [(REVOKED, p, 60) for p in "abc"]
    ),
    "several-at-once-have-room-or-not": Case(
        [
            Room(("a", "b", "c")),
            Room(("a", "b", "c", "d"), refused=True),
            Room(("a", "b", "a", "b", "c")),
            Hold(REVOKED, "a", 60),
            Hold(GONE, "x", 60),
            Room(("a", "b")),
            Room(("b", "c"), refused=True),
            Room(("b", "c"), at=60),
        ],
        [],
        at=60,
    ),
}


class Keeper(Protocol):
    """A table of blocks; `now` is Unix time. `apply` and `require_room` raise `RevocationsFull`."""

    async def apply(self, invalidation: Block | Lift, now: float) -> None: ...

    async def require_room(self, blocks: Sequence[Block], now: float) -> None: ...

    async def held(self, now: float) -> Held: ...


class Policy:
    """The policy alone, over a dictionary."""

    def __init__(self) -> None:
        self._known: Held = {}

    async def apply(self, invalidation: Block | Lift, now: float) -> None:
        match invalidation:
            case Block(kind, prefix, until):
                await self.require_room((invalidation,), now)
                self._known[kind, prefix] = prolonged(self._known.get((kind, prefix)), until)
            case Lift():
                for held in [Block(*name, end) for name, end in self._known.items()]:
                    if is_lifted(held, invalidation):
                        del self._known[held.identity]

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        names = {(v.kind, v.prefix) for v in blocks if takes_room(self._known.get((v.kind, v.prefix)), v.until, now)}
        require_room(len(await self.held(now)), len(names), MOST)

    async def held(self, now: float) -> Held:
        return {name: end for name, end in self._known.items() if end > now}


class Table:
    """A process's table."""

    def __init__(self) -> None:
        self._table = BlockTable()

    async def apply(self, invalidation: Block | Lift, now: float) -> None:
        self._table.apply(invalidation, now, most=MOST)

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        self._table.require_room(blocks, now, MOST)

    async def held(self, now: float) -> Held:
        return {held.identity: held.until for held in self._table.blocks() if held.until > now}


class Folder:
    """A folder's table."""

    def __init__(self, index: Index) -> None:
        self._index = index

    async def apply(self, invalidation: Block | Lift, now: float) -> None:
        await asyncio.to_thread(self._index.apply, invalidation, now, most=MOST)

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        await asyncio.to_thread(self._index.require_room, blocks, now, MOST)

    async def held(self, now: float) -> Held:
        read = await asyncio.to_thread(self._index.blocks, -1)
        return {held.identity: held.until for held in read.found if held.until > now}


class Shared:
    """Redis's table."""

    def __init__(self, redis: RedisClient) -> None:
        self._now = NOW
        self._log = InvalidationLog(redis, lambda: self._now, MOST)

    async def apply(self, invalidation: Block | Lift, now: float) -> None:
        self._now = now
        await self._log.write(invalidation)

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        self._now = now
        await self._log.require_room(blocks)

    async def held(self, now: float) -> Held:
        self._now = now
        return {held.identity: held.until for held in (await self._log.blocks()).found.values()}


@asynccontextmanager
async def keeping(redis: RedisServer) -> AsyncIterator[Sequence[Keeper]]:
    """Yield an empty table of each form."""
    await redis.command("FLUSHALL")
    client = RedisClient(redis.url, Metrics())
    try:
        with _indexed() as index:
            yield Policy(), Table(), Folder(index), Shared(client)
    finally:
        await client.close()


@contextlib.contextmanager
def _indexed() -> Iterator[Index]:
    with tempfile.TemporaryDirectory() as folder, closing(Index(Path(folder))) as index:
        yield index


async def take(keeper: Keeper, step: Step) -> bool:
    """Take a step; return if it is refused."""
    now = NOW + step.at
    try:
        match step:
            case Hold():
                await keeper.apply(Block(step.kind, step.prefix, now + step.seconds), now)
            case End():
                await keeper.apply(Lift(step.kind, step.prefix, None if step.by is None else NOW + step.by), now)
            case Room():
                await keeper.require_room([Block(REVOKED, prefix, now + 60) for prefix in step.prefixes], now)
    except RevocationsFull:
        return True
    return False


@pytest.fixture(autouse=True)
def settled_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cache.redis.log.SETTLING_SECONDS", 0)


@pytest.mark.system("redis-server")
async def test_every_form_decides_each_case_as_the_policy_says(redis_server: RedisServer) -> None:
    for name, case in CASES.items():
        expected = {(kind, prefix): NOW + end for kind, prefix, end in case.held}
        async with keeping(redis_server) as keepers:
            for keeper in keepers:
                form = f"{name}: {type(keeper).__name__}"
                for place, step in enumerate(case.steps):
                    refused = isinstance(step, Hold | Room) and step.refused
                    assert await take(keeper, step) == refused, f"{form}, step {place}"
                assert await keeper.held(NOW + case.at) == expected, form


PREFIXES: Final = ("", "a/", "a/b/", "a/b/c", "a/b/d", "z/")
moments = st.sampled_from([0.0, 1.0, 5.0, 60.0])
steps = st.one_of(
    st.builds(
        Hold, st.sampled_from(KINDS), st.sampled_from(PREFIXES), st.sampled_from([-1.0, 0.0, 1.0, 7.0, 60.0]), moments
    ),
    st.builds(End, st.sampled_from(KINDS), st.sampled_from(PREFIXES), st.none() | moments, moments),
    st.builds(Room, st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=5).map(tuple), moments),
)


@pytest.mark.system("redis-server")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(steps, max_size=20))
async def test_whatever_the_changes_are_every_form_keeps_the_same(
    redis_server: RedisServer, taken: Sequence[Step]
) -> None:
    async with keeping(redis_server) as (policy, *others):
        time = 0.0
        for step in taken:
            # Time goes on alone: what has ended may be forgotten.
            time = max(time, step.at)
            refused = await take(policy, _at(step, time))
            held = await policy.held(NOW + time)
            assert len(held) <= MOST
            for other in others:
                assert await take(other, _at(step, time)) == refused, type(other).__name__
                assert await other.held(NOW + time) == held, type(other).__name__


def _at(step: Step, time: float) -> Step:
    match step:
        case Hold():
            return Hold(step.kind, step.prefix, step.seconds, time)
        case End():
            return End(step.kind, step.prefix, step.by, time)
        case Room():
            return Room(step.prefixes, time)


def test_the_setting_has_the_policy_s_default_and_highest_value() -> None:
    assert Limits().revocations == DEFAULT
    assert Limits.model_validate({"revocations": str(CEILING)}).revocations == CEILING
    with pytest.raises(ValueError, match="revocations"):
        Limits.model_validate({"revocations": str(CEILING + 1)})
