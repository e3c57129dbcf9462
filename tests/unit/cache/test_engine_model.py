"""Two engines on one folder under any order of events serve only what the upstream sent and nothing has erased."""

from __future__ import annotations

import asyncio
import enum
import random
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, assert_never

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from proxy.cache.disk.store import DiskStore, open_disk
from proxy.cache.engine import Engine
from proxy.cache.fills.registry import FillBounds
from proxy.cache.ram.store import RamStore
from proxy.cache.result import CacheResult
from proxy.cache.tiers import Tiers
from proxy.erasure import Reach
from proxy.errors import MediaNotFound, StoreError, UpstreamError, UpstreamTruncated, UpstreamUnreachable
from proxy.model import MediaRef
from proxy.origin import OriginHead
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy
from proxy.semantics.stored import Validators
from proxy.telemetry.metrics import Metrics
from tests.unit.cache.scripted import NOTHING, HeldClock

LIFETIME: Final = 100.0
MARKED: Final = 40.0
NEGATIVE: Final = 5.0
KEEP: Final = 1_000
RAM: Final = 3_000
DISK: Final = 1_450_000
PIECE: Final = 100_000
WORKERS: Final = 2

_A, _B = "AC" + "a" * 32, "AC" + "b" * 32
REFS: Final = (
    MediaRef.parse(_A, "MM" + "1" * 32, "ME" + "1" * 32),
    MediaRef.parse(_A, "MM" + "1" * 32, "ME" + "2" * 32),
    MediaRef.parse(_A, "MM" + "2" * 32, "ME" + "3" * 32),
    MediaRef.parse(_B, "MM" + "3" * 32, "ME" + "4" * 32),
)
REACHES: Final = (Reach.of(None), *(Reach.of(part) for ref in REFS for part in (ref, ref.parent, ref.account)))


class Tag(enum.Enum):
    STRONG = '"{}"'
    WEAK = 'W/"{}"'
    NONE = ""


class Fault(enum.Enum):
    GONE = enum.auto()
    BROKEN = enum.auto()
    AWAY = enum.auto()
    TRUNCATED = enum.auto()
    SHORT = enum.auto()
    STRAY_304 = enum.auto()


@dataclass(frozen=True)
class Version:
    """The media that the upstream has under one identity at one time."""

    number: int
    size: int
    tag: Tag

    @property
    def etag(self) -> str | None:
        return self.tag.value.format(f"v{self.number}") or None

    def body(self, ref: MediaRef) -> bytes:
        return random.Random(f"{ref} {self.number}").randbytes(self.size)


@dataclass(frozen=True)
class Manner:
    """The upstream's behaviour: `turns` of the loop before each piece, and a fault for so many requests."""

    control: str = ""
    announced: bool = True
    turns: int = 0
    fault: Fault | None = None
    times: int = 0


@dataclass
class Sent:
    """One 200: what was sent, when it was asked for in the order of things, and when it was last said to be good."""

    ref: MediaRef
    version: Version
    body: bytes
    control: str
    started: int
    good_at: list[float]
    whole: bool = False
    readers: int = 0


