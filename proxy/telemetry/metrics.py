"""All metrics, and the calls that count them. Names and labels are closed sets, and no label identifies anything.

A count is one addition to a cell of the process's own row (`proxy.telemetry.shared_counters`). The thread of the event
loop alone counts.
"""

from __future__ import annotations

import enum
import platform
import time
from bisect import bisect_left
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from proxy.errors import GatewayError, LinkError, TooManyRequests, Unauthorized, UpstreamError
from proxy.model import Provider, ProviderPart
from proxy.telemetry.families import Layout
from proxy.telemetry.shared_counters import Cells
from proxy.version import version


class _Label(enum.IntEnum):
    """The values of a label, numbered from 0; `HIT_RAM` is written `hit-ram`."""

    @classmethod
    def texts(cls) -> tuple[str, ...]:
        return tuple(member.name.lower().replace("_", "-") for member in cls)


class Route(_Label):
    """The route of a request."""

    MEDIA = 0
    MINT = 1
    RESOURCE = 2
    PURGE = 3
    REVOKE = 4
    AUTH = 5
    CONSOLE = 6
    HEALTH = 7
    METRICS = 8
    STATIC = 9
    OTHER = 10


class CacheOutcome(_Label):
    """The source of an answer's bytes; `NONE`: the answer is not a media."""

    HIT_RAM = 0
    HIT_DISK = 1
    MISS = 2
    COLLAPSED = 3
    VALIDATED = 4
    STALE = 5
    NONE = 6
    HIT_SHARED = 7


class FillOutcome(_Label):
    """The end of a fill."""

    STORED = 0
    PASSED = 1
    VALIDATED = 2
    FAILED = 3
    ABANDONED = 4
    SHARED = 5


class Tier(_Label):
    """A tier in this process or on its disk."""

    RAM = 0
    DISK = 1


class BreakerState(_Label):
    """The state of a breaker: all calls to an origin go through, none, or one that tries it."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


class BodyOutcome(_Label):
    """The end of a media's body."""

    WHOLE = 0
    BROKEN = 1


class CutBy(_Label):
    """The party that cut an answer short."""

    CLIENT = 0
    GATEWAY = 1


class SharedCall(_Label):
    """The end of a call of the shared tier; `SKIPPED`: the tier was away, and was not asked."""

    OK = 0
    SLOW = 1
    AWAY = 2
    REFUSED = 3
    SKIPPED = 4


class LeaseWait(_Label):
    """The end of a wait for another gateway's fetch: its bytes came, they are not shared, or it took too long."""

    FOUND = 0
    PASSED = 1
    LATE = 2


class PassedOver(_Label):
    """The reason for passing over a change of the shared log: it cannot be read, or not be written down here."""

    UNREADABLE = 0
    FAILED = 1


class Erasure(_Label):
    """The call by which a client erased; lifting a revocation counts as a revocation."""

    PURGE = 0
    REVOKE = 1
    DELETE = 2


class Reload(_Label):
    """The result of reading the settings again."""

    DONE = 0
    REFUSED = 1


def _kinds(root: type[GatewayError]) -> Iterator[str]:
    yield root.kind
    for kind in root.__subclasses__():
        yield from _kinds(kind)


_STATUSES: Final = tuple(status.value for status in HTTPStatus if status >= HTTPStatus.OK)
_CUT: Final = len(_STATUSES)
_PROVIDERS: Final = tuple(Provider)
OK: Final = "ok"
"""Outcome of an attempt at an upstream that brought what was asked for."""
CANCELLED: Final = "cancelled"
"""Outcome of an attempt that was given up before its end."""
_OTHER: Final = "other"
_CALLS: Final = tuple(dict.fromkeys((OK, *_kinds(UpstreamError), CANCELLED, _OTHER)))
_LINK_REASONS: Final = tuple(dict.fromkeys((*_kinds(LinkError), TooManyRequests.kind)))
_CLIENT_REASONS: Final = (Unauthorized.kind, TooManyRequests.kind)
_REQUEST_SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_UPSTREAM_SECONDS: Final = _REQUEST_SECONDS[3:]

