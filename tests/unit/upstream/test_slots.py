"""The slots of accounts: no more connections than slots, calls in turn, and a fair part for each worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from proxy.errors import UpstreamBusy
from proxy.node import Key, Node, Seat, Share
from proxy.upstream.slots import Permit, Slots

A, B = "AC1", "AC2"
LONG = 60.0


class Wire:
    """A connection that closes when it is told to, in a moment."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.open = True

    def close(self) -> None:
        if self.open:
            self.open = False
            self._slots.closes(self)
            asyncio.get_running_loop().call_soon(self._slots.lost, self)


async def connect(slots: Slots, permit: Permit) -> Wire:
    await permit.opening()
    wire = Wire(slots)
    permit.opened(wire)
    return wire


async def turns() -> None:
    """Let everything that is ready have its turn."""
    for _ in range(20):
        await asyncio.sleep(0)


class Calls:
    """Calls that hold a slot each until they are told to end."""

    def __init__(self) -> None:
        self.running: dict[str, asyncio.Event] = {}
        self.order: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, slots: Slots, name: str, account: str = A, *groups: str) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(slots, name, account, groups))
        self._tasks.add(task)
        return task

    async def _run(self, slots: Slots, name: str, account: str, groups: tuple[str, ...]) -> None:
        async with slots.one(account, groups):
            self.order.append(name)
            self.running[name] = asyncio.Event()
            try:
                await self.running[name].wait()
            finally:
                del self.running[name]

    async def end(self, *names: str) -> None:
        for name in names:
            self.running[name].set()
        await turns()

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def calls() -> AsyncIterator[Calls]:
    calls = Calls()
    yield calls
    await calls.cancel()


@pytest.fixture
def alone() -> Slots:
    return Slots(Seat(), 2, LONG)


async def test_calls_have_slots_in_the_order_of_their_coming(alone: Slots, calls: Calls) -> None:
    for name in "abcd":
        calls.begin(alone, name)
    await turns()
    assert set(calls.running) == {"a", "b"}
    await calls.end("b")
    assert set(calls.running) == {"a", "c"}
    await calls.end("a", "c")
    assert calls.order == ["a", "b", "c", "d"]
    await calls.end("d")
    assert len(alone) == 0


async def test_the_slots_of_two_accounts_are_apart(alone: Slots, calls: Calls) -> None:
    for name in "abc":
        calls.begin(alone, name)
    calls.begin(alone, "x", B)
    await turns()
    assert set(calls.running) == {"a", "b", "x"}


async def test_a_call_that_waits_too_long_leaves_the_slots_alone(calls: Calls) -> None:
    slots = Slots(Seat(), 1, 0.05)
    calls.begin(slots, "a")
    await turns()
    with pytest.raises(UpstreamBusy) as caught:
        await calls.begin(slots, "b")
    assert caught.value.retry_after > 0
    await calls.end("a")
    calls.begin(slots, "c")
    await turns()
    assert set(calls.running) == {"c"}


