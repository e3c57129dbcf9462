"""The counts, and how Prometheus is told."""

from __future__ import annotations

import platform
import re
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxy
from proxy.errors import GatewayError, LinkError, UpstreamError
from proxy.model import Provider
from proxy.telemetry.exposition import expose
from proxy.telemetry.families import PREFIX, Kind
from proxy.telemetry.metrics import (
    FAMILIES,
    REQUEST_SECONDS,
    BreakerState,
    CacheOutcome,
    Erasure,
    FillOutcome,
    Metrics,
    Route,
    Tier,
    make_cells,
)
from tests.functional.scraping import Scrape


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def scraped(metrics: Metrics) -> Scrape:
    body, _ = expose(metrics.totals(), "")
    return Scrape.of(body.decode())


def test_no_two_families_share_a_cell_or_a_name() -> None:
    ends = [family.end for family in FAMILIES]
    assert [family.first for family in FAMILIES] == [0, *ends[:-1]]
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_no_label_identifies_anything() -> None:
    labels = {label for family in FAMILIES for label in family.labels}
    assert labels == {
        "route",
        "status",
        "cache",
        "lane",
        "ended_by",
        "outcome",
        "tier",
        "provider",
        "part",
        "state",
        "reason",
        "kind",
        "result",
        "version",
        "python",
    }


@pytest.mark.parametrize("route", Route)
@pytest.mark.parametrize("status", [200, 206, 304, 404, 503])
def test_an_answer_counts_under_its_route_and_status(metrics: Metrics, route: Route, status: int) -> None:
    metrics.answered(route, status, CacheOutcome.NONE, 0.02, 10)
    scrape = scraped(metrics)
    text = route.name.lower()
    assert scrape.get("requests_total", route=text, status=str(status)) == scrape.total("requests_total") == 1
    assert scrape.get("sent_bytes_total") == 10
    assert (scrape.get("answers_total", lane="ordinary"), scrape.get("answers_total", lane="express")) == (1, 0)


@pytest.mark.parametrize("status", [0, 299, 999])
def test_what_is_no_answer_counts_as_cut(metrics: Metrics, status: int) -> None:
    metrics.answered(Route.MEDIA, status, CacheOutcome.NONE, 0.02, 0)
    assert scraped(metrics).get("requests_total", route="media", status="cut") == 1


@given(st.lists(st.tuples(st.sampled_from(CacheOutcome), st.floats(0, 100))))
def test_a_histogram_has_each_observation_in_its_buckets(observed: list[tuple[CacheOutcome, float]]) -> None:
    metrics = Metrics()
    for outcome, seconds in observed:
        metrics.answered(Route.MEDIA, 200, outcome, seconds, 0)
    scrape = scraped(metrics)
    for outcome in CacheOutcome:
        text = outcome.name.lower().replace("_", "-")
        own = sorted(seconds for found, seconds in observed if found is outcome)
        assert scrape.get("request_seconds_count", cache=text) == len(own)
        assert scrape.get("request_seconds_sum", cache=text) == pytest.approx(sum(own))
        for bound in REQUEST_SECONDS.bounds:
            within = len(own) - len([seconds for seconds in own if bisect_left([bound], seconds)])
            assert scrape.get("request_seconds_bucket", cache=text, le=str(bound)) == within


def test_an_express_answer_is_a_media_from_ram(metrics: Metrics) -> None:
    metrics.express(304, 0)
    metrics.express(200, 700)
    scrape = scraped(metrics)
    assert scrape.get("requests_total", route="media", status="304") == 1
    assert scrape.get("request_seconds_count", cache="hit-ram") == scrape.get("answers_total", lane="express") == 2
    assert scrape.get("request_seconds_bucket", cache="hit-ram", le="0.0005") == 2
    assert scrape.get("sent_bytes_total") == 700


