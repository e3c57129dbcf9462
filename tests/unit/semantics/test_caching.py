"""RFC 9111 §4: reuse, validation, forwarding, and stale responses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import (
    MediaNotFound,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRedirectRefused,
    UpstreamRefusedCredentials,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from proxy.semantics.cache_status import Fwd
from proxy.semantics.caching import Decision, Fail, Forward, Refuse, Reuse, ReuseStale, Validate, decide, on_error
from proxy.semantics.fields import Fields, format_date
from proxy.semantics.freshness import FreshnessPolicy, freshness_lifetime
from proxy.semantics.stored import StoredMetadata, Validators

T = 1_790_000_000.0
DATE = ("Date", format_date(T))
ETAG = ("ETag", '"a"')
SENT = Fields.of([("Accept-Encoding", "identity"), ("Authorization", "Basic eDp5")])
POLICY = FreshnessPolicy(default_lifetime=777)
ASKING = FreshnessPolicy(default_lifetime=777, honour_request_directives=True)
LENIENT = FreshnessPolicy(default_lifetime=777, stale_while_revalidate=50, stale_if_error=500)
VALIDATE = Validate(Validators('"a"'), Fwd.STALE)

Lines = list[tuple[str, str]]


def stored(*lines: tuple[str, str]) -> StoredMetadata:
    return StoredMetadata.received(Fields.of([DATE, *lines]), SENT, requested_at=T, answered_at=T)


def controlled(directives: str) -> StoredMetadata:
    return stored(ETAG, ("Cache-Control", directives))


def decided(
    response: StoredMetadata | None,
    after: float,
    policy: FreshnessPolicy = POLICY,
    *,
    request: Lines | None = None,
    must_validate: bool = False,
) -> Decision:
    asked = Fields.of(request or [])
    return decide(response, asked, T + after, policy, presented=SENT, must_validate=must_validate)


# --- §4.2 -----------------------------------------------------------------------------------------------------


def test_s4_nothing_stored_is_a_miss() -> None:
    assert decided(None, 0) == Forward(Fwd.URI_MISS)
    assert decided(None, 0, must_validate=True) == Forward(Fwd.URI_MISS)


@pytest.mark.parametrize(
    ("after", "decision"),
    [
        (0, Reuse(0, 60)),
        (59.5, Reuse(59.5, 0.5)),
        (60, VALIDATE),
        (61, VALIDATE),
        (10**9, VALIDATE),
        (-100, Reuse(0, 60)),
    ],
)
def test_s4_2_fresh_while_the_lifetime_exceeds_the_age(after: float, decision: Decision) -> None:
    assert decided(controlled("max-age=60"), after) == decision


@pytest.mark.parametrize(
    ("lines", "decision"),
    [
        ([], Reuse(10, 767)),
        ([("Cache-Control", "s-maxage=20, max-age=5")], Reuse(10, 10)),
        ([("Cache-Control", "max-age=60"), ("Age", "60")], VALIDATE),
        ([("Cache-Control", "max-age=60"), ("Age", "40")], Reuse(50, 10)),
        ([("Cache-Control", "max-age=60"), ("Age", "50, 0")], VALIDATE),
        ([("Cache-Control", "max-age=9999999"), ("Age", "2147483648")], VALIDATE),
        ([("Expires", "0")], VALIDATE),
        ([("Cache-Control", "max-age=60, no-cache")], VALIDATE),
        ([("Cache-Control", 'max-age=60, no-cache="Set-Cookie"')], VALIDATE),
        ([("Cache-Control", "max-age=60; no-cache")], VALIDATE),
        ([("Cache-Control", "max-age=60, no-store")], Forward(Fwd.MISS)),
        ([("Cache-Control", "max-age=60, private")], Forward(Fwd.MISS)),
        ([("Cache-Control", "max-age=60, no-store, must-understand")], Reuse(10, 50)),
        ([("Cache-Control", "max-age=60"), ("Vary", "*")], Forward(Fwd.VARY_MISS)),
        ([("Cache-Control", "max-age=60"), ("Vary", "Accept-Encoding, Authorization, Origin")], Reuse(10, 50)),
        ([("Cache-Control", "max-age=60"), ("Pragma", "no-cache")], Reuse(10, 50)),
        ([("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")], Reuse(10, 50)),
    ],
)
def test_s4_what_the_response_says_decides(lines: Lines, decision: Decision) -> None:
    assert decided(stored(ETAG, *lines), 10) == decision


def test_s4_1_another_variant_is_not_used() -> None:
    response = stored(ETAG, ("Vary", "Accept-Encoding"))
    other = Fields.of([("Accept-Encoding", "gzip")])
    assert decide(response, Fields(), T, POLICY, presented=other) == Forward(Fwd.VARY_MISS)
    assert decide(response, other, T, POLICY, presented=SENT) == Reuse(0, 777)


def test_s4_3_1_without_a_validator_it_is_fetched_again() -> None:
    assert decided(stored(("Cache-Control", "max-age=60")), 60) == Forward(Fwd.STALE)
    assert decided(stored(("Cache-Control", "max-age=60, no-cache")), 0) == Forward(Fwd.STALE)
    modified = format_date(T - 5)
    validate = Validate(Validators(None, modified), Fwd.STALE)
    assert decided(stored(("Cache-Control", "max-age=60"), ("Last-Modified", modified)), 60) == validate


@pytest.mark.parametrize("after", [0, 70])
def test_a_response_that_must_be_validated_is_never_used_unvalidated(after: float) -> None:
    response = controlled("max-age=60, stale-while-revalidate=100")
    assert decided(response, after, LENIENT, must_validate=True) == VALIDATE
    assert decided(stored(), after, LENIENT, must_validate=True) == Forward(Fwd.STALE)


# --- §4.2.4, RFC 5861 §3 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directives", "after", "policy", "decision"),
    [
        ("max-age=60, stale-while-revalidate=30", 59, POLICY, Reuse(59, 1)),
        ("max-age=60, stale-while-revalidate=30", 60, POLICY, ReuseStale(60, 0, revalidate=True)),
        ("max-age=60, stale-while-revalidate=30", 89, POLICY, ReuseStale(89, 29, revalidate=True)),
        ("max-age=60, stale-while-revalidate=30", 90, POLICY, VALIDATE),
        ("max-age=60, stale-while-revalidate=0", 61, LENIENT, VALIDATE),
        ("max-age=60, stale-while-revalidate=x", 61, LENIENT, VALIDATE),
        ("max-age=60, stale-while-revalidate=10", 71, LENIENT, VALIDATE),
        ("max-age=60", 61, POLICY, VALIDATE),
        ("max-age=60", 61, LENIENT, ReuseStale(61, 1, revalidate=True)),
        ("max-age=60", 109, LENIENT, ReuseStale(109, 49, revalidate=True)),
        ("max-age=60", 110, LENIENT, VALIDATE),
        ("max-age=60, stale-if-error=600", 61, POLICY, VALIDATE),
    ],
)
def test_rfc5861_s3_stale_while_revalidate(
    directives: str, after: float, policy: FreshnessPolicy, decision: Decision
) -> None:
    assert decided(controlled(directives), after, policy) == decision


FORBIDDING = ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache", 'no-cache="X"', "Must-Revalidate=1"]


@pytest.mark.parametrize("directive", FORBIDDING)
@pytest.mark.parametrize("policy", [POLICY, LENIENT, ASKING])
def test_s4_2_4_no_stale_response_against_a_directive(directive: str, policy: FreshnessPolicy) -> None:
    response = controlled(f"max-age=60, stale-while-revalidate=100, stale-if-error=100, {directive}")
    assert decided(response, 61, policy, request=[("Cache-Control", "max-stale")]) == VALIDATE
    assert on_error(response, UpstreamTimeout(), T + 61, policy, presented=SENT) == Fail()


# --- §5.2.1 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_lines", "after", "decision"),
    [
        ([("Cache-Control", "no-cache")], 10, Validate(Validators('"a"'), Fwd.REQUEST)),
        ([("Cache-Control", "no-cache")], 60, VALIDATE),
        ([("Cache-Control", "no-cache")], 70, VALIDATE),
        ([("Pragma", "no-cache")], 10, Validate(Validators('"a"'), Fwd.REQUEST)),
        ([("Pragma", "no-cache"), ("Cache-Control", "foo")], 10, Reuse(10, 50)),
        ([("Cache-Control", "no-store")], 10, Reuse(10, 50)),
        ([("Cache-Control", "max-age=0")], 10, Validate(Validators('"a"'), Fwd.REQUEST)),
        ([("Cache-Control", "max-age=9")], 10, Validate(Validators('"a"'), Fwd.REQUEST)),
        ([("Cache-Control", "max-age=10")], 10, Reuse(10, 50)),
        ([("Cache-Control", "max-age=1000")], 70, VALIDATE),
        ([("Cache-Control", "max-age=1000, max-stale")], 70, ReuseStale(70, 10, revalidate=False)),
        ([("Cache-Control", "max-age=65, max-stale")], 70, VALIDATE),
        ([("Cache-Control", "min-fresh=50")], 10, Reuse(10, 50)),
        ([("Cache-Control", "min-fresh=51")], 10, Validate(Validators('"a"'), Fwd.REQUEST)),
        ([("Cache-Control", "min-fresh=1, max-stale")], 70, VALIDATE),
        ([("Cache-Control", "max-stale")], 10**6, ReuseStale(10**6, 10**6 - 60, revalidate=False)),
        ([("Cache-Control", "max-stale=10")], 70, ReuseStale(70, 10, revalidate=False)),
        ([("Cache-Control", "max-stale=9")], 70, VALIDATE),
        ([("Cache-Control", "max-stale=foo")], 70, VALIDATE),
        ([("Cache-Control", "only-if-cached")], 10, Reuse(10, 50)),
        ([("Cache-Control", "only-if-cached")], 70, Refuse()),
        ([("Cache-Control", "only-if-cached, max-stale")], 70, ReuseStale(70, 10, revalidate=False)),
        ([("Cache-Control", "only-if-cached, no-cache")], 10, Refuse()),
    ],
)
def test_s5_2_1_request_directives_where_honoured(request_lines: Lines, after: float, decision: Decision) -> None:
    response = controlled("max-age=60")
    assert decided(response, after, ASKING, request=request_lines) == decision
    unasked = Reuse(after, 60 - after) if after < 60 else VALIDATE
    assert decided(response, after, POLICY, request=request_lines) == unasked


def test_s5_2_1_7_only_if_cached_without_stored() -> None:
    request = [("Cache-Control", "only-if-cached")]
    assert decided(None, 0, ASKING, request=request) == Refuse()
    assert decided(None, 0, POLICY, request=request) == Forward(Fwd.URI_MISS)


def test_s5_2_1_1_a_limited_age_gets_no_stale() -> None:
    policy = FreshnessPolicy(default_lifetime=1, stale_while_revalidate=100, honour_request_directives=True)
    response = controlled("max-age=60")
    assert decided(response, 70, policy) == ReuseStale(70, 10, revalidate=True)
    assert decided(response, 70, policy, request=[("Cache-Control", "max-age=1000")]) == VALIDATE
    assert decided(response, 60, policy, request=[("Cache-Control", "max-age=1000")]) == VALIDATE
    both = [("Cache-Control", "max-stale=50")]
    assert decided(response, 70, policy, request=both) == ReuseStale(70, 10, revalidate=True)


# --- RFC 5861 §4 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directives", "after", "policy", "stale"),
    [
        ("max-age=60, stale-if-error=100", 60, POLICY, True),
        ("max-age=60, stale-if-error=100", 61, POLICY, True),
        ("max-age=60", 60, POLICY, False),
        ("max-age=60, stale-if-error=100", 159, POLICY, True),
        ("max-age=60, stale-if-error=100", 160, POLICY, False),
        ("max-age=60, stale-if-error=0", 61, LENIENT, False),
        ("max-age=60, stale-if-error=x", 61, LENIENT, False),
        ("max-age=60, stale-while-revalidate=600", 61, POLICY, False),
        ("max-age=60", 61, POLICY, False),
        ("max-age=60", 559, LENIENT, True),
        ("max-age=60", 560, LENIENT, False),
        ("max-age=60, no-store", 61, LENIENT, False),
        ("max-age=60, private", 61, LENIENT, False),
    ],
)
def test_rfc5861_s4_stale_if_error(directives: str, after: float, policy: FreshnessPolicy, stale: bool) -> None:
    expected = ReuseStale(after, after - 60, revalidate=False) if stale else Fail()
    assert on_error(controlled(directives), UpstreamTimeout(), T + after, policy, presented=SENT) == expected


@pytest.mark.parametrize(
    ("error", "stale"),
    [
        (UpstreamError(), True),
        (UpstreamUnreachable(), True),
        (UpstreamTimeout(), True),
        (UpstreamBusy(), True),
        (UpstreamMalformed(), True),
        (UpstreamTruncated(), True),
        (MediaNotFound(), False),
        (UpstreamRefusedCredentials(), False),
        (UpstreamRedirectRefused(), False),
        (UpstreamTooLarge(), False),
    ],
)
def test_rfc5861_s4_only_an_absent_or_broken_upstream_counts(error: UpstreamError, stale: bool) -> None:
    for after in (10, 70):
        answer = on_error(controlled("max-age=60"), error, T + after, LENIENT, presented=SENT)
        assert answer == (ReuseStale(after, max(0, after - 60), revalidate=False) if stale else Fail())


def test_an_error_never_frees_must_validate_or_another_variant() -> None:
    response = stored(ETAG, ("Cache-Control", "max-age=60"), ("Vary", "Accept-Encoding"))
    for after in (10, 70):
        refused = on_error(response, UpstreamTimeout(), T + after, LENIENT, presented=SENT, must_validate=True)
        assert refused == Fail()
        assert on_error(response, UpstreamTimeout(), T + after, LENIENT, presented=Fields()) == Fail()
    assert on_error(controlled("max-age=60, no-cache"), UpstreamTimeout(), T, LENIENT, presented=SENT) == Fail()


# --- invariants -----------------------------------------------------------------------------------------------

DIRECTIVES = st.lists(
    st.sampled_from(
        [
            "no-store",
            "no-cache",
            "private",
            "max-age=60",
            "max-age=0",
            "s-maxage=90",
            "must-revalidate",
            "proxy-revalidate",
            "stale-while-revalidate=40",
            "stale-if-error=40",
            "only-if-cached",
            "max-stale",
            "min-fresh=5",
            "public",
            "immutable",
            'x="no-store"',
            "max-age=",
        ]
    ),
    max_size=5,
)
POLICIES = st.builds(
    FreshnessPolicy,
    default_lifetime=st.floats(0, 1000),
    minimum_lifetime=st.floats(0, 1000),
    maximum_lifetime=st.floats(0, 1000),
    stale_while_revalidate=st.floats(0, 1000),
    stale_if_error=st.floats(0, 1000),
    honour_request_directives=st.booleans(),
)
EXTRA = st.lists(
    st.sampled_from([ETAG, ("Age", "5"), ("Age", "x"), ("Vary", "*"), ("Vary", "Origin"), ("Expires", "0")]),
    max_size=3,
    unique=True,
)


@given(DIRECTIVES, EXTRA, DIRECTIVES, st.floats(-100, 3000), POLICIES, st.booleans())
def test_s4_invariants_of_a_decision(
    said: list[str], extra: Lines, asked: list[str], after: float, policy: FreshnessPolicy, must_validate: bool
) -> None:
    response = stored(("Cache-Control", ", ".join(said)), *extra)
    request = [("Cache-Control", ", ".join(asked))]
    decision = decided(response, after, policy, request=request, must_validate=must_validate)
    barred = {"no-store", "no-cache", "private"} & set(said) or ("Vary", "*") in extra or must_validate
    never_stale = {"must-revalidate", "proxy-revalidate", "s-maxage=90"} & set(said)
    lifetime = freshness_lifetime(response.fields, T, policy)
    failed = on_error(response, UpstreamTimeout(), T + after, policy, presented=SENT, must_validate=must_validate)
    match decision:
        case Reuse(age, remaining):
            assert not barred
            assert age >= 0
            assert 0 < remaining <= lifetime
        case ReuseStale(age, staleness, _):
            assert not barred
            assert not never_stale
            assert age >= staleness >= 0
        case Validate(validators, _):
            assert validators
        case Refuse():
            assert policy.honour_request_directives
            assert "only-if-cached" in asked
        case Forward(_):
            assert barred or ETAG not in extra
    if isinstance(failed, ReuseStale):
        assert not barred
        assert not never_stale or failed.staleness == 0
