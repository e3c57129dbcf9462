"""The breakers of all hosts, and the way of an attempt through those that it meets.

A host has two kinds of them:

1. One for all accounts counts calls that found no connection: refused, no name, no TLS, not in time. Each call counts,
   whatever its subject, and any connection closes the breaker.
2. One for each account counts the subjects that the host gives no answer about, or one of 500 and above. A media that
   fails for ever is one subject: it stops neither the other media of its account nor another account.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from proxy.bounded_table import BoundedTable
from proxy.errors import UpstreamBusy, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from proxy.model import AccountSid, Provider, ProviderPart
from proxy.telemetry.metrics import BreakerState, Metrics
from proxy.upstream.breaker import NO_TRIAL, Breaker, BreakerPolicy
from proxy.upstream.providers import Account, WebOrigin

_log: Final = logging.getLogger("media_gateway.upstream")

_BREAKERS: Final = 10_000
"""Breakers at once: those beyond that have failed no call for the longest time, and are forgotten."""
_FAILING: Final = 20_000
"""Subjects that are remembered as failing."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The place that a breaker guards: a host, for one account or, with None, for the connections of all."""

    provider: Provider
    origin: WebOrigin
    account: AccountSid | None
    part: ProviderPart

    @property
    def facts(self) -> Mapping[str, str]:
        """Return the log's fields for this place."""
        own = {} if self.account is None else {"account": str(self.account)}
        return {**own, "host": self.origin.authority, "part": self.part}

    def __str__(self) -> str:
        return str(self.origin) if self.account is None else f"{self.origin} for account {self.account}"


