"""The slots of an account's connections: how many there are in all workers of the node, and which call is next.

1. An account has `each` slots in a node, which are the node's places (`proxy.node`). A connection takes one from before
   it is opened until it is closed, while it is idle too. So the upstream never sees more connections of an account.
2. A call has a slot from its first request to the end of its answer, and uses one connection at a time.
3. An idle connection may serve any account. It belongs to the one whose call used it last.
4. A call whose slot is taken up by an idle connection to another host closes that one before it opens its own.
5. Calls wait in the order of their coming, for `seconds` at most. Calls of one group, such as those for media of one
   message, have at most `by_group` slots in a worker: however many there are, they leave some to all others.
6. A worker in which no call waits gives what is idle to the workers in which some do. One in which calls wait gives a
   slot away as it gets free if another worker has none, or fewer by two: so each comes to an equal part, and keeps it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

from proxy.errors import UpstreamBusy
from proxy.node import Key, Seat, Share

_WAITING: Final = 1_024
"""Calls of an account that wait at once in one worker; one more is refused."""
_LOOK_SECONDS: Final = 1.0
"""The seconds after which the first waiting call looks for a free slot, even if no ring has woken it."""


class Connection(Protocol):
    """A connection to an upstream. It calls `Slots.lost` when it is closed."""

    def close(self) -> None:
        """Close it at once, whatever is under way."""
        ...


class _Account:
    """The slots of one account in this worker.

    `calls` is how many calls have a slot, `connections` how many connections there are: in use, being opened, `idle`
    (the one that has been idle for longest first) or `closing`.
    """

    __slots__ = ("calls", "closing", "connections", "groups", "idle", "key", "lost", "name", "places", "waiting")

    def __init__(self, name: str, key: Key) -> None:
        self.name = name
        self.key = key
        self.places: list[int] = []
        self.calls = 0
        self.connections = 0
        self.idle: OrderedDict[Connection, None] = OrderedDict()
        self.closing: set[Connection] = set()
        self.waiting: OrderedDict[asyncio.Future[None], tuple[str, ...]] = OrderedDict()
        self.groups: Counter[str] = Counter()
        self.lost: asyncio.Future[None] | None = None

    @property
    def free(self) -> int:
        """Slots that no call has, and that will have no connection but an idle one."""
        return len(self.places) - len(self.closing) - self.calls

    @property
    def bare(self) -> int:
        """Slots that no call has, and no connection either."""
        return self.free - len(self.idle)


class Permit:
    """One slot of an account, for one call."""

    __slots__ = ("_account", "_slots")

    def __init__(self, slots: Slots, account: _Account) -> None:
        self._slots = slots
        self._account = account

    async def opening(self) -> None:
        """Wait until one more connection may be opened, and count it. `opened` or `failed` follows."""
        await self._slots.make_room(self._account)

    def opened(self, connection: Connection) -> None:
        """Note that the connection is there, and in use."""
        self._slots.own(connection, self._account)

    def failed(self) -> None:
        """Note that the connection did not come about."""
        self._slots.failed(self._account)

    async def reuse(self, connection: Connection) -> None:
        """Take over a connection that was idle."""
        await self._slots.take_over(connection, self._account)


class Slots:
    """The slots of all accounts, as far as this worker uses them. Use it within `open` and `close`.

    `wanted` is told, by an account's name, that so many calls of it wait in other workers while this one has a slot
    that it cannot give away.
    """

    def __init__(self, seat: Seat, each: int, seconds: float, *, by_group: int | None = None) -> None:
        self.wanted: Callable[[str, int], None] = lambda _name, _calls: None
        self._seat = seat
        self._each = each
        self._seconds = seconds
        self._by_group = by_group or each
        self._accounts: dict[str, _Account] = {}
        self._owners: dict[Connection, _Account] = {}

    def __len__(self) -> int:
        """Return how many accounts have or want a slot here."""
        return len(self._accounts)

    def open(self) -> None:
        """Listen to the other workers."""
        if self._seat.bell is not None:
            asyncio.get_running_loop().add_reader(self._seat.bell, self._rung)

    def close(self) -> None:
        """Listen no more; the connections are closed already, or end with the process."""
        if self._seat.bell is not None:
            asyncio.get_running_loop().remove_reader(self._seat.bell)

    @asynccontextmanager
    async def one(self, name: str, groups: tuple[str, ...] = ()) -> AsyncIterator[Permit]:
        """Take a slot of the account of that name within the context, for a call of these groups.

        Raises `UpstreamBusy` if none gets free in time, or too many wait.
        """
        account = self._accounts.setdefault(name, _Account(name, self._seat.key(name)))
        await self._enter(account, groups)
        try:
            yield Permit(self, account)
        finally:
            self._leave(account, groups)

    # --- calls ---

    async def _enter(self, account: _Account, groups: tuple[str, ...]) -> None:
        at_once = self._next(account) is None and self._may_have(account, groups)
        if at_once and (account.free > 0 or self._take(account)):
            self._grant(account, groups)
            return
        if len(account.waiting) >= _WAITING:
            raise self._busy(account)
        turn = asyncio.get_running_loop().create_future()
        account.waiting[turn] = groups
        self._seat.wait(account.key, 1)
        try:
            # Once it is known that this call waits, so that what gets free meanwhile is not overlooked.
            self._look(account)
            self._seat.ring_holding(account.key)
            async with asyncio.timeout(self._seconds):
                while not turn.done():
                    await asyncio.wait((turn,), timeout=_LOOK_SECONDS)
                    if next(iter(account.waiting), None) is turn:
                        self._look(account)
        except BaseException as error:
            if turn in account.waiting:
                self._no_longer_waits(account, turn)
                self._settle(account)
            else:
                self._leave(account, groups)
            if isinstance(error, TimeoutError):
                raise self._busy(account) from None
            raise

    def _leave(self, account: _Account, groups: tuple[str, ...]) -> None:
        account.calls -= 1
        for group in groups:
            account.groups[group] -= 1
            if not account.groups[group]:
                del account.groups[group]
        self._settle(account)

    def _may_have(self, account: _Account, groups: tuple[str, ...]) -> bool:
        return all(account.groups[group] < self._by_group for group in groups)

    @staticmethod
    def _grant(account: _Account, groups: tuple[str, ...]) -> None:
        account.calls += 1
        account.groups.update(groups)

    def _no_longer_waits(self, account: _Account, turn: asyncio.Future[None]) -> None:
        del account.waiting[turn]
        self._seat.wait(account.key, -1)
        if not account.waiting:
            # What they have left to this worker is theirs.
            self._seat.ring_waiting(account.key)

    @staticmethod
    def _busy(account: _Account) -> UpstreamBusy:
        return UpstreamBusy(note=f"all connections of account {account.name} are in use")

    # --- slots ---

    def _take(self, account: _Account) -> bool:
        """Take one more slot of the node, if there is one and no other worker needs it more."""
        others = self._seat.others(account.key)
        if others.waiting and len(account.places) > others.fewest:
            return False
        place = self._seat.take(Share.CONNECTIONS, account.key, self._each)
        if place is None:
            return False
        account.places.append(place)
        return True

    def _next(self, account: _Account) -> asyncio.Future[None] | None:
        """Return the first call that waits and may have a slot."""
        may = (turn for turn, groups in account.waiting.items() if self._may_have(account, groups))
        return next(may, None)

    def _look(self, account: _Account) -> None:
        """Take what has got free for the calls that wait."""
        self._settle(account)
        while (turn := self._next(account)) is not None and self._take(account):
            self._let_in(account, turn)

    def _let_in(self, account: _Account, turn: asyncio.Future[None]) -> None:
        self._grant(account, account.waiting[turn])
        self._no_longer_waits(account, turn)
        turn.set_result(None)

    def _settle(self, account: _Account) -> None:
        """Let every free slot go where it is wanted: to a call here, to another worker, or back."""
        given = 0
        while account.free > 0:
            turn = self._next(account)
            if self._is_owed(account, given, waited_for=turn is not None):
                self._give_away(account)
                given += 1
            elif turn is not None:
                self._let_in(account, turn)
            else:
                break
        while account.bare > 0:
            self._seat.give_back(Share.CONNECTIONS, account.key, account.places.pop())
        if not (account.places or account.calls or account.waiting or account.connections):
            self._accounts.pop(account.name, None)

    def _is_owed(self, account: _Account, given: int, *, waited_for: bool) -> bool:
        """Return whether a free slot goes to another worker, after so many that were just given away."""
        others = self._seat.others(account.key)
        if others.waiting <= given:
            return False
        if not waited_for:
            return True
        richer = not others.fewest or len(account.places) - len(account.closing) > others.fewest + 1
        # What is free already is enough: that worker has not come to take it yet.
        return richer and not self._seat.has_free(Share.CONNECTIONS, account.key, self._each)

    def _give_away(self, account: _Account) -> None:
        if account.bare > 0:
            self._seat.give_back(Share.CONNECTIONS, account.key, account.places.pop())
        else:
            self._close_idle(account)

    @staticmethod
    def _close_idle(account: _Account) -> None:
        connection, _ = account.idle.popitem(last=False)
        account.closing.add(connection)
        connection.close()

    def _rung(self) -> None:
        """Hear another worker, which waits or has given something back."""
        self._seat.hear()
        for account in list(self._accounts.values()):
            if account.waiting:
                self._look(account)
            else:
                self._settle(account)
            others = self._seat.others(account.key).waiting
            if others and account.calls:
                self.wanted(account.name, others)

    # --- connections ---

    async def make_room(self, account: _Account) -> None:
        """Count one more connection of the account once it has a slot for it, and a call that uses none."""
        while account.connections >= len(account.places):
            crowded = self._next(account) is not None or self._seat.others(account.key).waiting
            if not crowded and self._take(account):
                break
            if account.idle:
                self._close_idle(account)
            if account.lost is None:
                account.lost = asyncio.get_running_loop().create_future()
            await asyncio.shield(account.lost)
        account.connections += 1

    def own(self, connection: Connection, account: _Account) -> None:
        """Note whose a new connection is, which `make_room` has counted."""
        self._owners[connection] = account

    def failed(self, account: _Account) -> None:
        """Count one connection less, which did not come about."""
        account.connections -= 1
        self._was_lost(account)

    async def take_over(self, connection: Connection, account: _Account) -> None:
        """Take a connection out of those that are idle, for a call of that account."""
        owner = self._owners.get(connection)
        if owner is None:
            # It is closed, as the caller will see.
            return
        owner.idle.pop(connection, None)
        if owner is account:
            return
        # It keeps the other account's slot until it has one here.
        owner.closing.add(connection)
        await self.make_room(account)
        if self._owners.get(connection) is None:
            self.failed(account)
            return
        self._owners[connection] = account
        self._disown(owner, connection)

    def rests(self, connection: Connection) -> None:
        """Note that a connection is idle from now on."""
        owner = self._owners.get(connection)
        if owner is not None:
            owner.closing.discard(connection)
            owner.idle[connection] = None
            self._settle(owner)

    def closes(self, connection: Connection) -> None:
        """Note that a connection is being closed."""
        owner = self._owners.get(connection)
        if owner is not None:
            owner.idle.pop(connection, None)
            owner.closing.add(connection)

    def lost(self, connection: Connection) -> None:
        """Note that a connection is closed; its slot is free."""
        owner = self._owners.pop(connection, None)
        if owner is not None:
            self._disown(owner, connection)

    def _disown(self, owner: _Account, connection: Connection) -> None:
        owner.idle.pop(connection, None)
        owner.closing.discard(connection)
        owner.connections -= 1
        self._was_lost(owner)

    def _was_lost(self, account: _Account) -> None:
        lost, account.lost = account.lost, None
        if lost is not None and not lost.done():
            lost.set_result(None)
        self._settle(account)
