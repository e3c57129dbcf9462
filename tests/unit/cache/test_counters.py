"""The folder's counts: each answer counts once, and none is lost if the counts cannot be written for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cache.counters import STALE_IF_ERROR, Counter, Counters, RamUsage, Statistics, counter_of, hit_ratio
from proxy.cache.disk.index import Index
from proxy.cache.disk.workers_table import STALE_SECONDS
from proxy.semantics.cache_status import CacheStatus, Fwd

HIT = CacheStatus(hit=True, ttl=60)
VALIDATED = CacheStatus(fwd=Fwd.STALE, fwd_status=304)


@pytest.mark.parametrize(
    ("status", "stale", "in_ram", "counter"),
    [
        (HIT, False, True, Counter.RAM_HITS),
        (HIT, False, False, Counter.DISK_HITS),
        (CacheStatus(hit=True, ttl=0), True, True, Counter.STALE),
        (CacheStatus(fwd=Fwd.STALE, detail=STALE_IF_ERROR), False, True, Counter.STALE),
        (VALIDATED, False, True, Counter.VALIDATED),
        (CacheStatus(fwd=Fwd.STALE, fwd_status=304, collapsed=True), False, True, Counter.COLLAPSED),
        (CacheStatus(fwd=Fwd.URI_MISS, fwd_status=200, stored=True), False, False, Counter.MISSES),
        (CacheStatus(fwd=Fwd.STALE, fwd_status=200), False, True, Counter.MISSES),
        (CacheStatus(fwd=Fwd.URI_MISS, fwd_status=200, collapsed=True), False, False, Counter.COLLAPSED),
    ],
)
def test_each_answer_has_its_counter(status: CacheStatus, stale: bool, in_ram: bool, counter: Counter) -> None:
    assert counter_of(status, stale=stale, in_ram=in_ram) is counter


def test_the_ratio_is_of_good_answers_alone() -> None:
    assert hit_ratio({}) is None
    assert hit_ratio({Counter.ERRORS: 5, Counter.NOT_FOUND: 1, Counter.NEGATIVE_HITS: 1}) is None
    assert hit_ratio({Counter.MISSES: 1, Counter.ERRORS: 5}) == 0.0
    assert hit_ratio(dict.fromkeys(Counter, 1)) == 4 / 7


def test_counts_that_are_not_written_are_not_forgotten() -> None:
    counters = Counters()
    assert counters.unwritten() == {}
    counters.add(Counter.MISSES)
    first = counters.unwritten()
    counters.add(Counter.MISSES)
    counters.add(Counter.ERRORS)
    # The first counts could not be written.
    second = counters.unwritten()
    assert (first, second) == ({Counter.MISSES: 1}, {Counter.MISSES: 2, Counter.ERRORS: 1})
    counters.add(Counter.MISSES)
    counters.note_written(second)
    assert counters.unwritten() == {Counter.MISSES: 1}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = Index(tmp_path)
    yield opened
    opened.close()


def test_an_index_begins_with_nothing_counted(index: Index) -> None:
    assert index.statistics(time.time()) == Statistics(dict.fromkeys(Counter, 0), {})


def test_workers_reports_add_up_and_the_last_usage_counts(index: Index) -> None:
    index.report("a", RamUsage(10, 1), {Counter.MISSES: 1}, 1_000.0)
    index.report("b", RamUsage(5, 2), {Counter.MISSES: 2, Counter.ERRORS: 1}, 1_001.0)
    index.report("a", RamUsage(20, 3), {}, 1_002.0)
    found = index.statistics(1_003.0)
    assert found.counts == dict.fromkeys(Counter, 0) | {Counter.MISSES: 3, Counter.ERRORS: 1}
    assert found.workers == {"a": RamUsage(20, 3), "b": RamUsage(5, 2)}
    assert found.ram == RamUsage(25, 5)


def test_a_silent_workers_counts_stay_and_its_usage_goes(index: Index) -> None:
    for run in ("ended", "silent", "alive"):
        index.report(run, RamUsage(1, 1), {Counter.MISSES: 1}, 1_000.0 if run == "silent" else 1_030.0)
    index.leave("ended")
    assert set(index.statistics(1_000.0 + STALE_SECONDS - 1).workers) == {"silent", "alive"}
    found = index.statistics(1_000.0 + STALE_SECONDS)
    assert (set(found.workers), found.counts[Counter.MISSES]) == ({"alive"}, 3)


def test_the_rows_of_silent_workers_are_removed(index: Index) -> None:
    index.report("silent", RamUsage(1, 1), {}, 1_000.0)
    index.report("alive", RamUsage(1, 1), {}, 1_000.0 + STALE_SECONDS)
    # That is so even at a time at which its report would still count.
    assert set(index.statistics(1_001.0).workers) == {"alive"}


def test_counters_survive_the_index_s_closing(tmp_path: Path, index: Index) -> None:
    index.report("a", RamUsage(1, 1), {Counter.MISSES: 7}, 1_000.0)
    index.close()
    again = Index(tmp_path)
    assert again.statistics(1_000.0).counts[Counter.MISSES] == 7
    again.close()
