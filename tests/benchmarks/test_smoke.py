"""The benchmarks run, every answer in them is right, and what they count is right; no time is judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import cold, entries, eviction
from tests.benchmarks.bench import fetched, request
from tests.benchmarks.eviction import POLICIES, S3Fifo, make_trace, replay
from tests.benchmarks.load import Expected, Load
from tests.benchmarks.origin import Media, upstream
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.rates import LANE, RATE, cases
from tests.benchmarks.readme import rendered
from tests.benchmarks.servers import GATEWAY, NGINX, NGINX_NOPUSH, VARNISH, Server, gateway

SMOKE = benchmarks.SMOKE
compiled = pytest.mark.system("cc")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Server, Media]]:
    """Yield a gateway, and a media that it has stored."""
    with upstream(1_000_000) as source, gateway(source, source.begun.port, tmp_path) as server:
        (media,) = source.add(20_480, 1)
        fetched(server, media)
        yield server, media


@compiled
@pytest.mark.system("nginx")
@pytest.mark.system("varnishd")
@pytest.mark.timeout(600)
def test_every_part_runs_and_every_server_answers_rightly() -> None:
    wanted = benchmarks.parts(SMOKE)
    report = benchmarks.measure(SMOKE, wanted)
    skipped = {note.partition(":")[0] for note in report.notes if "skipped" in note}
    assert {series.part for series in report.series} | skipped >= set(wanted)
    for case in cases(SMOKE.connections):
        series = report.of_part(case.part, RATE)
        assert series is not None
        assert set(series.samples) == {GATEWAY, NGINX, NGINX_NOPUSH, VARNISH}
        assert all(all(values) for values in series.samples.values())
    express = report.of_part("hit-20k", LANE)
    assert express is not None
    assert express.samples[GATEWAY][0] > 0
    fetches = report.of_part("stampede", cold.FETCHES)
    assert fetches is not None
    assert fetches.samples[GATEWAY] == [1]
    reads = report.of_part("seeks", cold.FETCHES)
    assert reads is not None
    assert reads.samples[GATEWAY] == [1]
    assert cases(SMOKE.connections)[0].title in rendered(report)


@compiled
@pytest.mark.system("wrk")
def test_wrk_asks_for_what_it_is_given(served: tuple[Server, Media], tmp_path: Path) -> None:
    server, media = served
    load = Load(tmp_path)
    assert load.wrk(server.port, 2, 1, [request(server, server.link(media.ref), {})]).answers > 0
    with pytest.raises(BenchmarkFailed, match="Non-2xx"):
        load.wrk(server.port, 2, 1, [request(server, "/media/x", {})])


@compiled
@pytest.mark.parametrize("expected", [Expected(206, 20_480), Expected(200, 20_479), Expected(200, 20_481)])
def test_an_unexpected_answer_ends_the_benchmark(
    served: tuple[Server, Media], tmp_path: Path, expected: Expected
) -> None:
    server, media = served
    load = Load(tmp_path)
    asked = request(server, server.link(media.ref), {})
    assert load.steady(server.port, 2, 0.01, [asked], Expected(200, 20_480)).answers > 0
    with pytest.raises(BenchmarkFailed):
        load.steady(server.port, 2, 0.01, [asked], expected)
    with pytest.raises(BenchmarkFailed):
        load.crowd(server.port, 2, asked, expected)


@compiled
def test_each_new_link_is_another_one_and_good(served: tuple[Server, Media], tmp_path: Path) -> None:
    server, media = served
    asked = [request(server, server.new_link(media.ref), {}) for _ in range(50)]
    assert len(set(asked)) == 50
    answered = Load(tmp_path).steady(server.port, 3, 60, asked, Expected(200, media.length), once=True)
    assert answered.answers == 50


def test_a_body_with_one_other_byte_is_not_right(served: tuple[Server, Media]) -> None:
    server, media = served
    other = Media(media.ref, media.length, "0" * 64)
    with pytest.raises(BenchmarkFailed, match="answered 200"):
        fetched(server, other)


def test_look_ups_are_measured_for_every_number_of_entries(capsys: pytest.CaptureFixture[str]) -> None:
    found = entries.look_ups(SMOKE.entries)
    assert list(found) == [100, 1_000]
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert shown == ["entries", "100", "1,000"]


def test_every_rule_is_scored_over_every_trace(capsys: pytest.CaptureFixture[str]) -> None:
    scores = eviction.compare(SMOKE.trace_media, SMOKE.trace_requests, SMOKE.alphas)
    assert len(scores) == 3 * 3 * len(POLICIES)
    assert all(0 <= score.hits <= 1 and 0 <= score.byte_hits <= 1 for score in scores)
    assert "S3-FIFO" in capsys.readouterr().out


@pytest.mark.parametrize("rule", POLICIES)
def test_with_room_for_all_only_first_requests_miss(rule: str) -> None:
    trace = make_trace(50, 2_000, 0.9, 0.0)
    policy = POLICIES[rule](1 << 40)
    hits = [policy.request(media, trace.sizes[media]) for media in trace.asked]
    assert hits.count(False) == len(set(trace.asked))


def test_media_asked_for_once_displace_less_than_under_lru() -> None:
    trace = make_trace(2_000, 20_000, 0.9, 0.6)
    bound = trace.working_set // 20
    assert replay(trace, S3Fifo(bound)).hits > replay(trace, eviction.Lru(bound)).hits + 0.03
