"""A benchmark of links a second: minted over HTTP and in a process that has the key."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Final

from proxy.links import LinkMinter
from proxy.model import MediaRef
from tests.benchmarks.bench import SMALL, Bench
from tests.benchmarks.load import Expected
from tests.benchmarks.machine import pinned
from tests.benchmarks.servers import CLIENT, GATEWAY, Server

LINKS: Final = "links a second"
CPU_LINK: Final = "server CPU, µs a link"

_CONNECTIONS: Final = 32
_BATCH: Final = 100


def minting(bench: Bench, servers: Sequence[Server]) -> None:
    """Measure one link a call and many, and `LinkMinter` alone."""
    server = next(server for server in servers if server.name == GATEWAY)
    refs = [media.ref for media in bench.upstream.add(SMALL, _BATCH)]
    for count in (1, _BATCH):
        title = f"POST /links, {count} a call"
        made = [_over_http(bench, server, refs[:count]) for _ in range(bench.scale.rounds)]
        bench.add("mint", title, LINKS, {GATEWAY: [rate for rate, _ in made]}, rising=True)
        bench.add("mint", title, CPU_LINK, {GATEWAY: [cpu for _, cpu in made]}, rising=False)
    alone = [_in_process(refs, bench.scale.seconds) for _ in range(bench.scale.rounds)]
    bench.add("mint", "LinkMinter in one's own process", LINKS, {GATEWAY: alone}, rising=True)


def _over_http(bench: Bench, server: Server, refs: Sequence[MediaRef]) -> tuple[float, float]:
    body = json.dumps({"media": [_named(ref) for ref in refs], "ttl": 300}).encode()
    credentials = base64.b64encode(":".join(CLIENT).encode()).decode()
    head = (
        f"POST /links HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Basic {credentials}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    before = server.child.cpu_seconds()
    answered = bench.load.steady(
        server.port, _CONNECTIONS, bench.scale.seconds, [head.encode() + body], Expected(201, None)
    )
    links = answered.answers * len(refs)
    return links / answered.seconds, (server.child.cpu_seconds() - before) / links * 1e6


def _named(ref: MediaRef) -> Mapping[str, str]:
    return {"account_sid": ref.account.value, "message_sid": ref.message.value, "media_sid": ref.media.value}


def _in_process(refs: Sequence[MediaRef], seconds: float) -> float:
    minter = LinkMinter("https://media.example.com", f"bench:{'m' * 40}")
    count = 0
    with pinned(0):
        began = time.perf_counter()
        while time.perf_counter() < began + seconds:
            for ref in refs:
                minter.mint(ref)
            count += len(refs)
        return count / (time.perf_counter() - began)