_layout = Layout()
REQUESTS: Final = _layout.counter(
    "requests", "Requests by route and status; `cut`: the connection broke before an answer.",
    sparse=True, route=Route.texts(), status=(*map(str, _STATUSES), "cut"),
)  # fmt: skip
REQUEST_SECONDS: Final = _layout.histogram(
    "request_seconds", "Time from a request's head to its answer's end, by where the bytes came from.",
    _REQUEST_SECONDS, cache=CacheOutcome.texts(),
)  # fmt: skip
SENT: Final = _layout.counter("sent_bytes", "Bytes of bodies that were sent.")
ANSWERS: Final = _layout.counter(
    "answers", "Answers of the express lane and ordinary ones.", lane=("express", "ordinary")
)
ABORTED: Final = _layout.counter(
    "answers_aborted",
    "Answers that broke off: the client went away or took nothing for too long, or the gateway cut what had failed.",
    ended_by=CutBy.texts(),
)
CONNECTIONS: Final = _layout.gauge("connections", "Open client connections.")
FILLS: Final = _layout.gauge("fills", "Media that are being fetched from an upstream or validated there.")
FILLS_ENDED: Final = _layout.counter("fills_ended", "Fills by how they ended.", outcome=FillOutcome.texts())
COLLAPSED: Final = _layout.counter("collapsed_readers", "Readers that shared the fill of another one.")
EVICTIONS: Final = _layout.counter("evictions", "Stored responses that went for want of room.", tier=Tier.texts())
TIER_BYTES: Final = _layout.gauge("tier_bytes", "Bytes that a tier holds, as its bound counts them.", tier=Tier.texts())
TIER_ENTRIES: Final = _layout.gauge("tier_entries", "Stored responses that a tier holds.", tier=Tier.texts())
TIER_BOUND: Final = _layout.gauge("tier_max_bytes", "Bytes that a tier may hold.", tier=Tier.texts())
SHARED_UP: Final = _layout.gauge("shared_up", "Workers that reach the shared tier.")
SHARED_AWAY: Final = _layout.gauge(
    "shared_away", "Workers that validate what is stored at the provider, since the shared tier is away."
)
SHARED_CALLS: Final = _layout.counter(
    "shared_calls", "Calls of the shared tier, by how they ended.", outcome=SharedCall.texts()
)
SHARED_WAITS: Final = _layout.counter(
    "shared_lease_waits", "Fetches that waited for another gateway's, by how that ended.", outcome=LeaseWait.texts()
)
PASSED_OVER: Final = _layout.counter(
    "shared_changes_passed_over",
    "Times that a worker passed over changes of the shared log, by why; what it has stored is validated then.",
    reason=PassedOver.texts(),
)
UPSTREAM_CALLS: Final = _layout.counter(
    "upstream_calls",
    "Attempts at an upstream, by how they ended, with the end of the body of a media.",
    sparse=True,
    provider=_PROVIDERS,
    outcome=_CALLS,
)
UPSTREAM_BODIES: Final = _layout.counter(
    "upstream_bodies",
    "Bodies of media from an upstream, by its part; `broken`: they broke off, stalled or were wrong.",
    provider=_PROVIDERS, part=tuple(ProviderPart), outcome=BodyOutcome.texts(),
)  # fmt: skip
UPSTREAM_SECONDS: Final = _layout.histogram(
    "upstream_seconds", "Time of an attempt up to the head of its answer, or to the end of a document.",
    _UPSTREAM_SECONDS, provider=_PROVIDERS,
)  # fmt: skip
CREDENTIALS_REFUSED: Final = _layout.counter(
    "upstream_credentials_refused",
    "Answers of an upstream that refuses the gateway's credentials.",
    provider=_PROVIDERS,
)
BREAKERS: Final = _layout.gauge(
    "upstream_breakers",
    "Hosts that a worker does not ask since they fail, for all accounts or for one; `half-open`: but for one call.",
    provider=_PROVIDERS, state=BreakerState.texts()[1:],
)  # fmt: skip
BREAKERS_MOVED: Final = _layout.counter(
    "upstream_breaker_transitions", "Breakers of hosts and of accounts at hosts that went over to a state.",
    provider=_PROVIDERS, state=BreakerState.texts(),
)  # fmt: skip
LEFT_ALONE: Final = _layout.counter(
    "media_left_alone", "Times that a media was left alone for some seconds, since five fetches of it in a row failed."
)
LINKS_REFUSED: Final = _layout.counter("links_refused", "Links that were refused, by reason.", reason=_LINK_REASONS)
CLIENTS_REFUSED: Final = _layout.counter(
    "clients_refused", "Requests without good client credentials, by reason.", reason=_CLIENT_REASONS
)
MINTED: Final = _layout.counter("links_minted", "Links that were minted.")
ERASURES: Final = _layout.counter("erasures", "Erasures that clients asked for and got.", kind=Erasure.texts())
WORKERS: Final = _layout.gauge("workers", "Workers that serve.")
WORKERS_LOST: Final = _layout.counter("workers_lost", "Workers that ended without being told to.")
RELOADS: Final = _layout.counter("reloads", "Reloads of the settings.", result=Reload.texts())
STARTED: Final = _layout.gauge("start_time_seconds", "When the gateway started, in Unix time.")
BUILD: Final = _layout.gauge("build_info", "Always 1.", version=(version(),), python=(platform.python_version(),))

