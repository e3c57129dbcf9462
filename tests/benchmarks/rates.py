"""A benchmark of answers a second and processor time: stored media, servers in turns on one core."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from tests.benchmarks.bench import LARGE, MEDIUM, MEGABYTE, SMALL, Bench, alternate, ask, fetched, request, stored
from tests.benchmarks.load import Answered, Expected
from tests.benchmarks.machine import program
from tests.benchmarks.origin import Media
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.servers import GATEWAY, VARNISH, Server

RATE: Final = "answers a second"
CPU: Final = "server CPU, µs an answer"
LATENCY: Final = "p99, ms"
BUSY: Final = "the load's share of its core"
LANE: Final = "by the express lane, %"

_WARM_SECONDS: Final = 0.2
_TOO_BUSY: Final = 0.95
_LANES: Final = re.compile(r'^media_gateway_answers_total\{lane="(?P<lane>\w+)"\} (?P<count>\S+)$', re.MULTILINE)
_FRESH_A_SECOND: Final = 60_000

BROWSER: Final = MappingProxyType(
    {
        "Connection": "keep-alive",
        "sec-ch-ua-platform": '"Windows"',
        "User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/142.0.0.0 Safari/537.36",
        "sec-ch-ua": '"Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"',
        "sec-ch-ua-mobile": "?0",
        "Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "no-cors",
        "Sec-Fetch-Dest": "image",
        "Referer": "https://support.example.com/conversations/1842",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    }
)


@dataclass(frozen=True, slots=True)
class Case:
    """Requests of one sort. `validated` sends each media's own entity-tag, `fresh` a link that is new each time."""

    part: str
    title: str
    size: int
    connections: int = 32
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    length: int | None = None
    validated: bool = False
    fresh: bool = False

    @property
    def expected(self) -> Expected:
        return Expected(self.status, self.size if self.length is None else self.length)


def cases(connections: Sequence[int]) -> list[Case]:
    """Return every case; `connections` are the numbers of them to be tried beyond 32."""
    part = {"Range": f"bytes=0-{MEGABYTE - 1}"}
    return [
        Case("hit-20k", "20 KB, stored", SMALL),
        Case("hit-200k", "200 KB, stored", MEDIUM),
        Case("hit-5m", "5 MB, stored", LARGE),
        Case("range", "1 MB range of 5 MB", LARGE, headers=part, status=206, length=MEGABYTE),
        Case("not-modified", "304", SMALL, status=304, validated=True),
        Case("browser", "20 KB, a browser's request", SMALL, headers=BROWSER),
        Case("first-seen", "20 KB, every link new", SMALL, fresh=True),
        *(Case(f"hit-{n}", f"20 KB, {n:,} connections", SMALL, n) for n in connections),
    ]


class Stock:
    """The media that all servers have stored, by size."""

    def __init__(self, bench: Bench, servers: Sequence[Server]) -> None:
        self._bench, self._servers = bench, servers
        self._media: dict[int, Sequence[Media]] = {}

    def of(self, size: int) -> Sequence[Media]:
        """Return media of that size, stored in every server."""
        if size not in self._media:
            self._media[size] = self._bench.upstream.add(size, self._bench.scale.stored[size])
            for server in self._servers:
                stored(server, self._media[size])
                _refuses(server, self._media[size][0])
        return self._media[size]


def _refuses(server: Server, media: Media) -> None:
    """See that a server knows a bad signature, but for Varnish, which looks at none."""
    target = server.link(media.ref)
    altered = target[:-2] + ("A" if target[-2] != "A" else "B") + target[-1]
    status, _, _ = ask(server, altered)
    if status != (200 if server.name == VARNISH else 403):
        raise BenchmarkFailed(f"{server.name} answered an altered link with {status}")


def rates(bench: Bench, servers: Sequence[Server], wanted: Sequence[str]) -> None:
    """Measure every wanted case, one after the other."""
    stock = Stock(bench, servers)
    for case in cases(bench.scale.connections):
        if case.part in wanted:
            _compare(bench, servers, case, stock.of(case.size))
    if "wrk" in wanted:
        _by_wrk(bench, servers, stock.of(SMALL))


