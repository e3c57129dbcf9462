"""The decision about a stored response: reuse it, validate it or fetch again (RFC 9111 §4), also after an error.

A look-up that finds several variants asks `decide` for each; times in seconds, `now` in Unix time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.errors import (
    MediaNotFound,
    UpstreamError,
    UpstreamRedirectRefused,
    UpstreamRefusedCredentials,
    UpstreamTooLarge,
)
from proxy.semantics.cache_status import Fwd
from proxy.semantics.directives import RequestDirectives
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import (
    FreshnessPolicy,
    current_age,
    freshness_lifetime,
    stale_if_asked,
    stale_if_error,
    stale_while_revalidate,
)
from proxy.semantics.stored import NotStorable, StoredMetadata, StoringBar, Validators
from proxy.semantics.variants import selects

# --- decisions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reuse:
    """The decision to serve the stored response, which is fresh for `remaining` more seconds."""

    age: float
    remaining: float


@dataclass(frozen=True, slots=True)
class ReuseStale:
    """The decision to serve the stored response, which is past its lifetime by `staleness` seconds.

    `revalidate`: validate it in the background (RFC 5861 §3).
    """

    age: float
    staleness: float
    revalidate: bool


@dataclass(frozen=True, slots=True)
class Validate:
    """The decision to ask the upstream with these validators before the stored response is used (§4.3)."""

    validators: Validators
    reason: Fwd


@dataclass(frozen=True, slots=True)
class Forward:
    """The decision to fetch the whole representation from the upstream."""

    reason: Fwd


@dataclass(frozen=True, slots=True)
class Refuse:
    """The decision to answer 504: the request is `only-if-cached` and nothing stored may serve it (§5.2.1.7)."""


Decision = Reuse | ReuseStale | Validate | Forward | Refuse

_NOTHING_ASKED: Final = RequestDirectives()


def decide(
    stored: StoredMetadata | None,
    request: Fields,
    now: float,
    policy: FreshnessPolicy,
    *,
    presented: Fields,
    must_validate: bool = False,
) -> Decision:
    """Decide on a GET or HEAD of the identity under which `stored` was found (§4).

    `request` holds the client's fields, `presented` those that a fill would send upstream: these select (§4.1).
    `must_validate`: the stored response may have been erased elsewhere, so it is not used unvalidated, stale or fresh.
    """
    asked = RequestDirectives.of(request) if policy.honour_request_directives else _NOTHING_ASKED
    decision = _decide(stored, asked, now, policy, presented=presented, must_validate=must_validate)
    if asked.only_if_cached and isinstance(decision, Validate | Forward):
        return Refuse()
    return decision


def _decide(
    stored: StoredMetadata | None,
    asked: RequestDirectives,
    now: float,
    policy: FreshnessPolicy,
    *,
    presented: Fields,
    must_validate: bool,
) -> Reuse | ReuseStale | Validate | Forward:
    if stored is None:
        return Forward(Fwd.URI_MISS)
    unusable = _unusable(stored, presented)
    if unusable is not None:
        return Forward(unusable)
    control = stored.control
    if must_validate or control.no_cache:
        return _ask(stored, Fwd.STALE)
    age = current_age(stored, now)
    remaining = freshness_lifetime(stored.fields, stored.answered_at, policy) - age
    if _asked_for_fresher(asked, age, remaining):
        return _ask(stored, Fwd.REQUEST if remaining > 0 else Fwd.STALE)
    if remaining > 0:
        return Reuse(age, remaining)
    staleness = -remaining
    revalidate = stale_while_revalidate(control, staleness, policy)
    if revalidate or stale_if_asked(control, staleness, asked):
        return ReuseStale(age, staleness, revalidate)
    return _ask(stored, Fwd.STALE)


def _unusable(stored: StoredMetadata, presented: Fields) -> Fwd | None:
    """Return why a stored response cannot serve any request like this one, validated or not; None if it can."""
    storability = stored.storability
    if isinstance(storability, NotStorable):
        return Fwd.VARY_MISS if storability.bar is StoringBar.VARY else Fwd.MISS
    return None if selects(stored.fields, stored.presented, presented) else Fwd.VARY_MISS


def _asked_for_fresher(asked: RequestDirectives, age: float, remaining: float) -> bool:
    """Return whether the request's directives keep it from the stored response (§5.2.1).

    `max-age` refuses a stale response too, unless `max-stale` stands beside it (§5.2.1.1).
    """
    if asked.no_cache or (asked.min_fresh is not None and remaining < asked.min_fresh):
        return True
    return asked.max_age is not None and (age > asked.max_age or (remaining <= 0 and asked.max_stale is None))


def _ask(stored: StoredMetadata, reason: Fwd) -> Validate | Forward:
    """Validate, or forward without a validator: there is nothing to validate with (§4.3.1)."""
    validators = stored.validators
    return Validate(validators, reason) if validators else Forward(reason)


# --- a fill or validation that failed -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fail:
    """The error goes to the client."""


def on_error(
    stored: StoredMetadata,
    error: UpstreamError,
    now: float,
    policy: FreshnessPolicy,
    *,
    presented: Fields,
    must_validate: bool = False,
) -> ReuseStale | Fail:
    """Return whether a stored response may serve after the upstream failed (RFC 5861 §4, RFC 9111 §4.2.4).

    `stale-if-error` is for an upstream that is away or broken. One that answers, and says that the media is gone or
    that the gateway may not have it, is obeyed.
    """
    if isinstance(error, MediaNotFound | UpstreamRefusedCredentials | UpstreamRedirectRefused | UpstreamTooLarge):
        return Fail()
    control = stored.control
    if must_validate or control.no_cache or _unusable(stored, presented) is not None:
        return Fail()
    age = current_age(stored, now)
    staleness = age - freshness_lifetime(stored.fields, stored.answered_at, policy)
    if staleness < 0:  # only the request's own directives asked for the validation
        return ReuseStale(age, 0, revalidate=False)
    return ReuseStale(age, staleness, revalidate=False) if stale_if_error(control, staleness, policy) else Fail()