class Breakers:
    """A breaker for each place that ever failed a call, for a bounded number of them.

    `clock` is monotonic, in seconds; `uniform` gives numbers in [0, 1).
    """

    def __init__(
        self, policy: BreakerPolicy, metrics: Metrics, clock: Callable[[], float], uniform: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._metrics = metrics
        self._clock = clock
        self._uniform = uniform
        self._table: BoundedTable[_Place, Breaker] = BoundedTable(_BREAKERS)
        # The subjects that failed when they were last asked for, the oldest failure first.
        self._failing: BoundedTable[tuple[_Place, Hashable], None] = BoundedTable(_FAILING)

    def require(self, account: Account, origin: WebOrigin, subject: Hashable) -> None:
        """Raise `UpstreamBusy` if no call of the account about the subject may go to the host now."""
        for place in _places(account, origin):
            breaker = self._table.get(place)
            wait = 0.0 if breaker is None else breaker.wait(subject, self._clock(), failing=self._fails(place, subject))
            if wait > 0:
                with account.named(origin):
                    raise UpstreamBusy(
                        "The provider fails, and is left alone for a while.",
                        retry_after=math.ceil(wait),
                        note=f"{place} is not asked: it has failed again and again",
                    )

    def admit(self, account: Account, origin: WebOrigin, subject: Hashable) -> tuple[int, int]:
        """Let a call through; returns what `Breaker.admit` says of the host's breaker and of the account's.

        Raises `UpstreamBusy` if it may not go.
        """
        self.require(account, origin, subject)
        host, own = _places(account, origin)
        return self._admit(host, subject), self._admit(own, subject)

    def _admit(self, place: _Place, subject: Hashable) -> int:
        breaker = self._table.get(place)
        if breaker is None:
            return NO_TRIAL
        before = breaker.state
        number = breaker.admit(subject, self._clock(), failing=self._fails(place, subject))
        self._moved(place, before, breaker.state)
        return number

    def _fails(self, place: _Place, subject: Hashable) -> bool:
        return (place, subject) in self._failing

    def connected(self, account: Account, origin: WebOrigin) -> None:
        """Close the host's breaker: a connection has come about."""
        host, _ = _places(account, origin)
        self._close(host)

    def answered(self, account: Account, origin: WebOrigin, subject: Hashable) -> None:
        """Close the account's breaker: the host has answered about the subject."""
        _, own = _places(account, origin)
        self._failing.pop((own, subject))
        self._close(own)

    def _close(self, place: _Place) -> None:
        breaker = self._table.get(place)
        if breaker is not None:
            before = breaker.state
            breaker.answered()
            self._moved(place, before, breaker.state)

    def unconnected(self, account: Account, origin: WebOrigin, trial: int) -> None:
        """Count a call that has found no connection in the end."""
        host, _ = _places(account, origin)
        # Each is a subject of its own.
        self._count(host, object(), trial)

    def failed(self, account: Account, origin: WebOrigin, subject: Hashable, trial: int) -> None:
        """Count a call about the subject that has failed for good, on a connection."""
        _, own = _places(account, origin)
        self._failing.put((own, subject), None)
        self._count(own, subject, trial)

    def _count(self, place: _Place, subject: Hashable, trial: int) -> None:
        breaker = self._table.get(place) or Breaker(self._policy)
        forgotten = self._table.put(place, breaker)
        before = breaker.state
        breaker.failed(subject, self._clock(), self._uniform(), trial=trial)
        self._moved(place, before, breaker.state)
        if forgotten is not None:
            other, breaker = forgotten
            self._metrics.breaker_dropped(other.provider, breaker.state)

    def abandoned(self, account: Account, origin: WebOrigin, trials: tuple[int, int]) -> None:
        """End trials that have told nothing."""
        for place, trial in zip(_places(account, origin), trials, strict=True):
            breaker = self._table.get(place)
            if breaker is not None and trial > NO_TRIAL:
                before = breaker.state
                breaker.abandoned(trial)
                self._moved(place, before, breaker.state)

    def close(self) -> None:
        """Show nothing of these breakers any more: their client has ended."""
        for place, breaker in self._table.pairs():
            self._metrics.breaker_dropped(place.provider, breaker.state)
        self._table.clear()

    def _moved(self, place: _Place, before: BreakerState, after: BreakerState) -> None:
        if before is after:
            return
        self._metrics.breaker_moved(place.provider, before, after)
        match after:
            case BreakerState.OPEN if before is BreakerState.CLOSED:
                _log.warning(
                    "%s fails again and again and is left alone for a while", place, extra={"facts": place.facts}
                )
            case BreakerState.CLOSED:
                _log.info("%s answers again", place, extra={"facts": place.facts})
            case _:
                pass


def _places(account: Account, origin: WebOrigin) -> tuple[_Place, _Place]:
    """Return the breakers that a call of the account meets at a host: that of all accounts, and its own."""
    part = account.part(origin)
    return _Place(account.provider, origin, None, part), _Place(account.provider, origin, account.sid, part)


class Passage:
    """The way of one attempt at a call: the hosts that it asks, and what their answers say of them.

    A context manager. An error that leaves it is the call's end, and counts as a failure of the host that was asked
    last: as one of connecting if there was no connection (the error says so then, in `host_away`), else as one of the
    `subject` if there was no answer or one of 500 and above. An attempt that is made again counts for nothing.
    """

    __slots__ = ("_account", "_asked", "_at", "_breakers", "_connected", "_numbers", "_sick", "_subject")

    def __init__(self, breakers: Breakers, account: Account, subject: Hashable) -> None:
        self._breakers = breakers
        self._account = account
        self._subject = subject
        self._asked = account.origin
        self._at: WebOrigin | None = None
        """The host that was asked, and has not shown that it is well."""
        self._connected = False
        self._sick = False
        self._numbers = NO_TRIAL, NO_TRIAL

    @property
    def facts(self) -> Mapping[str, str]:
        """Return the log's fields for the call: its account, and the host that was asked last."""
        return self._account.facts(self._asked)

    @property
    def part(self) -> ProviderPart:
        """Return which part of the provider was asked last."""
        return self._account.part(self._asked)

    @property
    def single(self) -> bool:
        """Return whether an open breaker let this one attempt through, and nothing is known yet."""
        return self._at is not None and self._numbers != (NO_TRIAL, NO_TRIAL)

    def ask(self, origin: WebOrigin) -> None:
        """Begin to ask a host. Raises `UpstreamBusy` if it is not to be asked."""
        self._numbers = self._breakers.admit(self._account, origin, self._subject)
        self._asked = self._at = origin
        self._connected = self._sick = False

    def connecting(self) -> None:
        """Note that a connection is being made, perhaps since one that was there has broken."""
        self._connected = False

    def connected(self) -> None:
        """Note that there is a connection."""
        assert self._at is not None, "a connection is made to ask something"
        self._connected = True
        self._breakers.connected(self._account, self._at)
        _, of_account = self._numbers
        self._numbers = NO_TRIAL, of_account

    def answered(self, status: int) -> None:
        """Note that the host has answered with that status."""
        assert self._at is not None, "a host that answers was asked"
        if status >= 500:
            self._sick = True
        else:
            self._breakers.answered(self._account, self._at, self._subject)
            self._at = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UpstreamError):
            error.facts = error.facts or self.facts
        if self._at is None:
            return
        of_host, of_account = self._numbers
        match error:
            case UpstreamUnreachable() | UpstreamTimeout() if not self._connected:
                error.host_away = True
                self._breakers.unconnected(self._account, self._at, of_host)
                self._breakers.abandoned(self._account, self._at, (NO_TRIAL, of_account))
            case UpstreamUnreachable() | UpstreamTimeout():
                self._breakers.failed(self._account, self._at, self._subject, of_account)
            case UpstreamError() if self._sick:
                self._breakers.failed(self._account, self._at, self._subject, of_account)
            case _:
                self._breakers.abandoned(self._account, self._at, self._numbers)
