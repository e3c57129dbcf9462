"""The plot: how the gateway's rate relates to each peer's, as bars with their spread, in SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from tests.benchmarks.rates import RATE
from tests.benchmarks.results import Report, Spread
from tests.benchmarks.servers import GATEWAY, NGINX, NGINX_NOPUSH, VARNISH

_PEERS: Final = {NGINX: "nginx", NGINX_NOPUSH: "nopush", VARNISH: "varnish"}
_LEFT: Final = 210
_WIDE: Final = 520
_BAR: Final = 11
_GAP: Final = 16
_TOP: Final = 64
_LEAST_RANGE: Final = 2.0

_STYLE: Final = """\
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.ground { fill: #ffffff; } .one { stroke: #24292f; } .spread { stroke: #57606a; } .grid { stroke: #d0d7de; }
.nginx { fill: #2f81f7; } .nopush { fill: #8ab9f9; } .varnish { fill: #d29922; } .small { font-size: 11px; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .ground { fill: #0d1117; } .one { stroke: #e6edf3; } .spread { stroke: #c9d1d9; }
  .grid { stroke: #30363d; } .nopush { fill: #1b4f96; }
}"""


def draw(report: Report, path: Path) -> None:
    """Write the plot of every rate that was compared."""
    path.write_text(plot(report), "utf-8")


def plot(report: Report) -> str:
    """Return the same as text: a group for each part, a bar for each peer; the line is where both are equal."""
    groups = list(_groups(report))
    most = max([_LEAST_RANGE, *(ratio.most for _, bars in groups for ratio in bars.values())])
    height = _TOP + sum(_BAR * len(bars) + _GAP for _, bars in groups) + 24
    scale = _WIDE / most
    inside = [
        f'<rect class="ground" width="{_LEFT + _WIDE + 60}" height="{height}"/>',
        '<text x="12" y="22">Answers a second on one core, the gateway against each peer (1 = as many)</text>',
        *_legend(report),
        *_grid(most, scale, height),
    ]
    y = _TOP
    for title, bars in groups:
        inside.append(
            f'<text x="{_LEFT - 10}" y="{y + _BAR * len(bars) / 2 + 4}" text-anchor="end">{escape(title)}</text>'
        )
        for peer, ratio in bars.items():
            inside += _bar(_PEERS[peer], ratio, y, scale)
            y += _BAR
        y += _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDE + 60} {height}" role="img">'
        f"<title>The gateway beside nginx and Varnish</title>\n<style>{_STYLE}</style>\n"
        + "\n".join(inside)
        + "\n</svg>\n"
    )


def _groups(report: Report) -> Iterator[tuple[str, dict[str, Spread]]]:
    for series in report.series:
        if series.figure != RATE or series.part in ("workers", "wrk"):
            continue
        bars = {peer: ratio for peer in _PEERS if (ratio := series.ratio(GATEWAY, peer)) is not None}
        if bars:
            yield series.title, bars


def _legend(report: Report) -> Iterator[str]:
    x = 12
    for peer, style in _PEERS.items():
        if any(peer in series.samples for series in report.series):
            yield f'<rect class="{style}" x="{x}" y="36" width="12" height="12"/>'
            yield f'<text x="{x + 18}" y="46">{peer}</text>'
            x += 40 + 8 * len(peer)
    spans = "median of paired rounds; the line through a bar spans all of them"
    yield f'<text class="small" x="{x + 8}" y="46">{spans}</text>'


def _grid(most: float, scale: float, height: int) -> Iterator[str]:
    step = 0.5 if most <= 4 else 1.0
    for n in range(int(most / step) + 1):
        x = round(_LEFT + n * step * scale, 1)
        style = "one" if n * step == 1 else "grid"
        yield f'<line class="{style}" x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{height - 22}"/>'
        yield f'<text class="small" x="{x}" y="{height - 8}" text-anchor="middle">{n * step:g}</text>'


def _bar(style: str, ratio: Spread, y: int, scale: float) -> Iterator[str]:
    middle = y + (_BAR - 1) / 2
    end = round(_LEFT + ratio.most * scale + 6, 1)
    yield f'<rect class="{style}" x="{_LEFT}" y="{y}" width="{ratio.median * scale:.1f}" height="{_BAR - 1}"/>'
    yield (
        f'<line class="spread" x1="{_LEFT + ratio.least * scale:.1f}" x2="{_LEFT + ratio.most * scale:.1f}" '
        f'y1="{middle}" y2="{middle}"/>'
    )
    yield f'<text class="small" x="{end}" y="{y + _BAR - 2}">{ratio.median:.2f}</text>'