async def test_the_number_of_calls_that_wait_has_a_bound(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.upstream.slots._WAITING", 8)
    slots = Slots(Seat(), 1, LONG)
    for number in range(9):
        calls.begin(slots, str(number))
    await turns()
    with pytest.raises(UpstreamBusy):
        await calls.begin(slots, "one more")


async def test_a_call_cancelled_while_waiting_leaves_no_trace(alone: Slots, calls: Calls) -> None:
    tasks = [calls.begin(alone, name) for name in "abc"]
    await turns()
    tasks[2].cancel()
    await turns()
    await calls.end("a", "b")
    assert len(alone) == 0


async def test_a_call_cancelled_at_its_slot_gives_it_on(alone: Slots, calls: Calls) -> None:
    tasks = [calls.begin(alone, name) for name in "abcd"]
    await turns()
    calls.running["a"].set()
    await asyncio.sleep(0)
    tasks[2].cancel()
    await turns()
    assert set(calls.running) == {"b", "d"}


async def test_calls_of_one_group_leave_slots_to_others(calls: Calls) -> None:
    slots = Slots(Seat(), 4, LONG, by_group=3)
    for number in range(9):
        calls.begin(slots, f"flood {number}", A, "M1")
    calls.begin(slots, "other", A, "M2")
    await turns()
    assert set(calls.running) == {"flood 0", "flood 1", "flood 2", "other"}
    calls.begin(slots, "call of the API")
    await calls.end("flood 0")
    # The slot of the one that ended is its message's again; the one after waits its turn.
    assert set(calls.running) == {"flood 1", "flood 2", "flood 3", "other"}
    await calls.end("other")
    assert set(calls.running) == {"flood 1", "flood 2", "flood 3", "call of the API"}


async def test_endless_groups_and_accounts_leave_nothing_behind(alone: Slots) -> None:
    for number in range(100):
        async with alone.one(f"AC{number}", (f"M{number}", f"S{number}")):
            assert len(alone) == 1
    assert len(alone) == 0


async def test_an_idle_connection_to_another_host_makes_room(alone: Slots) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(alone.one(A))
        api = await connect(alone, first)
        alone.rests(api)
        # There is a second slot, so the first connection stays.
        cdn = await connect(alone, first)
        assert api.open
        alone.rests(cdn)
        # There is none beyond that: what has been idle for longest closes before the next one opens.
        third = await connect(alone, first)
        assert (api.open, cdn.open) == (False, True)
        alone.rests(third)
    assert len(alone) == 1
    cdn.close()
    third.close()
    await turns()
    assert len(alone) == 0


async def test_a_connection_opens_only_after_the_one_before_closed() -> None:
    slots = Slots(Seat(), 1, LONG)
    async with slots.one(A) as permit:
        wire = await connect(slots, permit)
        slots.rests(wire)
        opening = asyncio.create_task(permit.opening())
        await asyncio.sleep(0)
        assert not wire.open
        assert not opening.done()
        await opening
        permit.failed()
    assert len(slots) == 0


async def test_an_idle_connection_goes_to_the_account_using_it(alone: Slots) -> None:
    async with alone.one(A) as permit:
        wire = await connect(alone, permit)
        alone.rests(wire)
    async with alone.one(B) as permit:
        await permit.reuse(wire)
        assert wire.open
        assert len(alone) == 1
        # It has the slot of that account now, and not another one of its own.
        alone.rests(wire)
    wire.close()
    await turns()
    assert len(alone) == 0


async def test_a_connection_lost_while_going_over_takes_no_slot() -> None:
    slots = Slots(Seat(), 1, LONG)
    async with slots.one(B) as permit:
        own = await connect(slots, permit)
        slots.rests(own)
    async with slots.one(A) as permit:
        wire = await connect(slots, permit)
        slots.rests(wire)
    async with slots.one(B) as permit:
        taking = asyncio.create_task(permit.reuse(wire))
        await asyncio.sleep(0)
        slots.lost(wire)
        await taking
        assert not own.open
    assert len(slots) == 0


# --- several workers ---


@pytest.fixture
def node() -> Iterator[Node]:
    with contextlib.closing(Node(3)) as made:
        yield made


class Shared(Seat):
    """A seat in a process with others: the kernel's locks do not keep two seats of one process apart, so it does."""

    taken: dict[tuple[Share, Key, int], Seat]

    def take(self, share: Share, key: Key, most: int) -> int | None:
        for number in range(most):
            if (share, key, number) not in self.taken:
                self.taken[share, key, number] = self
                self._note(key, held=1)
                return number
        return None

    def give_back(self, share: Share, key: Key, number: int) -> None:
        del self.taken[share, key, number]
        self._note(key, held=-1)
        self.ring_waiting(key)

    def has_free(self, share: Share, key: Key, most: int) -> bool:
        return any((share, key, number) not in self.taken for number in range(most))


@pytest.fixture
async def workers(node: Node) -> AsyncIterator[list[Slots]]:
    taken: dict[tuple[Share, Key, int], Seat] = {}
    seats = [Shared(node, row) for row in range(3)]
    for seat in seats:
        seat.taken = taken
    slots = [Slots(seat, 4, LONG) for seat in seats]
    for each in slots:
        each.open()
    yield slots
    for each in slots:
        each.close()


async def rung() -> None:
    """Let every worker hear what was rung."""
    for _ in range(5):
        await asyncio.sleep(0.001)
        await turns()


async def test_a_node_s_workers_share_an_account_s_slots(workers: list[Slots], calls: Calls) -> None:
    for worker, slots in enumerate(workers):
        for number in range(3):
            calls.begin(slots, f"{worker}.{number}")
    await turns()
    assert len(calls.running) == 4
    while calls.running:
        assert len(calls.running) <= 4
        await calls.end(next(iter(calls.running)))
        await rung()
    assert len(calls.order) == 9


async def test_a_returned_slot_goes_to_another_worker_s_call(workers: list[Slots], calls: Calls) -> None:
    for name in "abcd":
        calls.begin(workers[0], name)
    await turns()
    calls.begin(workers[1], "x")
    await turns()
    assert "x" not in calls.running
    await calls.end("a")
    await rung()
    assert set(calls.running) == {"b", "c", "d", "x"}


async def test_a_busy_worker_leaves_a_slot_to_an_empty_one(workers: list[Slots], calls: Calls) -> None:
    for number in range(40):
        calls.begin(workers[0], f"a{number}")
    await turns()
    for number in range(40):
        calls.begin(workers[1], f"b{number}")
    for _ in range(12):
        await calls.end(next(iter(calls.running)))
        await rung()
    # Each has come to its part, and keeps it.
    first, second = (sum(name.startswith(worker) for name in calls.running) for worker in "ab")
    assert (first, second) == (2, 2)


async def test_idle_connections_go_to_workers_with_waiting_calls(workers: list[Slots], calls: Calls) -> None:
    wires: list[Wire] = []
    async with AsyncExitStack() as stack:
        for _ in range(4):
            permit = await stack.enter_async_context(workers[0].one(A))
            wires.append(await connect(workers[0], permit))
        for wire in wires:
            workers[0].rests(wire)
    assert all(wire.open for wire in wires)
    calls.begin(workers[1], "x")
    await rung()
    assert set(calls.running) == {"x"}
    # One call was in want of one slot.
    assert [wire.open for wire in wires] == [False, True, True, True]
    for wire in wires:
        wire.close()
    await turns()


async def test_a_worker_hears_that_others_wait_for_its_slots(workers: list[Slots], calls: Calls) -> None:
    told: list[tuple[str, int]] = []
    workers[0].wanted = lambda name, waiting: told.append((name, waiting))
    for name in "abcd":
        calls.begin(workers[0], name)
    await turns()
    calls.begin(workers[1], "x")
    await rung()
    assert told == [(A, 1)]
