"""Freshness: lifetime (RFC 9111 §4.2.1, §4.2.2), age (§4.2.3), and for how long a stale response could serve (§4.2.4).

`caching` decides if one may. Durations are in seconds, instants in Unix time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import floor
from typing import Final

from proxy.semantics.directives import MAX_SECONDS, CacheControl, RequestDirectives
from proxy.semantics.fields import Fields, parse_date
from proxy.semantics.stored import StoredMetadata, generated_at

_NEGATIVE: Final = (404, 410)
_REMEMBERED: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessPolicy:
    """The operator's part in freshness; all in seconds but `heuristic_fraction`.

    `minimum_lifetime` is a floor, for a provider whose media never change under an identifier: it lengthens heuristic
    and explicit lifetimes alike, `max-age=0` and a malformed `Expires` included. It is an out-of-band contract in the
    sense of §4.2.4, so it yields to every directive that speaks of reuse itself: `no-cache`, `must-revalidate`,
    `proxy-revalidate` and `s-maxage` keep their own lifetime, `no-store` and `private` are not stored at all.
    `maximum_lifetime` caps every lifetime, the floor included.

    `heuristic_cap` and `heuristic_floor` bound what is guessed from `Last-Modified`.

    `stale_while_revalidate` and `stale_if_error` (RFC 5861) hold if the response does not say. `negative_lifetime`
    is for a 404 or 410 that does not say, `negative_maximum` caps one that does. `honour_request_directives` is off by
    default, since the holder of a link could have the upstream asked at every reload.
    """

    default_lifetime: float
    maximum_lifetime: float = 31_536_000
    minimum_lifetime: float = 0
    heuristic_fraction: float = 0.1
    heuristic_cap: float = 86_400
    heuristic_floor: float = 0
    stale_while_revalidate: float = 0
    stale_if_error: float = 0
    negative_lifetime: float = 0
    negative_maximum: float = 60
    honour_request_directives: bool = False


@lru_cache(_REMEMBERED)
def freshness_lifetime(fields: Fields, answered_at: float, policy: FreshnessPolicy) -> float:
    """Return the seconds from its generation for which a response is fresh: 0 or more (§4.2.1)."""
    control = CacheControl.of(fields)
    lifetime = _explicit(control, fields, answered_at)
    if lifetime is None:
        lifetime = _heuristic(fields, answered_at, policy)
    if not control.forbids_stale:
        lifetime = max(lifetime, policy.minimum_lifetime)
    return max(0, min(lifetime, policy.maximum_lifetime))


def _explicit(control: CacheControl, fields: Fields, answered_at: float) -> float | None:
    """Return `s-maxage`, `max-age`, or `Expires` less `Date`; None if the response has none of them."""
    if control.explicit_lifetime is not None:
        return control.explicit_lifetime
    if "Expires" not in fields:
        return None
    # An invalid date, "0" above all, is in the past; several that differ are invalid too (§5.3, §4.2.1).
    expires = _date(fields, "Expires", answered_at)
    return 0 if expires is None else max(0, expires - generated_at(fields, answered_at))


def _heuristic(fields: Fields, answered_at: float, policy: FreshnessPolicy) -> float:
    """Return a fraction of the time since `Last-Modified`, capped (§4.2.2); else the operator's default."""
    modified = _date(fields, "Last-Modified", answered_at)
    since = None if modified is None else generated_at(fields, answered_at) - modified
    if since is None or since < 0:
        return policy.default_lifetime
    return max(policy.heuristic_floor, min(since * policy.heuristic_fraction, policy.heuristic_cap))


def current_age(stored: StoredMetadata, now: float) -> float:
    """Return the seconds since the upstream generated or validated the response (§4.2.3): 0 or more."""
    resident_time = max(0, now - stored.answered_at)
    return stored.corrected_initial_age + resident_time


def _date(fields: Fields, name: str, answered_at: float) -> int | None:
    text = fields.single(name)
    return None if text is None else parse_date(text, answered_at)


# --- stale responses: how long after its lifetime one may still be served (§4.2.4) ----------------------------


def stale_while_revalidate(control: CacheControl, staleness: float, policy: FreshnessPolicy) -> bool:
    """Return whether a stale response may be served while it is validated in the background (RFC 5861 §3)."""
    return _allows(control, control.stale_while_revalidate, policy.stale_while_revalidate, staleness)


def stale_if_error(control: CacheControl, staleness: float, policy: FreshnessPolicy) -> bool:
    """Return whether a stale response may be served after the upstream has failed (RFC 5861 §4)."""
    return _allows(control, control.stale_if_error, policy.stale_if_error, staleness)


def stale_if_asked(control: CacheControl, staleness: float, asked: RequestDirectives) -> bool:
    """Return whether a stale response may be served since the request's `max-stale` says so (§5.2.1.2)."""
    return not control.forbids_stale and asked.max_stale is not None and staleness <= asked.max_stale


def _allows(control: CacheControl, said: int | None, default: float, staleness: float) -> bool:
    return not control.forbids_stale and staleness < (default if said is None else said)


# --- errors, and the lifetime that a client is told -----------------------------------------------------------


def negative_lifetime(status: int, fields: Fields, answered_at: float, policy: FreshnessPolicy) -> float:
    """Return the seconds for which a 404 or 410 is remembered, 0 for not at all; any other status gives 0."""
    control = CacheControl.of(fields)
    if status not in _NEGATIVE or control.forbids_storing or control.no_cache:
        return 0
    explicit = _explicit(control, fields, answered_at)
    lifetime = policy.negative_lifetime if explicit is None else explicit
    return max(0, min(lifetime, policy.negative_maximum))


def client_lifetime(age: float, remaining_link_life: float, remaining_freshness: float) -> int:
    """Return the `max-age` that a client is told, in whole seconds.

    The client compares it with the `Age` sent beside it (whole seconds too), so it is left exactly the smaller of the
    two remainders, and nothing if one is used up. A remainder may be infinite.
    """
    left = max(0, min(remaining_link_life, remaining_freshness, MAX_SECONDS))
    return whole_age(age) + floor(left)


def whole_age(age: float) -> int:
    """Return `Age` as sent (§5.1): whole seconds, at most `MAX_SECONDS`."""
    return floor(max(0, min(age, MAX_SECONDS)))