FAMILIES: Final = tuple(_layout.families)
"""Every metric."""

_STATUS_PLACE: Final = {status: number for number, status in enumerate(_STATUSES)}
_STATUS_COUNT: Final = len(_STATUSES) + 1
_SECONDS_STRIDE: Final = REQUEST_SECONDS.stride
_SUM: Final = len(_REQUEST_SECONDS) + 1
_ORDINARY: Final = ANSWERS.first + 1
_LINK_PLACE: Final = {reason: LINKS_REFUSED.places()[reason,] for reason in _LINK_REASONS}
_CLIENT_PLACE: Final = {reason: CLIENTS_REFUSED.places()[reason,] for reason in _CLIENT_REASONS}
_CALL_PLACE: Final = UPSTREAM_CALLS.places()
_BODY_PLACE: Final = UPSTREAM_BODIES.places()
_BODY_OUTCOMES: Final = dict(zip(BodyOutcome, BodyOutcome.texts(), strict=True))
_UPSTREAM_PLACE: Final = {provider: UPSTREAM_SECONDS.places()[provider,] for provider in _PROVIDERS}
_CREDENTIALS_PLACE: Final = {provider: CREDENTIALS_REFUSED.places()[provider,] for provider in _PROVIDERS}
_STATES: Final = dict(zip(BreakerState, BreakerState.texts(), strict=True))
_BREAKER_PLACE: Final = BREAKERS.places()
_MOVE_PLACE: Final = BREAKERS_MOVED.places()
_EXPRESS_SECONDS: Final = REQUEST_SECONDS.first + CacheOutcome.HIT_RAM * _SECONDS_STRIDE


def make_cells(workers: int) -> Cells:
    """Return the cells of a gateway that starts now, and whose workers count in the rows from 1 to `workers`."""
    cells = Cells(workers, _layout.width, _layout.gauges())
    cells.past[STARTED.first] = time.time()
    cells.past[BUILD.first] = 1.0
    return cells