def _compare(bench: Bench, servers: Sequence[Server], case: Case, media: Sequence[Media]) -> None:
    requests = {server.name: _repeated(server, case, media) for server in servers}

    def once(server: Server, seconds: float) -> Answered:
        asked = requests[server.name]
        if case.fresh:
            count = int(_FRESH_A_SECOND * seconds)
            asked = [request(server, server.new_link(media[n % len(media)].ref), {}) for n in range(count)]
        return bench.load.steady(server.port, case.connections, seconds, asked, case.expected, once=case.fresh)

    def measured(server: Server) -> Mapping[str, float]:
        before = server.child.cpu_seconds()
        answered = once(server, bench.scale.seconds)
        used = server.child.cpu_seconds() - before
        return {
            RATE: answered.answers / answered.seconds,
            CPU: used / answered.answers * 1e6,
            LATENCY: answered.p99 * 1e3,
            BUSY: answered.busy,
        }

    for server in servers:
        once(server, min(_WARM_SECONDS, bench.scale.seconds))
    before = [lanes(server) for server in servers if server.metrics_port]
    add_rates(bench, case.part, case.title, alternate(servers, bench.scale.rounds, measured))
    after = [lanes(server) for server in servers if server.metrics_port]
    shares = [_share(*counts) for counts in zip(before, after, strict=True)]
    bench.add(case.part, case.title, LANE, {GATEWAY: shares}, rising=True)


def lanes(server: Server) -> tuple[float, float]:
    """Return how many answers a gateway's express lane has given so far, and how many there were in all."""
    _, _, text = ask(server, "/metrics", port=server.metrics_port)
    found = {line["lane"]: float(line["count"]) for line in _LANES.finditer(text.decode())}
    return found["express"], found["express"] + found["ordinary"]


def _share(before: tuple[float, float], after: tuple[float, float]) -> float:
    return 100 * (after[0] - before[0]) / (after[1] - before[1])


def add_rates(bench: Bench, part: str, title: str, samples: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Put the figures of a case into the report; more is better of the rate alone."""
    for figure, values in samples.items():
        bench.add(part, title, figure, values, rising=figure == RATE)
    for server, shares in samples[BUSY].items():
        if max(shares) > _TOO_BUSY:
            bench.note(f"{title}: the load had its own core full beside {server}, whose rate may be higher")


def _repeated(server: Server, case: Case, media: Sequence[Media]) -> list[bytes]:
    """Return a request for each media, each tried once."""
    made: list[bytes] = []
    for one in media:
        headers = dict(case.headers)
        if case.validated:
            headers["If-None-Match"] = fetched(server, one).tag
        answer = fetched(server, one, headers, case.status)
        if case.status == 206 and answer.body != fetched(server, one).body[:MEGABYTE]:
            raise BenchmarkFailed(f"{server.name} sent another range than was asked for")
        made.append(request(server, server.link(one.ref), headers))
    return made


def _by_wrk(bench: Bench, servers: Sequence[Server], media: Sequence[Media]) -> None:
    """Measure the first case again by a load that others wrote."""
    seconds = int(bench.scale.seconds)
    if program("wrk") is None or seconds < 1:
        bench.note("wrk: skipped, " + ("it knows whole seconds alone" if program("wrk") else "it is not installed"))
        return

    def measured(server: Server) -> Mapping[str, float]:
        requests = [request(server, server.link(one.ref), {}) for one in media]
        before = server.child.cpu_seconds()
        answered = bench.load.wrk(server.port, 32, seconds, requests)
        used = server.child.cpu_seconds() - before
        return {RATE: answered.answers / answered.seconds, CPU: used / answered.answers * 1e6, BUSY: answered.busy}

    add_rates(bench, "wrk", "20 KB, stored, by wrk", alternate(servers, bench.scale.rounds, measured))
