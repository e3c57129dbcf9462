"""The parts that every benchmark works with, and the rounds in which servers take turns."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Final

from tests.benchmarks.load import Load
from tests.benchmarks.origin import Media, Upstream
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.results import Report, Series
from tests.benchmarks.servers import GATEWAY, Kind, Server

KILO: Final = 1_024
SMALL: Final = 20 * KILO
MEDIUM: Final = 200 * KILO
MEGABYTE: Final = 1_000_000
LARGE: Final = 5 * MEGABYTE

_ALWAYS: Final = (
    "ETag", "Date", "Age", "Cache-Control", "Cache-Status", "X-Content-Type-Options", "Cross-Origin-Resource-Policy",
    "Referrer-Policy",
)  # fmt: skip
_WITH_A_BODY: Final = ("Accept-Ranges", "Content-Type", "Content-Disposition", "Content-Security-Policy")


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of each part; `seconds` is for what is measured over a time.

    `stored` says how many media there are of a size, `slow_line` what the upstream of a crowd sends in a second.
    """

    rounds: int
    seconds: float
    connections: tuple[int, ...]
    stored: Mapping[int, int]
    cold: int
    cold_large: int
    crowd: int
    crowd_rounds: int
    film: int
    slow_line: int
    slow_seconds: float
    starts: int
    entries: tuple[int, ...]
    trace_media: int
    trace_requests: int
    alphas: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Bench:
    """The load, the upstream, the kinds of server, a folder for what they keep, and the report that grows."""

    scale: Scale
    folder: Path
    load: Load
    upstream: Upstream
    kinds: Sequence[Kind]
    report: Report

    def add(self, part: str, title: str, figure: str, samples: Mapping[str, Sequence[float]], *, rising: bool) -> None:
        """Put a series into the report, and print it."""
        kept = {server: [float(f"{value:.5g}") for value in values] for server, values in samples.items()}
        series = Series(part, title, figure, rising, kept)
        self.report.series.append(series)
        cells: list[str] = []
        for server in samples:
            text = f"{server} {number(series.spread(server).median)}"
            ratio = series.ratio(GATEWAY, server) if server != GATEWAY else None
            if ratio is not None:
                text += f" (×{ratio.median:.2f}, {ratio.least:.2f} to {ratio.most:.2f})"
            cells.append(text)
        print(f"{title} · {figure}: {'; '.join(cells)}", flush=True)

    def note(self, text: str) -> None:
        """Say something beside the figures, once."""
        if text not in self.report.notes:
            self.report.notes.append(text)
            print(text, flush=True)

    @contextmanager
    def running(self, *names: str, origin: int = 0, folder: str = "servers") -> Iterator[Sequence[Server]]:
        """Yield all kinds of server, or those of these names, over the upstream or another port."""
        with ExitStack() as scope:
            own = self.folder / folder
            own.mkdir(exist_ok=True)
            yield [
                scope.enter_context(kind.start(self.upstream, origin or self.upstream.begun.port, own, 1))
                for kind in self.kinds
                if not names or kind.name in names
            ]


def number(value: float) -> str:
    """Return a figure with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def turns(servers: Sequence[Server], rounds: int) -> Iterator[Server]:
    """Yield every server once in each round: another one begins each time, and every second round goes backwards."""
    for turn in range(rounds):
        first = turn // 2 % len(servers)
        order = [*servers[first:], *servers[:first]]
        yield from reversed(order) if turn % 2 else order


def request(server: Server, target: str, headers: Mapping[str, str]) -> bytes:
    """Return a whole GET."""
    lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", *(f"{n}: {v}" for n, v in headers.items())]
    return "\r\n".join((*lines, "", "")).encode()


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer that was looked into: its entity-tag and its body."""

    tag: str
    body: bytes


def ask(
    server: Server, target: str, headers: Mapping[str, str] | None = None, *, port: int = 0
) -> tuple[int, Message, bytes]:
    """Send one request, to the server's own port or another; return status, header fields and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port or server.port, timeout=30)
    try:
        connection.request("GET", target, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def fetched(server: Server, media: Media, headers: Mapping[str, str] | None = None, status: int = 200) -> Fetched:
    """Ask for a media once, and see that status, fields and bytes are right. Raises `BenchmarkFailed` if not."""
    found, fields, body = ask(server, server.link(media.ref), headers)
    tag = fields["ETag"] or ""
    right = found == status and bool(tag)
    match found:
        case 200:
            right = right and (len(body), hashlib.sha256(body).hexdigest()) == (media.length, media.sha256)
        case 206:
            right = right and fields["Content-Range"] == f"bytes 0-{len(body) - 1}/{media.length}"
        case _:
            right = right and not body
    if server.name.startswith(GATEWAY):
        wanted = _ALWAYS if found == 304 else (*_ALWAYS, *_WITH_A_BODY)
        right = right and all(name in fields for name in wanted)
    if not right:
        raise BenchmarkFailed(f"{server.name} answered {found} with {len(body)} bytes, {fields.items()}")
    return Fetched(tag, body)


def stored(server: Server, media: Sequence[Media]) -> None:
    """Have all of them stored: each is asked for, and a second time without the upstream's being asked."""
    for one in media:
        fetched(server, one)
        fetched(server, one)


Measured = Callable[[Server], Mapping[str, float]]
"""The measure of a server: it runs once, and gives a value for each figure."""


def alternate(servers: Sequence[Server], rounds: int, measured: Measured) -> dict[str, dict[str, list[float]]]:
    """Measure them in turns. Gives for each figure each server's values, one for a round."""
    samples: dict[str, dict[str, list[float]]] = {}
    for server in turns(servers, rounds):
        for figure, value in measured(server).items():
            samples.setdefault(figure, {one.name: [] for one in servers})[server.name].append(value)
    return samples