class Metrics:
    """The counts of one worker, in a row of `cells`; without cells, those of a gateway in this process alone."""

    __slots__ = ("_row", "cells")

    def __init__(self, cells: Cells | None = None, row: int = 1) -> None:
        self.cells = cells or make_cells(1)
        self._row = self.cells.row(row)

    def totals(self) -> list[float]:
        """Return the counts of all workers."""
        return self.cells.totals()

    # --- answers ---

    def answered(
        self, route: Route, status: int, cache: CacheOutcome, seconds: float, sent: int, *, express: bool = False
    ) -> None:
        """Count an answer; `status` 0 is a connection that broke before an answer. `sent` counts bytes of body."""
        row = self._row
        row[REQUESTS.first + route * _STATUS_COUNT + _STATUS_PLACE.get(status, _CUT)] += 1.0
        place = REQUEST_SECONDS.first + cache * _SECONDS_STRIDE
        row[place + bisect_left(_REQUEST_SECONDS, seconds)] += 1.0
        row[place + _SUM] += seconds
        row[SENT.first] += sent
        row[ANSWERS.first if express else _ORDINARY] += 1.0

    def express(self, status: int, sent: int, answers: int = 1) -> None:
        """Count answers of the express lane: a media from RAM, in less time than the lowest bound."""
        row = self._row
        row[REQUESTS.first + _STATUS_PLACE[status]] += answers
        row[_EXPRESS_SECONDS] += answers
        row[SENT.first] += sent
        row[ANSWERS.first] += answers

    def aborted(self, by: CutBy) -> None:
        """Count an answer that broke off after its head. Bytes that the kernel has taken count as sent."""
        self._row[ABORTED.first + by] += 1.0

    def connections(self, change: int) -> None:
        """Count one more open connection, or one less."""
        self._row[CONNECTIONS.first] += change

    def refused(self, route: Route, kind: str) -> None:
        """Count an error, if its kind is the refusal of a link or of a client's credentials."""
        places = _LINK_PLACE if route in {Route.MEDIA, Route.AUTH} else _CLIENT_PLACE
        place = places.get(kind)
        if place is not None:
            self._row[place] += 1.0

    def minted(self, links: int) -> None:
        """Count minted links."""
        self._row[MINTED.first] += links

    def erased(self, kind: Erasure) -> None:
        """Count a client's erasure that was carried out."""
        self._row[ERASURES.first + kind] += 1.0

    # --- the cache ---

    def fill_began(self) -> None:
        self._row[FILLS.first] += 1.0

    def fill_ended(self, outcome: FillOutcome) -> None:
        self._row[FILLS.first] -= 1.0
        self._row[FILLS_ENDED.first + outcome] += 1.0

    def collapsed(self) -> None:
        """Count a reader that joined a fill under way."""
        self._row[COLLAPSED.first] += 1.0

    def left_alone(self) -> None:
        """Count a media that is left alone from now on, since it fails again and again."""
        self._row[LEFT_ALONE.first] += 1.0

    def evicted(self, tier: Tier, entries: int) -> None:
        """Count stored responses that were evicted."""
        self._row[EVICTIONS.first + tier] += entries

    def ram_holds(self, held: int, entries: int, bound: int) -> None:
        """Set the bytes and entries that this worker's RAM tier holds now, and the bytes that it may hold."""
        row = self._row
        row[TIER_BYTES.first + Tier.RAM] = held
        row[TIER_ENTRIES.first + Tier.RAM] = entries
        row[TIER_BOUND.first + Tier.RAM] = bound

    def shared_up(self, *, up: bool) -> None:
        """Set whether this worker reaches the shared tier."""
        self._row[SHARED_UP.first] = float(up)

    def shared_away(self, *, away: bool) -> None:
        """Set whether this worker serves as it does while the shared tier is away."""
        self._row[SHARED_AWAY.first] = float(away)

    def shared_call(self, outcome: SharedCall) -> None:
        """Count a call of the shared tier."""
        self._row[SHARED_CALLS.first + outcome] += 1.0

    def lease_wait(self, outcome: LeaseWait) -> None:
        """Count a fetch that has waited for that of another gateway."""
        self._row[SHARED_WAITS.first + outcome] += 1.0

    def passed_over(self, reason: PassedOver) -> None:
        """Count changes of the shared log that could not be carried out here."""
        self._row[PASSED_OVER.first + reason] += 1.0

    # --- upstream ---

    def upstream_call(self, provider: Provider, outcome: str) -> None:
        """Count an attempt that has ended: `ok`, `cancelled`, or the kind of its `UpstreamError`."""
        place = _CALL_PLACE.get((provider, outcome))
        self._row[_CALL_PLACE[provider, _OTHER] if place is None else place] += 1.0

    def upstream_body(self, provider: Provider, part: ProviderPart, outcome: BodyOutcome) -> None:
        """Count the body of a media that has ended."""
        self._row[_BODY_PLACE[provider, part, _BODY_OUTCOMES[outcome]]] += 1.0

    def upstream_answered(self, provider: Provider, seconds: float) -> None:
        """Count the time of an attempt up to the head of its answer, or to its end before one."""
        row = self._row
        first = _UPSTREAM_PLACE[provider]
        row[first + bisect_left(_UPSTREAM_SECONDS, seconds)] += 1.0
        row[first + len(_UPSTREAM_SECONDS) + 1] += seconds

    def credentials_refused(self, provider: Provider) -> None:
        """Count an upstream's refusal of the gateway's own credentials."""
        self._row[_CREDENTIALS_PLACE[provider]] += 1.0

    def breaker_moved(self, provider: Provider, before: BreakerState, after: BreakerState) -> None:
        """Count the transition of an origin's breaker from one state to another."""
        row = self._row
        self.breaker_dropped(provider, before)
        if after is not BreakerState.CLOSED:
            row[_BREAKER_PLACE[provider, _STATES[after]]] += 1.0
        row[_MOVE_PLACE[provider, _STATES[after]]] += 1.0

    def breaker_dropped(self, provider: Provider, state: BreakerState) -> None:
        """Forget that an origin's breaker is in that state."""
        if state is not BreakerState.CLOSED:
            self._row[_BREAKER_PLACE[provider, _STATES[state]]] -= 1.0

    # --- the worker ---

    def serving(self) -> None:
        """Set that this worker serves."""
        self._row[WORKERS.first] = 1.0

    def retiring(self) -> None:
        """Set that this worker takes no new connection."""
        self._row[WORKERS.first] = 0.0
