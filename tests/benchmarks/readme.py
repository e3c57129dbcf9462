"""The figures in two documents, between marks: the tables beside this file, and a sentence on the front page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.benchmarks import cold, minting, resources
from tests.benchmarks.bench import number
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.rates import CPU, RATE
from tests.benchmarks.results import Report, Series
from tests.benchmarks.servers import GATEWAY, NGINX, NGINX_NOPUSH, VARNISH

_FRONT: Final = "hit-20k"
"""The part that the front page names."""
_COST: Final = (
    cold.FIRST, cold.CPU_FETCH, cold.CPU_MEGABYTE, cold.FETCHES, cold.FIRST_PLAY, *cold.SEEK_FIGURES, cold.ALONE,
    cold.WHOLE, cold.WHOLE_LATE,
    resources.MEMORY, resources.KERNEL, resources.START, resources.REST,
)  # fmt: skip


def rewrite(readme: Path, mark: str, text: str) -> None:
    """Put the text between the marks of that name. Raises `BenchmarkFailed` if the document has none."""
    marked = re.compile(rf"(?<=<!-- {mark} -->\n).*?(?=<!-- /{mark} -->)", re.DOTALL)
    changed, count = marked.subn(lambda _: text, readme.read_text("utf-8"))
    if count != 1:
        raise BenchmarkFailed(f"{readme.name} has no <!-- {mark} --> and <!-- /{mark} -->")
    readme.write_text(changed, "utf-8")


def sentence(report: Report) -> str:
    """Return the rate of stored media of 20 KB beside nginx's. Raises `BenchmarkFailed` if it was not measured."""
    rate = report.of_part(_FRONT, RATE)
    ratio = None if rate is None else rate.ratio(GATEWAY, NGINX)
    if rate is None or ratio is None:
        raise BenchmarkFailed(f"the part {_FRONT} was not measured beside nginx")
    return (
        f"A stored picture of 20 KB goes out {number(rate.spread(GATEWAY).median)} times a second on one core, its\n"
        f"link checked and the access log on: **{ratio.median:.2f}** times nginx's rate "
        f"({ratio.least:.2f} to {ratio.most:.2f} in paired rounds).\n"
    )


def rendered(report: Report) -> str:
    """Return the report as Markdown: rates, costs, the rest, and what they were measured on."""
    peers = "÷ nginx | ÷ nginx, `tcp_nopush on` | ÷ Varnish"
    lines = [
        *_table(f"| answers from the store | a second, on a core | CPU each | {peers} | CPU ÷ nginx |", _rates(report)),
        *_table("| less is better | gateway | nginx | Varnish | ÷ nginx | ÷ Varnish |", _costs(report)),
        *_table("| also | |", _rest(report)),
        *_about(report),
        "",
    ]
    return "\n".join(lines)


def _table(titles: str, rows: Iterator[str]) -> Iterator[str]:
    """Yield a table and an empty line, or nothing if there is no row."""
    found = list(rows)
    if found:
        yield titles
        yield "|" + "---|" * (titles.count("|") - 1)
        yield from found
        yield ""


def _rates(report: Report) -> Iterator[str]:
    for rate in report.series:
        cpu = next((one for one in report.series if (one.title, one.figure) == (rate.title, CPU)), None)
        if rate.figure != RATE or rate.part == "workers" or cpu is None:
            continue
        own = f"{number(rate.spread(GATEWAY).median)} | {number(cpu.spread(GATEWAY).median)} µs"
        ratios = " | ".join(_ratio(rate, peer) for peer in (NGINX, NGINX_NOPUSH, VARNISH))
        yield f"| {rate.title} | {own} | {ratios} | {_ratio(cpu, NGINX)} |"


def _costs(report: Report) -> Iterator[str]:
    for series in report.series:
        if series.figure not in _COST or report.of_part(series.part, RATE) is not None:
            continue
        cells = " | ".join(_cell(series, server) for server in (GATEWAY, NGINX, VARNISH))
        ratios = " | ".join(_ratio(series, peer) for peer in (NGINX, VARNISH))
        yield f"| {series.title}: {series.figure} | {cells} | {ratios} |"


def _rest(report: Report) -> Iterator[str]:
    for series in report.series:
        shown = series.figure == minting.LINKS or series.part == "entries"
        if not shown and (series.part, series.figure) != ("workers", RATE):
            continue
        said = [f"{'' if name == GATEWAY else name + ' '}{_cell(series, name)}" for name in series.samples]
        yield f"| {series.title}: {series.figure} | {'; '.join(said)} |"


def _about(report: Report) -> Iterator[str]:
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    place = "servers on one core, load and upstream on another" if machine.pinned else "servers and load on one core"
    yield (
        f"{machine.processor}, {machine.cores} cores, {machine.memory_bytes / 1e9:.0f} GB, {machine.kernel}, "
        f"{machine.date}; {versions}; {place}. Medians of {report.rounds} paired rounds of {report.seconds:g} s, in "
        "brackets the least and the greatest. nginx checks its links with `secure_link`; Varnish checks none. All "
        "write an access log, Varnish to shared memory."
    )
    for note in report.notes:
        yield f"\n{note[0].upper()}{note[1:]}."


def _ratio(series: Series, peer: str) -> str:
    ratio = series.ratio(GATEWAY, peer)
    if ratio is None:
        return "–"
    spread = f" ({ratio.least:.2f} to {ratio.most:.2f})" if len(series.samples[peer]) > 1 else ""
    return f"**{ratio.median:.2f}**{spread}"


def _cell(series: Series, server: str) -> str:
    return number(series.spread(server).median) if server in series.samples else "–"