def kinds(root: type[GatewayError]) -> set[str]:
    return {root.kind}.union(*(kinds(kind) for kind in root.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(kinds(LinkError) | {"too-many-requests"}))
@pytest.mark.parametrize("route", [Route.MEDIA, Route.AUTH])
def test_a_link_is_refused_for_every_reason_that_there_is(metrics: Metrics, route: Route, kind: str) -> None:
    metrics.refused(route, kind)
    assert scraped(metrics).get("links_refused_total", reason=kind) == 1


@pytest.mark.parametrize(("route", "kind"), [(Route.MEDIA, "media-not-found"), (Route.MINT, "bad-request")])
def test_other_errors_are_no_refusals(metrics: Metrics, route: Route, kind: str) -> None:
    metrics.refused(route, kind)
    scrape = scraped(metrics)
    assert scrape.total("links_refused_total") == scrape.total("clients_refused_total") == 0


@pytest.mark.parametrize("kind", ["unauthorized", "too-many-requests"])
def test_credentials_of_a_client_are_refused(metrics: Metrics, kind: str) -> None:
    metrics.refused(Route.MINT, kind)
    scrape = scraped(metrics)
    assert scrape.get("clients_refused_total", reason=kind) == scrape.total("clients_refused_total") == 1
    assert scrape.total("links_refused_total") == 0


@pytest.mark.parametrize("provider", Provider)
@pytest.mark.parametrize("outcome", sorted(kinds(UpstreamError) | {"ok", "cancelled"}))
def test_a_call_ends_in_every_way_that_there_is(metrics: Metrics, provider: Provider, outcome: str) -> None:
    metrics.upstream_call(provider, outcome)
    metrics.upstream_answered(provider, 0.3)
    scrape = scraped(metrics)
    assert scrape.get("upstream_calls_total", provider=provider, outcome=outcome) == 1
    assert scrape.get("upstream_seconds_count", provider=provider) == scrape.total("upstream_seconds_count") == 1
    assert scrape.get("upstream_seconds_sum", provider=provider) == 0.3


def test_an_outcome_that_is_not_known_is_another_one(metrics: Metrics) -> None:
    metrics.upstream_call(Provider.TWILIO, "surprise")
    assert scraped(metrics).get("upstream_calls_total", provider="twilio", outcome="other") == 1


def test_what_the_cache_counts(metrics: Metrics) -> None:
    for _ in range(3):
        metrics.fill_began()
    metrics.fill_ended(FillOutcome.STORED)
    metrics.collapsed()
    metrics.evicted(Tier.DISK, 4)
    metrics.ram_holds(1_000, 3, 9_000)
    metrics.minted(2)
    metrics.erased(Erasure.REVOKE)
    metrics.credentials_refused(Provider.SIGNALWIRE)
    scrape = scraped(metrics)
    assert scrape.get("fills") == 2
    assert scrape.get("fills_ended_total", outcome="stored") == scrape.total("fills_ended_total") == 1
    assert scrape.get("collapsed_readers_total") == 1
    assert scrape.get("evictions_total", tier="disk") == scrape.total("evictions_total") == 4
    held = [scrape.get(name, tier="ram") for name in ("tier_bytes", "tier_entries", "tier_max_bytes")]
    assert held == [1_000, 3, 9_000]
    assert scrape.get("links_minted_total") == 2
    assert scrape.get("erasures_total", kind="revoke") == scrape.total("erasures_total") == 1
    assert scrape.get("upstream_credentials_refused_total", provider="signalwire") == 1


def test_a_breaker_counts_in_its_state_and_each_transition(metrics: Metrics) -> None:
    closed, opened, half = BreakerState
    for before, after in [(closed, opened), (opened, half), (half, opened), (opened, half), (half, closed)]:
        metrics.breaker_moved(Provider.SIGNALWIRE, before, after)
    for _ in range(3):
        metrics.breaker_moved(Provider.TWILIO, closed, opened)
    metrics.breaker_moved(Provider.TWILIO, opened, half)
    metrics.breaker_dropped(Provider.TWILIO, opened)
    metrics.breaker_dropped(Provider.TWILIO, closed)
    scrape = scraped(metrics)
    shown = {
        (provider, state): scrape.get("upstream_breakers", provider=provider, state=state)
        for provider in ("twilio", "signalwire")
        for state in ("open", "half-open")
    }
    assert shown == {
        ("twilio", "open"): 1,
        ("twilio", "half-open"): 1,
        ("signalwire", "open"): 0,
        ("signalwire", "half-open"): 0,
    }
    moved = [
        scrape.get("upstream_breaker_transitions_total", provider="signalwire", state=state)
        for state in ("open", "half-open", "closed")
    ]
    assert moved == [2, 2, 1]


def test_gauges_end_with_their_worker_and_sums_do_not() -> None:
    cells = make_cells(2)
    one, two = Metrics(cells, 1), Metrics(cells, 2)
    for metrics in (one, two):
        metrics.serving()
        metrics.connections(+3)
        metrics.connections(-1)
        metrics.express(200, 5)
    two.retiring()
    scrape = scraped(one)
    assert [scrape.get(name) for name in ("workers", "connections", "sent_bytes_total")] == [1, 4, 10]
    cells.retire(1)
    scrape = scraped(two)
    assert [scrape.get(name) for name in ("workers", "connections", "sent_bytes_total")] == [0, 2, 10]


def test_what_runs_since_when(metrics: Metrics) -> None:
    scrape = scraped(metrics)
    assert scrape.get("build_info", version=proxy.__version__, python=platform.python_version()) == 1
    assert scrape.get("start_time_seconds") > 1_700_000_000


def test_it_is_said_in_openmetrics_where_that_is_asked_for(metrics: Metrics) -> None:
    body, content_type = expose(metrics.totals(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    text = body.decode()
    assert text.endswith("# EOF\n")
    assert set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE)) == {PREFIX + family.name for family in FAMILIES}


def test_a_sparse_family_shows_what_is_not_zero(metrics: Metrics) -> None:
    sparse = [family for family in FAMILIES if family.sparse]
    scrape = scraped(metrics)
    assert sparse
    for family in FAMILIES:
        suffix = "_count" if family.kind is Kind.HISTOGRAM else ""
        shown = [name for name, _ in scrape.samples if name == family.exported + suffix]
        assert len(shown) == (0 if family.sparse else len(family.values))
