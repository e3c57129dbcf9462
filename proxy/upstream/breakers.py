"""The breakers of all origins, and the way of an attempt through those that it meets."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from proxy.errors import UpstreamBusy, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from proxy.model import Provider
from proxy.telemetry.metrics import BreakerState, Metrics
from proxy.upstream.breaker import Breaker, BreakerPolicy
from proxy.upstream.providers import WebOrigin

_log: Final = logging.getLogger("media_gateway.upstream")


class Breakers:
    """A breaker for each origin that ever failed a call: no more than the settings name.

    `clock` is monotonic, in seconds; `uniform` gives numbers in [0, 1).
    """

    def __init__(
        self, policy: BreakerPolicy, metrics: Metrics, clock: Callable[[], float], uniform: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._metrics = metrics
        self._clock = clock
        self._uniform = uniform
        self._table: dict[tuple[Provider, WebOrigin], Breaker] = {}

    def require(self, provider: Provider, origin: WebOrigin) -> None:
        """Raise `UpstreamBusy` where no call to the origin may go through now."""
        breaker = self._table.get((provider, origin))
        wait = 0.0 if breaker is None else breaker.wait(self._clock())
        if wait > 0:
            raise UpstreamBusy(
                "The provider fails, and is left alone for a while.",
                retry_after=math.ceil(wait),
                note=f"{origin} is not asked: it has failed again and again",
            )

    def admit(self, provider: Provider, origin: WebOrigin) -> int:
        """A call goes through: the number of the trial that it is, or 0. Raises `UpstreamBusy` where none may."""
        self.require(provider, origin)
        breaker = self._table.get((provider, origin))
        if breaker is None:
            return 0
        before, trial = breaker.state, breaker.admit()
        self._moved(provider, origin, before, breaker.state)
        return trial

    def answered(self, provider: Provider, origin: WebOrigin) -> None:
        """The origin is there."""
        breaker = self._table.get((provider, origin))
        if breaker is not None:
            before = breaker.state
            breaker.answered()
            self._moved(provider, origin, before, breaker.state)

    def failed(self, provider: Provider, origin: WebOrigin, trial: int) -> None:
        """A call has failed for good, by the origin's own fault."""
        breaker = self._table.setdefault((provider, origin), Breaker(self._policy))
        before = breaker.state
        breaker.failed(self._clock(), self._uniform(), trial=trial)
        self._moved(provider, origin, before, breaker.state)

    def abandoned(self, provider: Provider, origin: WebOrigin, trial: int) -> None:
        """A trial has told nothing."""
        breaker = self._table.get((provider, origin))
        if breaker is not None:
            before = breaker.state
            breaker.abandoned(trial)
            self._moved(provider, origin, before, breaker.state)

    def close(self) -> None:
        """Nobody asks any more, so that nothing is shown of these breakers."""
        for (provider, _), breaker in self._table.items():
            self._metrics.breaker_dropped(provider, breaker.state)
        self._table.clear()

    def _moved(self, provider: Provider, origin: WebOrigin, before: BreakerState, after: BreakerState) -> None:
        if before is after:
            return
        self._metrics.breaker_moved(provider, before, after)
        match after:
            case BreakerState.OPEN if before is BreakerState.CLOSED:
                _log.warning("%s fails again and again and is left alone for a while", origin)
            case BreakerState.CLOSED:
                _log.info("%s answers again", origin)
            case _:
                pass


class Passage:
    """The way of one attempt at a call: which origin it asks, and what that says of it.

    A context manager. An error that leaves it is the call's end: it counts as a failure of the origin that was asked
    last, where that gave no answer or one of 500 and above. An attempt that is made again counts for nothing.
    """

    __slots__ = ("_at", "_breakers", "_provider", "_sick", "_trial")

    def __init__(self, breakers: Breakers, provider: Provider) -> None:
        self._breakers = breakers
        self._provider = provider
        self._at: WebOrigin | None = None
        """The origin that was asked, and has not shown that it is well."""
        self._sick = False
        self._trial = 0

    @property
    def on_trial(self) -> bool:
        """Whether an open breaker let this attempt alone through, and nothing is known yet."""
        return self._trial > 0

    def ask(self, origin: WebOrigin) -> None:
        """The origin is about to be asked. Raises `UpstreamBusy` where it is not to be."""
        self._trial = self._breakers.admit(self._provider, origin)
        self._at = origin

    def answered(self, status: int) -> None:
        """The origin has answered with that status."""
        assert self._at is not None, "what answers was asked"
        if status >= 500:
            self._sick = True
        else:
            self._breakers.answered(self._provider, self._at)
            self._at, self._trial = None, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._at is None:
            return
        away = isinstance(error, UpstreamUnreachable | UpstreamTimeout)
        if away or (self._sick and isinstance(error, UpstreamError)):
            self._breakers.failed(self._provider, self._at, self._trial)
        elif self._trial:
            self._breakers.abandoned(self._provider, self._at, self._trial)