class Answer:
    def __init__(self, head: OriginHead, sent: Sent | None, manner: Manner) -> None:
        self.head = head
        self._sent = sent
        self._manner = manner

    async def chunks(self) -> AsyncIterator[bytes]:
        sent = self._sent
        if sent is None:
            return
        broken = self._manner.fault in {Fault.TRUNCATED, Fault.SHORT}
        body = sent.body[: len(sent.body) // 2] if broken else sent.body
        for start in range(0, len(body), PIECE):
            await turn(self._manner.turns)
            yield body[start : start + PIECE]
        if self._manner.fault is Fault.TRUNCATED or (broken and self.head.length is None):
            raise UpstreamTruncated
        # A body of no bytes has no half.
        sent.whole = len(body) == len(sent.body)


async def turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


class Upstream:
    """An origin that keeps account of all it says."""

    def __init__(self, clock: HeldClock) -> None:
        self.clock = clock
        self.order = 0
        self.sent: list[Sent] = []
        first = ((10, Tag.STRONG), (300_000, Tag.WEAK), (1_400_000, Tag.NONE), (10, Tag.NONE))
        self.versions = {ref: Version(0, size, tag) for ref, (size, tag) in zip(REFS, first, strict=True)}
        self.manners = {ref: Manner() for ref in REFS}
        self.failed: set[MediaRef] = set()
        self.gone_at: dict[MediaRef, float] = {}

    @asynccontextmanager
    async def open(
        self, ref: MediaRef, validators: Validators | None = None, *, young: bool = False
    ) -> AsyncIterator[Answer]:
        self.order += 1
        started, version, manner = self.order, self.versions[ref], self._take(ref)
        await turn(manner.turns)
        now = self.clock()
        match manner.fault:
            case Fault.GONE:
                self.gone_at[ref] = now
                raise MediaNotFound
            case Fault.BROKEN:
                raise UpstreamError
            case Fault.AWAY:
                raise UpstreamUnreachable
            case Fault.STRAY_304 if validators is not None:
                yield Answer(OriginHead(304, Fields((("ETag", '"of another"'),)), None, now, now), None, manner)
                return
            case Fault.TRUNCATED | Fault.SHORT | Fault.STRAY_304 | None:
                pass
            case _:
                assert_never(manner.fault)
        if validators is not None and validators.etag == version.etag:
            for sent in self.sent:
                if (sent.ref, sent.version) == (ref, version):
                    sent.good_at.append(now)
            yield Answer(OriginHead(304, Fields((("ETag", version.etag or ""),)), None, now, now), None, manner)
            return
        sent = Sent(ref, version, version.body(ref), manner.control, started, [now])
        # Nothing changes the type of a stored response, so it tells which answer the bytes are of.
        lines = [("Content-Type", f"image/sent-{len(self.sent)}")]
        lines += [("ETag", version.etag)] if version.etag else []
        lines += [("Cache-Control", manner.control)] if manner.control else []
        self.sent.append(sent)
        length = version.size if manner.announced else None
        yield Answer(OriginHead(200, Fields(tuple(lines)), length, now, now), sent, manner)

    def _take(self, ref: MediaRef) -> Manner:
        manner = self.manners[ref]
        if manner.fault is None:
            return manner
        self.failed.add(ref)
        left = manner.times - 1
        self.manners[ref] = replace(manner, times=left, fault=manner.fault if left else None)
        return manner


@dataclass(frozen=True)
class Reading:
    """One reader: `first` and `size` of a range, None for all; it may `leave` after its first block."""

    worker: int
    ref: MediaRef
    first: int = 0
    size: int | None = None
    leave: bool = False
    late: int = 0


@dataclass
class Worker:
    engine: Engine
    disk: DiskStore
    memory: RamStore
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)


refs = st.sampled_from(REFS)
workers = st.integers(0, WORKERS - 1)
readings = st.builds(
    Reading,
    worker=workers,
    ref=refs,
    first=st.sampled_from([0, 3, 9, 290_000]),
    size=st.sampled_from([None, None, 1, 5, 150_000]),
    leave=st.booleans(),
    late=st.sampled_from([0, 0, 1, 5, 40]),
)


class EngineModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.scratch = tempfile.TemporaryDirectory()
        self.clock = HeldClock()
        self.upstream = Upstream(self.clock)
        self.erased = dict.fromkeys(REFS, 0)
        self.marked_until = dict.fromkeys(REFS, 0.0)
        self.being_marked: MediaRef | None = None
        self.derived: dict[str, int] = {}
        self.workers: list[Worker] = []

    @initialize()
    def start(self) -> None:
        for _ in range(WORKERS):
            self.workers.append(self.runner.run(self._opened()))

    def teardown(self) -> None:
        try:
            self.runner.run(self._end())
        finally:
            self.runner.close()
            self.scratch.cleanup()

    # --- events ---

    @rule(reading=readings)
    def read(self, reading: Reading) -> None:
        self._run(self._read(reading))

    @rule(crowd=st.lists(readings, min_size=2, max_size=8))
    def read_at_once(self, crowd: Sequence[Reading]) -> None:
        self._run(self._crowd(crowd, None))

    @rule(
        ref=refs,
        crowd=st.lists(readings, min_size=1, max_size=6),
        workers=st.tuples(workers, workers),
        late=st.integers(0, 40),
        stale=st.booleans(),
        change=st.sampled_from(["erase", "mark", "unmark"]),
    )
    def change_while_it_is_fetched(
        self, ref: MediaRef, crowd: Sequence[Reading], workers: tuple[int, int], late: int, stale: bool, change: str
    ) -> None:
        """Change while it is fetched, or if `stale` while it is validated."""
        self.upstream.manners[ref] = replace(self.upstream.manners[ref], turns=20, fault=None)
        first, second = workers
        if stale:
            self.clock.now += LIFETIME + 1
        else:
            self._run(self._erase(first, Reach.of(ref)))
        event = self._erase(second, Reach.of(ref)) if change == "erase" else self._mark(second, ref, change)
        self._run(self._crowd([replace(reading, ref=ref) for reading in crowd], (event, late)))
        self._run(self._read(Reading(first, ref)))

    @rule(ref=refs, workers=st.tuples(workers, workers), changed=st.booleans(), fault=st.sampled_from([None, *Fault]))
    def validate(self, ref: MediaRef, workers: tuple[int, int], changed: bool, fault: Fault | None) -> None:
        first, second = workers
        self._run(self._read(Reading(first, ref)))
        if changed:
            now = self.upstream.versions[ref]
            self.upstream.versions[ref] = replace(now, number=now.number + 1)
        self.clock.now += LIFETIME + 1
        self.upstream.manners[ref] = Manner(fault=fault, times=1)
        for worker in (second, first):
            self._run(self._read(Reading(worker, ref)))

    @rule(worker=workers, reach=st.sampled_from(REACHES))
    def erase(self, worker: int, reach: Reach) -> None:
        self._run(self._erase(worker, reach))

    @rule(worker=workers, ref=refs, change=st.sampled_from(["mark", "unmark"]))
    def mark(self, worker: int, ref: MediaRef, change: str) -> None:
        self._run(self._mark(worker, ref, change))

    @rule(seconds=st.sampled_from([0.5, 1, 6, 60, 99, 101]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(ref=refs, size=st.sampled_from([0, 10, KEEP, KEEP + 1, 300_000, 1_400_000]), tag=st.sampled_from(Tag))
    def change(self, ref: MediaRef, size: int, tag: Tag) -> None:
        self.upstream.versions[ref] = Version(self.upstream.versions[ref].number + 1, size, tag)

    @rule(
        ref=refs,
        control=st.sampled_from(["", "", "max-age=7", "no-cache", "no-store", "private"]),
        announced=st.booleans(),
        turns=st.sampled_from([0, 1, 8]),
        fault=st.sampled_from([None, *Fault]),
        times=st.integers(1, 4),
    )
    def behave(self, ref: MediaRef, control: str, announced: bool, turns: int, fault: Fault | None, times: int) -> None:
        self.upstream.manners[ref] = Manner(control, announced, turns, fault, times)

    @rule(worker=workers)
    def restart(self, worker: int) -> None:
        self._run(self._restart(worker))

    # --- what they do ---

    def _run(self, event: Coroutine[object, object, None]) -> None:
        self.upstream.failed.clear()
        self.runner.run(self._settled(event))

    async def _settled(self, event: Coroutine[object, object, None]) -> None:
        await event
        for worker in self.workers:
            while worker.engine.fills:
                await asyncio.wait([fill.task for fill in worker.engine.fills])
                await asyncio.sleep(0)
        for worker in self.workers:
            assert worker.memory.used_bytes <= RAM
            assert (await worker.disk.usage()).footprint <= DISK

    async def _opened(self) -> Worker:
        stack = AsyncExitStack()
        opening = open_disk(Path(self.scratch.name) / "cache", DISK, self.clock, min_free_bytes=0)
        disk = await stack.enter_async_context(opening)
        metrics = Metrics()
        memory = RamStore(RAM, metrics)
        policy = FreshnessPolicy(default_lifetime=LIFETIME, negative_lifetime=NEGATIVE)
        tiers = Tiers(memory, disk, ram_object_bytes=KEEP, clock=self.clock, metrics=metrics)
        engine = Engine(self.upstream, tiers, policy, self.clock, FillBounds(most=50, spool_bytes=20_000_000))
        return Worker(await stack.enter_async_context(engine), disk, memory, stack)

    async def _restart(self, worker: int) -> None:
        await self.workers[worker].stack.aclose()
        self.workers[worker] = await self._opened()

    async def _end(self) -> None:
        for worker in self.workers:
            await worker.stack.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks were left"

    async def _erase(self, worker: int, reach: Reach) -> None:
        order = self.upstream.order
        await self.workers[worker].engine.erase(reach)
        for ref in REFS:
            if reach.covers(ref):
                self.erased[ref] = order

    async def _mark(self, worker: int, ref: MediaRef, change: str) -> None:
        engine, order = self.workers[worker].engine, self.upstream.order
        if change == "mark":
            # A reader meanwhile may find it there or not.
            self.being_marked = ref
            await engine.mark_gone(ref, MARKED)
            self.being_marked = None
            self.marked_until[ref] = self.clock() + MARKED
        else:
            # Likewise, until the lifting is done.
            self.being_marked = ref if self._is_marked(ref) else None
            self.marked_until[ref] = 0.0
            await engine.unmark_gone(ref)
            self.being_marked = None
        self.erased[ref] = order

    async def _crowd(
        self, crowd: Sequence[Reading], change: tuple[Coroutine[object, object, None], int] | None
    ) -> None:
        tasks = [asyncio.create_task(self._read(reading)) for reading in crowd]
        if change is not None:
            event, late = change
            await turn(late)
            await event
        await asyncio.gather(*tasks)

    async def _read(self, reading: Reading) -> None:
        """Read as the delivery of a link does: again, if nothing was read and the budget is not used up."""
        await turn(reading.late)
        engine = self.workers[reading.worker].engine
        erased, attempt = self.erased[reading.ref], 1
        marked = self._is_marked(reading.ref)
        while True:
            try:
                async with engine.open(reading.ref, NOTHING, attempt=attempt) as opened:
                    assert not (marked and self._is_marked(reading.ref)), "what is gone is served"
                    sent = self._check(reading, opened, erased)
                    try:
                        await self._take(reading, opened, sent)
                        return
                    except (UpstreamError, StoreError) as error:
                        following = engine.next_attempt(opened, error)
                        if following is None or isinstance(error, StoreError):
                            raise  # no file was harmed here
                        attempt = following
            except UpstreamError as error:
                if not (isinstance(error, MediaNotFound) and (marked or self._may_be_marked(reading.ref))):
                    self._check_error(reading.ref, error)
                return

    def _is_marked(self, ref: MediaRef) -> bool:
        return self.marked_until[ref] > self.clock()

    def _may_be_marked(self, ref: MediaRef) -> bool:
        return self.being_marked == ref or self._is_marked(ref)

    # --- what must hold ---

    def _check(self, reading: Reading, opened: CacheResult, erased: int) -> Sent:
        representation = opened.representation
        number = int((representation.metadata.fields.single("Content-Type") or "").removeprefix("image/sent-"))
        sent = self.upstream.sent[number]
        assert sent.ref == reading.ref
        assert sent.started > erased, "what was erased is served"
        if sent.version.tag is Tag.STRONG:
            assert str(representation.etag) == sent.version.etag
        else:
            assert self.derived.setdefault(str(representation.etag), number) == number, "two bodies have one ETag"
        assert representation.length in {None, len(sent.body)}
        assert opened.age >= 0
        assert opened.age in {self.clock() - good_at for good_at in sent.good_at}
        if opened.status.hit:
            assert sent.whole
            assert sent.control in {"", "max-age=7"}
            assert opened.age < (7 if sent.control else LIFETIME)
            assert opened.remaining > 0
        else:
            assert sent.version == self.upstream.versions[reading.ref], "the upstream was asked and not believed"
        if sent.control in {"no-store", "private"}:
            sent.readers += 1
            assert sent.readers == 1, "what may not be stored served two requests"
        return sent

    async def _take(self, reading: Reading, opened: CacheResult, sent: Sent) -> None:
        first = 0 if opened.in_order else reading.first
        wanted = len(sent.body) if reading.size is None else min(len(sent.body), first + reading.size)
        offset = first
        while offset < wanted:
            block = await opened.body.read(offset, wanted - offset)
            assert block, "a body ended before its end"
            assert block == sent.body[offset : offset + len(block)]
            offset += len(block)
            if reading.leave:
                return
        if first == 0 and reading.size is None:
            assert await opened.body.read(offset, 1) == b""
            assert sent.whole

    def _check_error(self, ref: MediaRef, error: UpstreamError) -> None:
        if ref in self.upstream.failed:
            return
        assert isinstance(error, MediaNotFound)
        assert self.clock() - self.upstream.gone_at[ref] < NEGATIVE


TestEngineModel = EngineModel.TestCase
TestEngineModel.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
