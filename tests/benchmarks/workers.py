"""One worker and two: what a second core adds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from tests.benchmarks.bench import LARGE, SMALL, Bench, alternate, request, stored
from tests.benchmarks.load import Expected
from tests.benchmarks.machine import cores
from tests.benchmarks.rates import BUSY, CPU, RATE, add_rates
from tests.benchmarks.servers import GATEWAY, NGINX, Server

_CONNECTIONS: Final = 64
_WARM_SECONDS: Final = 0.5


def workers(bench: Bench) -> None:
    """Measure 20 KB and 5 MB from one worker and two, of the gateway and of nginx."""
    said = subprocess.run([sys.executable, "-m", "proxy", "serve", "--help"], capture_output=True, text=True).stdout
    if "--workers" not in said:
        bench.note("workers: skipped, `media-gateway serve` has no option --workers")
        return
    if len(cores()) < 3:
        bench.note(f"workers: on {len(cores())} cores, two workers share them with the load")
    with ExitStack() as scope:
        servers: list[Server] = []
        for kind in bench.kinds:
            if kind.name not in (GATEWAY, NGINX):
                continue
            for count in (1, 2):
                folder = bench.folder / f"workers-{count}"
                folder.mkdir(exist_ok=True)
                server = scope.enter_context(kind.start(bench.upstream, bench.upstream.begun.port, folder, count))
                servers.append(server.renamed(f"{kind.name}, {count} worker{'s' if count > 1 else ''}"))
        for size, title in ((SMALL, "20 KB, stored"), (LARGE, "5 MB, stored")):
            _compare(bench, servers, size, f"{title}, 1 and 2 workers")


def _compare(bench: Bench, servers: list[Server], size: int, title: str) -> None:
    media = bench.upstream.add(size, 4)
    asked: dict[str, list[bytes]] = {}
    for server in servers:
        stored(server, media)
        asked[server.name] = [request(server, server.link(one.ref), {}) for one in media]

    def measured(server: Server) -> Mapping[str, float]:
        before = server.child.cpu_seconds()
        answered = bench.load.steady(
            server.port, _CONNECTIONS, bench.scale.seconds, asked[server.name], Expected(200, size), core=None
        )
        used = server.child.cpu_seconds() - before
        return {RATE: answered.answers / answered.seconds, CPU: used / answered.answers * 1e6, BUSY: answered.busy}

    for server in servers:
        # Each worker has to have met each media.
        bench.load.steady(
            server.port, _CONNECTIONS, min(_WARM_SECONDS, bench.scale.seconds), asked[server.name],
            Expected(200, size), core=None,
        )  # fmt: skip
    add_rates(bench, "workers", title, alternate(servers, bench.scale.rounds, measured))
