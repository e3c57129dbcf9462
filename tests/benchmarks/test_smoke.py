"""The benchmarks run, and what they count is right; no time is judged."""

from __future__ import annotations

import asyncio

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import entries, eviction
from tests.benchmarks.eviction import POLICIES, S3Fifo, make_trace, replay


async def test_a_crowd_of_readers_of_a_cold_media_is_one_upstream_fetch(capsys: pytest.CaptureFixture[str]) -> None:
    crowd = await benchmarks.crowds(benchmarks.SMOKE)
    assert crowd.fetches == 1
    assert len(crowd.answers) == benchmarks.SMOKE.readers
    assert "upstream fetches 1" in capsys.readouterr().out


async def test_look_ups_are_shown_for_every_number_of_entries(capsys: pytest.CaptureFixture[str]) -> None:
    await asyncio.to_thread(entries.look_ups, benchmarks.SMOKE.entries)
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert shown == ["entries", "100", "1,000"]


async def test_every_rule_is_scored_over_every_trace(capsys: pytest.CaptureFixture[str]) -> None:
    scale = benchmarks.SMOKE
    scores = await asyncio.to_thread(eviction.compare, scale.media, scale.requests, scale.alphas)
    assert len(scores) == 3 * 3 * len(POLICIES)
    assert all(0 <= score.hits <= 1 and 0 <= score.byte_hits <= 1 for score in scores)
    assert "S3-FIFO" in capsys.readouterr().out


@pytest.mark.parametrize("rule", POLICIES)
def test_with_room_for_everything_only_the_first_request_of_a_media_misses(rule: str) -> None:
    trace = make_trace(50, 2_000, 0.9, 0.0)
    policy = POLICIES[rule](1 << 40)
    hits = [policy.request(media, trace.sizes[media]) for media in trace.asked]
    assert hits.count(False) == len(set(trace.asked))


def test_media_asked_for_once_displace_less_than_under_lru() -> None:
    trace = make_trace(2_000, 20_000, 0.9, 0.6)
    bound = trace.working_set // 20
    assert replay(trace, S3Fifo(bound)).hits > replay(trace, eviction.Lru(bound)).hits + 0.03
