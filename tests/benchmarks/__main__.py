"""`python -m tests.benchmarks`: the gateway beside nginx and Varnish, with the figures of every part."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.benchmarks import cold, entries, eviction, resources
from tests.benchmarks.bench import LARGE, MEDIUM, SMALL, Bench, Scale
from tests.benchmarks.chart import draw
from tests.benchmarks.load import Load
from tests.benchmarks.machine import can_pin, this_machine
from tests.benchmarks.minting import minting
from tests.benchmarks.origin import upstream
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.rates import cases, rates
from tests.benchmarks.readme import rendered, rewrite, sentence
from tests.benchmarks.results import Report, read, write
from tests.benchmarks.servers import Server, kinds
from tests.benchmarks.workers import workers

_TOP: Final = Path(__file__).parents[2]
RESULTS: Final = Path(__file__).with_name("results.json")
PLOT: Final = _TOP / "deploy" / "benchmark.svg"
README: Final = Path(__file__).with_name("README.md")
FRONT: Final = _TOP / "README.md"

FULL: Final = Scale(
    rounds=7,
    seconds=1.0,
    connections=(256, 1_000),
    stored={SMALL: 64, MEDIUM: 16, LARGE: 4},
    cold=40,
    cold_large=4,
    crowd=1_000,
    crowd_rounds=3,
    film=15_000_000,
    slow_line=1_000_000,
    slow_seconds=5.0,
    starts=5,
    entries=(1_000, 10_000, 100_000, 1_000_000),
    trace_media=50_000,
    trace_requests=200_000,
    alphas=(0.7, 0.9, 1.1),
)
SMOKE: Final = Scale(
    rounds=1,
    seconds=0.05,
    connections=(40,),
    stored={SMALL: 2, MEDIUM: 1, LARGE: 1},
    cold=2,
    cold_large=1,
    crowd=20,
    crowd_rounds=1,
    film=1_500_000,
    slow_line=10_000_000,
    slow_seconds=0.4,
    starts=1,
    entries=(100, 1_000),
    trace_media=1_000,
    trace_requests=3_000,
    alphas=(0.9,),
)


def parts(scale: Scale) -> list[str]:
    """Return the names of all parts, in the order in which they run."""
    return [*(case.part for case in cases(scale.connections)), "wrk", *_WITH_SERVERS, *_ALONE]


def measure(scale: Scale, wanted: Sequence[str]) -> Report:
    """Run the wanted parts. Raises `BenchmarkFailed` if one cannot be measured, or an answer is not right."""
    report = Report(this_machine(), scale.rounds, scale.seconds)
    found, missing = kinds()
    with tempfile.TemporaryDirectory(prefix="media-gateway-bench-") as name, upstream(scale.slow_line) as source:
        bench = Bench(scale, Path(name), Load(Path(name)), source, found, report)
        print(_about(report), flush=True)
        for text in missing:
            bench.note(text)
        if not can_pin():
            bench.note("there is one core alone: servers and load share it")
        rated = [part for part in wanted if part not in _WITH_SERVERS and part not in _ALONE]
        beside = [part for part in wanted if part in _WITH_SERVERS]
        if rated or beside:
            with bench.running() as servers:
                rates(bench, servers, rated)
                for part in beside:
                    _WITH_SERVERS[part](bench, servers)
        for part in wanted:
            if part in _ALONE:
                _ALONE[part](bench)
    return report


def _look_ups(bench: Bench) -> None:
    found = entries.look_ups(bench.scale.entries)
    names = {size: f"{size:,} stored" for size in found}
    most = max(found)
    for figure, values in (
        ("look-up in RAM, µs", {names[size]: [1e6 * one for one in look.in_ram] for size, look in found.items()}),
        ("look-up on disk, µs", {names[size]: [1e6 * one for one in look.on_disk] for size, look in found.items()}),
        # Of few entries the allocator had the room before.
        ("RAM for an entry, bytes", {names[most]: [found[most].bytes_each]}),
    ):
        bench.add("entries", "look-ups", figure, values, rising=False)


def _eviction(bench: Bench) -> None:
    scale = bench.scale
    scores = eviction.compare(scale.trace_media, scale.trace_requests, scale.alphas)
    rules = list(eviction.POLICIES)
    hits = {rule: [100 * score.hits for score in scores[n :: len(rules)]] for n, rule in enumerate(rules)}
    bench.add("eviction", "traces", "hits, %", hits, rising=True)


_WITH_SERVERS: Final[dict[str, Callable[[Bench, Sequence[Server]], None]]] = {
    "cold-20k": cold.small,
    "cold-5m": cold.large,
    "mint": minting,
}
_ALONE: Final[dict[str, Callable[[Bench], None]]] = {
    "workers": workers,
    "seeks": cold.seeks,
    "stampede": cold.stampede,
    "slow-readers": resources.slow_readers,
    "start-up": resources.start_up,
    "entries": _look_ups,
    "eviction": _eviction,
}


def _about(report: Report) -> str:
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"{machine.processor}, {machine.cores} cores, {machine.kernel}, load average {machine.load}\n{versions}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or with `--readme` write what was measured into the documents. Returns an exit code."""
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    options.add_argument("--only", nargs="+", metavar="NAME", choices=parts(FULL), help=", ".join(parts(FULL)))
    options.add_argument("--rounds", type=int, default=FULL.rounds, help="how often the servers take turns")
    options.add_argument("--seconds", type=float, default=FULL.seconds, help="how long each turn is")
    options.add_argument("--smoke", action="store_true", help="run everything for a moment, to see that it runs")
    options.add_argument("--json", type=Path, help="where the figures go; a whole run has a place for them")
    options.add_argument("--plot", type=Path, help="where the plot goes; likewise")
    options.add_argument(
        "--readme", action="store_true", help="measure nothing: put the kept figures into the documents"
    )
    chosen = options.parse_args(arguments)
    if chosen.readme:
        report = read(chosen.json or RESULTS)
        rewrite(README, "benchmark", rendered(report))
        rewrite(FRONT, "speed", sentence(report))
        draw(report, chosen.plot or PLOT)
        return 0
    scale = SMOKE if chosen.smoke else replace(FULL, rounds=chosen.rounds, seconds=chosen.seconds)
    try:
        report = measure(scale, chosen.only or parts(scale))
    except BenchmarkFailed as error:
        print(f"the benchmark cannot go on: {error}", file=sys.stderr)
        return 1
    # What was measured in part, or for a moment, is not kept in place of a whole run.
    whole = not chosen.only and not chosen.smoke
    kept, plot = chosen.json or (RESULTS if whole else None), chosen.plot or (PLOT if whole else None)
    if kept is not None:
        write(report, kept)
    if plot is not None:
        draw(report, plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
