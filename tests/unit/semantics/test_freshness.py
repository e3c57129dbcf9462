"""RFC 9111 §4.2 and §5.1: freshness lifetime and age."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.directives import MAX_SECONDS, CacheControl, RequestDirectives
from proxy.semantics.fields import Fields, format_date
from proxy.semantics.freshness import (
    FreshnessPolicy,
    client_lifetime,
    current_age,
    freshness_lifetime,
    negative_lifetime,
    stale_if_asked,
    stale_if_error,
    stale_while_revalidate,
    whole_age,
)
from proxy.semantics.stored import StoredMetadata

T = 1_790_000_000.0
DATE = ("Date", format_date(T))
POLICY = FreshnessPolicy(default_lifetime=777)
StaleRule = Callable[[CacheControl, float, FreshnessPolicy], bool]


def at(seconds: float) -> str:
    return format_date(T + seconds)


def lifetime(*lines: tuple[str, str], policy: FreshnessPolicy = POLICY, answered_at: float = T) -> float:
    return freshness_lifetime(Fields.of(lines), answered_at, policy)


def stored(*lines: tuple[str, str], requested_at: float = T, answered_at: float = T) -> StoredMetadata:
    return StoredMetadata.received(Fields.of(lines), Fields(), requested_at=requested_at, answered_at=answered_at)


# --- §4.2.1 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([("Cache-Control", "max-age=60")], 60),
        ([("Cache-Control", "s-maxage=90, max-age=60")], 90),
        ([("Cache-Control", "s-maxage=30, max-age=60")], 30),
        ([("Cache-Control", "max-age=60"), ("Expires", at(9999))], 60),
        ([("Cache-Control", "max-age=60"), ("Expires", at(-9999))], 60),
        ([("Cache-Control", "max-age=60"), ("Expires", "0")], 60),
        ([("Cache-Control", "max-age=0"), ("Expires", at(9999))], 0),
        ([("Cache-Control", "max-age=foo"), ("Expires", at(9999))], 0),
        ([("Cache-Control", "s-maxage=foo, max-age=60"), ("Expires", at(9999))], 0),
        ([("Cache-Control", "public"), ("Expires", at(9999))], 9999),
        ([("Expires", at(120))], 120),
        ([("Expires", at(0))], 0),
        ([("Expires", at(-1))], 0),
        ([("Expires", at(120)), ("Last-Modified", at(-100_000))], 120),
        ([("Expires", "0"), ("Last-Modified", at(-100_000))], 0),
        ([("Expires", at(120)), ("Expires", at(120))], 120),
        ([("Expires", at(120)), ("Expires", at(240))], 0),
        ([("Expires", at(120)), ("Expires", "0")], 0),
        ([("Expires", "0"), ("Expires", at(120))], 0),
        ([("Last-Modified", at(-1000))], 100),
        ([("Cache-Control", "foo=1"), ("Last-Modified", at(-1000))], 100),
        ([], 777),
    ],
)
def test_s4_2_1_precedence(lines: list[tuple[str, str]], seconds: float) -> None:
    assert lifetime(DATE, *lines) == seconds


@pytest.mark.parametrize(
    "expires",
    [
        "0",
        "-1",
        "",
        "foo",
        "3600",
        "Mon, 21 Sep 2093 13:00:00",
        "Mon, 21 Sep 2093 13:00:00 UTC",
        "Mon, 21 Sep 2093 13:00:00 EST",
        "Mon, 21 Sep 2093 13:00:00 AEST",
        "Mon, 21 Sep 2093 13:00:00 +0000",
        "Mon, 21 Sep 2093 13:00:00 GMT+1",
        "Mon, 21 Sep 2093 3:00:00 GMT",
        "Mon, 21 Sep 2093 13:00 GMT",
        "Mon, 21 Sep 2093 24:00:00 GMT",
        "Mon, 21 Sep 2093 13:60:00 GMT",
        "Mon, 31 Sep 2093 13:00:00 GMT",
        "Mon, 30 Feb 2093 13:00:00 GMT",
        "Mon, 00 Sep 2093 13:00:00 GMT",
        "Mon, 21 Sep 93 13:00:00 GMT",
        "Mon, 21 Sep 12093 13:00:00 GMT",
        "Mon 21 Sep 2093 13:00:00 GMT",
        "21 Sep 2093 13:00:00 GMT",
        "Mon,21 Sep 2093 13:00:00 GMT",
        "Mon, 21  Sep 2093 13:00:00 GMT",
        "Mon,\t21 Sep 2093 13:00:00 GMT",
        "Mon, 21-Sep-2093 13:00:00 GMT",
        "Mon, 21 Sep 2093 13.00.00 GMT",
        "Mon, 21 Sept 2093 13:00:00 GMT",
        "Mon, 21 Sep 2093 13:00:00.5 GMT",
        "2093-09-21T13:00:00Z",
        '"Mon, 21 Sep 2093 13:00:00 GMT"',
        "Mon, ٢١ Sep 2093 13:00:00 GMT",
    ],
)
def test_s5_3_an_invalid_expires_is_in_the_past(expires: str) -> None:
    assert lifetime(DATE, ("Expires", expires)) == 0


@pytest.mark.parametrize(
    "expires",
    [
        "Mon, 21 Sep 2026 14:26:40 GMT",
        "mon, 21 Sep 2026 14:26:40 GMT",
        "Mon, 21 SEP 2026 14:26:40 GMT",
        "Mon, 21 Sep 2026 14:26:40 gmt",
        "Tue, 21 Sep 2026 14:26:40 GMT",
        "Monday, 21-Sep-26 14:26:40 GMT",
        "Mon Sep 21 14:26:40 2026",
        "  Mon, 21 Sep 2026 14:26:40 GMT\t",
    ],
)
def test_s4_2_every_date_form_is_read_in_any_case(expires: str) -> None:
    assert lifetime(DATE, ("Expires", expires)) == 800


@pytest.mark.parametrize("date", [None, "foo", "0", "Mon, 21 Sep 2026 14:00:00 EST"])
def test_s4_2_1_without_date_expires_counts_from_receipt(date: str | None) -> None:
    lines = [("Expires", at(100))] + ([] if date is None else [("Date", date)])
    assert lifetime(*lines, answered_at=T + 40) == 60


def test_s4_2_1_expires_counts_from_date_not_our_clock() -> None:
    assert lifetime(DATE, ("Expires", at(100)), answered_at=T + 5000) == 100
    assert lifetime(DATE, ("Expires", at(100)), answered_at=T - 5000) == 100


def test_s4_2_1_two_dates_that_differ_are_none() -> None:
    assert lifetime(DATE, ("Date", at(-500)), ("Expires", at(100)), answered_at=T + 40) == 60


# --- §4.2.2 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modified", "seconds"),
    [
        (at(-1000), 100),
        (at(0), 0),
        (at(-(10**9)), 86_400),
        (at(50), 777),
        ("foo", 777),
        ("", 777),
    ],
)
def test_s4_2_2_the_heuristic_is_a_capped_fraction(modified: str, seconds: float) -> None:
    assert lifetime(DATE, ("Last-Modified", modified)) == seconds


def test_s4_2_2_the_heuristic_has_a_floor() -> None:
    policy = FreshnessPolicy(default_lifetime=1, heuristic_floor=60)
    fields = Fields((("Date", "Sun, 22 Nov 2026 20:00:00 GMT"), ("Last-Modified", "Sun, 22 Nov 2026 19:59:50 GMT")))
    assert freshness_lifetime(fields, 1_795_377_600, policy) == 60


def test_s4_2_2_the_heuristic_follows_the_policy() -> None:
    policy = FreshnessPolicy(default_lifetime=1, heuristic_fraction=0.5, heuristic_cap=300)
    assert lifetime(DATE, ("Last-Modified", at(-400)), policy=policy) == 200
    assert lifetime(DATE, ("Last-Modified", at(-4000)), policy=policy) == 300


# --- floor and cap --------------------------------------------------------------------------------------------

FLOOR = FreshnessPolicy(default_lifetime=10, minimum_lifetime=500, maximum_lifetime=2000)


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([], 500),
        ([("Last-Modified", at(-10))], 500),
        ([("Cache-Control", "max-age=60")], 500),
        ([("Cache-Control", "max-age=0")], 500),
        ([("Expires", "0")], 500),
        ([("Cache-Control", "max-age=900")], 900),
        ([("Cache-Control", "max-age=9000")], 2000),
        ([("Expires", at(9000))], 2000),
        ([("Cache-Control", "max-age=60, must-revalidate")], 60),
        ([("Cache-Control", "max-age=60, proxy-revalidate")], 60),
        ([("Cache-Control", "max-age=60, no-cache")], 60),
        ([("Cache-Control", "s-maxage=60")], 60),
        ([("Cache-Control", "s-maxage=9000")], 2000),
        ([("Cache-Control", "must-revalidate")], 10),
    ],
)
def test_the_floor_yields_to_reuse_directives_and_the_cap(lines: list[tuple[str, str]], seconds: float) -> None:
    assert lifetime(DATE, *lines, policy=FLOOR) == seconds


def test_the_cap_holds_for_the_floor_too() -> None:
    policy = FreshnessPolicy(default_lifetime=1, minimum_lifetime=500, maximum_lifetime=100)
    assert lifetime(DATE, policy=policy) == 100


# --- §5.1, §4.2.3 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "age"),
    [
        (["7200"], 7200),
        (["07200"], 7200),
        (["  7200 "], 7200),
        (["0"], 0),
        (["2147483647"], 2147483647),
        (["2147483648"], MAX_SECONDS),
        (["2147483649"], MAX_SECONDS),
        (["99999999999999999999"], MAX_SECONDS),
        (["7200,0"], 7200),
        (["7200, 0"], 7200),
        (["0,7200"], 0),
        (["0, 7200"], 0),
        (["7200", "0"], 7200),
        (["0", "7200"], 0),
        (["7200", "7200"], 7200),
        (["foo, 7200"], 0),
        (["7200, foo"], 7200),
        ([", 7200"], 7200),
        (["7200 foo"], 0),
        (["foo 7200"], 0),
        (["7200;foo=bar"], 0),
        (["7200foo"], 0),
        (["foo"], 0),
        (["-7200"], 0),
        (["+7200"], 0),
        (["7200.0"], 0),
        (["7.2e3"], 0),
        (['"7200"'], 0),
        (["٧"], 0),
        ([""], 0),
        ([","], 0),
        ([], 0),
    ],
)
def test_s5_1_age_is_the_first_member_if_valid(values: list[str], age: int) -> None:
    lines = [DATE, *(("Age", value) for value in values)]
    assert current_age(stored(*lines), T) == age


@pytest.mark.parametrize(
    ("lines", "requested", "answered", "now", "age"),
    [
        ([DATE], 0, 0, 0, 0),
        ([DATE], 0, 0, 10, 10),
        ([DATE], 0, 0, -10, 0),
        ([DATE], 0, 30, 30, 30),  # Date − response_time: apparent age
        ([], 0, 30, 30, 30),  # no Date: the delay of the response
        ([], 0, 30, 40, 40),
        ([("Date", "foo")], 0, 30, 40, 40),
        ([("Date", at(500))], 0, 30, 40, 40),  # an origin whose clock is ahead
        ([("Date", at(-500))], 0, 30, 40, 540),  # one whose clock is behind
        ([("Date", at(-500)), ("Age", "100")], 0, 30, 40, 540),
        ([("Date", at(-50)), ("Age", "100")], 0, 30, 40, 140),
        ([DATE, ("Age", "100")], 0, 30, 30, 130),  # corrected by the delay
        ([DATE, ("Age", "-100")], 0, 0, 5, 5),
        ([], 30, 0, 0, 0),  # our clock went back between request and answer
        ([], 30, 0, 7, 7),
    ],
)
def test_s4_2_3_current_age(
    lines: list[tuple[str, str]], requested: float, answered: float, now: float, age: float
) -> None:
    response = stored(*lines, requested_at=T + requested, answered_at=T + answered)
    assert current_age(response, T + now) == age


SECONDS = st.floats(min_value=0, max_value=4e9)
DATES = st.none() | st.text(max_size=20) | SECONDS.map(format_date)
AGES = st.none() | st.text(max_size=8) | st.integers(min_value=-10, max_value=2**40).map(str)


@given(DATES, AGES, SECONDS, SECONDS, SECONDS, SECONDS)
def test_s4_2_3_age_is_never_negative_and_never_shrinks(
    date: str | None, age: str | None, requested: float, answered: float, now: float, later: float
) -> None:
    lines = [(name, value) for name, value in (("Date", date), ("Age", age)) if value is not None]
    response = stored(*lines, requested_at=requested, answered_at=answered)
    now, later = sorted((now, later))
    assert 0 <= current_age(response, now) <= current_age(response, later)


LIFETIMES = st.floats(min_value=0, max_value=1e9)


@given(DATES, DATES, DATES, st.none() | st.text(max_size=20), SECONDS, LIFETIMES, LIFETIMES, LIFETIMES)
def test_s4_2_1_a_lifetime_is_within_the_cap(
    date: str | None,
    expires: str | None,
    modified: str | None,
    directives: str | None,
    answered: float,
    default: float,
    floor: float,
    cap: float,
) -> None:
    given_lines = {"Date": date, "Expires": expires, "Last-Modified": modified, "Cache-Control": directives}
    lines = [(name, value) for name, value in given_lines.items() if value is not None]
    policy = FreshnessPolicy(default_lifetime=default, minimum_lifetime=floor, maximum_lifetime=cap)
    assert 0 <= lifetime(*lines, policy=policy, answered_at=answered) <= cap


# --- negative answers -----------------------------------------------------------------------------------------

NEGATIVE = FreshnessPolicy(
    default_lifetime=777, minimum_lifetime=500, negative_lifetime=5, negative_maximum=60, maximum_lifetime=1000
)


@pytest.mark.parametrize(
    ("status", "lines", "seconds"),
    [
        (404, [], 5),
        (410, [], 5),
        (404, [("Cache-Control", "max-age=30")], 30),
        (404, [("Cache-Control", "max-age=3600")], 60),
        (404, [("Cache-Control", "max-age=0")], 0),
        (404, [("Cache-Control", "no-store")], 0),
        (404, [("Cache-Control", "private")], 0),
        (404, [("Cache-Control", "no-cache")], 0),
        (404, [("Expires", at(20))], 20),
        (404, [("Expires", "0")], 0),
        (404, [("Last-Modified", at(-(10**6)))], 5),
        (200, [], 0),
        (403, [("Cache-Control", "max-age=30")], 0),
        (500, [("Cache-Control", "max-age=30")], 0),
    ],
)
def test_a_negative_answer_is_remembered_for_a_short_bounded_time(
    status: int, lines: list[tuple[str, str]], seconds: float
) -> None:
    assert negative_lifetime(status, Fields.of([DATE, *lines]), T, NEGATIVE) == seconds


def test_a_negative_answer_is_remembered_only_by_policy() -> None:
    assert negative_lifetime(404, Fields(), T, POLICY) == 0


# --- what a client is told ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "link", "fresh", "seconds"),
    [
        (0, 300, 3600, 300),
        (100, 300, 3600, 400),
        (100.9, 300.9, 3600, 400),
        (100, 3600, 60, 160),
        (100, 3600, 0, 100),
        (100, 3600, -50, 100),
        (100, -1, 3600, 100),
        (0.9, 0.9, 0.9, 0),
        (100, inf, 60, 160),
        (0, inf, inf, MAX_SECONDS),
        (-5, 10, 10, 10),
    ],
)
def test_client_lifetime_is_age_and_the_smaller_remainder(age: float, link: float, fresh: float, seconds: int) -> None:
    assert client_lifetime(age, link, fresh) == seconds


@given(SECONDS, st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_the_client_s_share_never_exceeds_link_or_freshness(age: float, link: float, fresh: float) -> None:
    left = client_lifetime(age, link, fresh) - whole_age(age)
    assert left == 0 or 0 < left <= min(link, fresh)


@pytest.mark.parametrize(
    ("age", "sent"), [(0, 0), (0.99, 0), (1.0, 1), (-3, 0), (1e12, MAX_SECONDS), (inf, MAX_SECONDS)]
)
def test_s5_1_age_is_sent_in_whole_seconds(age: float, sent: int) -> None:
    assert whole_age(age) == sent


# --- §4.2.4 ---------------------------------------------------------------------------------------------------

LENIENT = FreshnessPolicy(default_lifetime=777, stale_while_revalidate=30, stale_if_error=30)
ANY_STALE = RequestDirectives(max_stale=MAX_SECONDS)


@pytest.mark.parametrize("rule", [stale_while_revalidate, stale_if_error])
@pytest.mark.parametrize(("staleness", "allowed"), [(0, True), (29, True), (30, False)])
def test_rfc5861_a_window_ends_with_its_last_second(rule: StaleRule, staleness: int, allowed: bool) -> None:
    said = CacheControl(stale_while_revalidate=30, stale_if_error=30)
    assert rule(said, staleness, POLICY) is allowed
    assert rule(CacheControl(), staleness, LENIENT) is allowed


@pytest.mark.parametrize("rule", [stale_while_revalidate, stale_if_error])
def test_rfc5861_the_response_overrules_the_policy(rule: StaleRule) -> None:
    assert not rule(CacheControl(stale_while_revalidate=0, stale_if_error=0), 0, LENIENT)


@pytest.mark.parametrize(("staleness", "allowed"), [(0, True), (10, True), (11, False)])
def test_s5_2_1_2_max_stale_includes_its_last_second(staleness: int, allowed: bool) -> None:
    assert stale_if_asked(CacheControl(), staleness, RequestDirectives(max_stale=10)) is allowed
    assert not stale_if_asked(CacheControl(), staleness, RequestDirectives())


@pytest.mark.parametrize(
    "directives",
    [
        CacheControl(no_cache=True),
        CacheControl(must_revalidate=True),
        CacheControl(proxy_revalidate=True),
        CacheControl(s_maxage=60),
    ],
)
def test_s4_2_4_a_directive_forbids_every_stale_response(directives: CacheControl) -> None:
    assert not stale_while_revalidate(directives, 0, LENIENT)
    assert not stale_if_error(directives, 0, LENIENT)
    assert not stale_if_asked(directives, 0, ANY_STALE)
