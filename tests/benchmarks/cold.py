"""Media that nobody has stored: the first byte of small ones, the processor time of large ones, and a crowd."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Final

from tests.benchmarks.bench import LARGE, MEGABYTE, SMALL, Bench, alternate, fetched, request
from tests.benchmarks.load import Answered, Expected
from tests.benchmarks.origin import Media
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.servers import GATEWAY, NGINX, VARNISH, Server

FIRST: Final = "first byte p50, ms"
FIRST_LATE: Final = "first byte p99, ms"
WHOLE: Final = "whole body p50, ms"
WHOLE_LATE: Final = "whole body p99, ms"
ALONE: Final = "alone, ms"
FETCHES: Final = "upstream fetches"
CPU_FETCH: Final = "server CPU, µs an answer"
CPU_MEGABYTE: Final = "server CPU, ms a MB"

FIRST_PLAY: Final = "start shown, s"
SEEK: Final = "seek {} shown, s from the start"

_FILM_LINE: Final = 3 * MEGABYTE
_CUT_BYTES: Final = 250_000
"""The bytes that a browser reads of a film before it cuts the connection and asks on."""
_SEEKS: Final = {"to the middle": 0.5, "near the end": 0.95, "back to a tenth": 0.1}
SEEK_FIGURES: Final = tuple(SEEK.format(name) for name in _SEEKS)
_LONGEST_SECONDS: Final = 60.0
_QUIET_SECONDS: Final = 0.2


class _Fresh:
    """Media that a server has not met: the same ones for each server, others for each of its turns."""

    def __init__(self, bench: Bench, size: int, count: int) -> None:
        self._bench, self._size, self._count = bench, size, count
        self._made: list[Sequence[Media]] = []
        self._used: dict[str, int] = {}

    def following(self, server: Server) -> Sequence[Media]:
        turn = self._used.get(server.name, 0)
        self._used[server.name] = turn + 1
        if turn == len(self._made):
            self._made.append(self._bench.upstream.add(self._size, self._count))
        return self._made[turn]


def _ask_each(bench: Bench, server: Server, media: Sequence[Media]) -> tuple[Answered, float]:
    """Send one after the other on one connection; return the server's processor seconds as well."""
    asked = [request(server, server.link(one.ref), {}) for one in media]
    fetches = bench.upstream.fetches(media[-1])
    before = server.child.cpu_seconds()
    answered = bench.load.steady(server.port, 1, _LONGEST_SECONDS, asked, Expected(200, media[0].length), once=True)
    # What is written behind the answer is in the price.
    time.sleep(_QUIET_SECONDS)
    used = server.child.cpu_seconds() - before
    fetched(server, media[-1])
    if bench.upstream.fetches(media[-1]) != fetches + 1:
        raise BenchmarkFailed(f"{server.name} did not fetch a cold media exactly once")
    return answered, used


def small(bench: Bench, servers: Sequence[Server]) -> None:
    """Measure 20 KB of cold media, one after the other."""
    fresh = _Fresh(bench, SMALL, bench.scale.cold)

    def measured(server: Server) -> Mapping[str, float]:
        media = fresh.following(server)
        answered, used = _ask_each(bench, server, media)
        return {FIRST: answered.first_p50 * 1e3, CPU_FETCH: used / len(media) * 1e6}

    for figure, values in alternate(servers, bench.scale.rounds, measured).items():
        bench.add("cold-20k", "20 KB, cold", figure, values, rising=False)


def large(bench: Bench, servers: Sequence[Server]) -> None:
    """Measure 5 MB of cold media, one after the other."""
    fresh = _Fresh(bench, LARGE, bench.scale.cold_large)

    def measured(server: Server) -> Mapping[str, float]:
        media = fresh.following(server)
        answered, used = _ask_each(bench, server, media)
        megabytes = len(media) * LARGE / MEGABYTE
        return {CPU_MEGABYTE: used / megabytes * 1e3, FIRST: answered.first_p50 * 1e3, WHOLE: answered.p50 * 1e3}

    for figure, values in alternate(servers, bench.scale.rounds, measured).items():
        bench.add("cold-5m", "5 MB, cold", figure, values, rising=False)


def _watched(server: Server, media: Media, first: int) -> float:
    """Ask for a film from a byte on, read some of it and cut the connection; return the seconds to the first byte."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port), timeout=_LONGEST_SECONDS) as viewer:
        viewer.sendall(request(server, server.link(media.ref), {"Range": f"bytes={first}-"}))
        head = viewer.recv(65_536)
        if not head.startswith(b"HTTP/1.1 206 "):
            raise BenchmarkFailed(f"{server.name} answered a seek with {head[:20]!r}")
        while b"\r\n\r\n" not in head or head.endswith(b"\r\n\r\n"):
            head += viewer.recv(65_536)
        seconds = time.perf_counter() - began
        left = min(_CUT_BYTES, media.length - first) - len(head)
        while left > 0:
            left -= len(viewer.recv(65_536)) or left
    return seconds


def seeks(bench: Bench) -> None:
    """Measure a viewer of a cold film over a slow line, who cuts the connection at each seek."""
    line = bench.upstream.line(_FILM_LINE)
    with bench.running(GATEWAY, NGINX, origin=line, folder="seeks") as servers:
        fresh = _Fresh(bench, bench.scale.film, 1)

        def measured(server: Server) -> Mapping[str, float]:
            (media,) = fresh.following(server)
            before = bench.upstream.fetches(media)
            figures = {FIRST_PLAY: _watched(server, media, 0)}
            # In all, since who has waited for the whole film at one seek waits for nothing at the next.
            waited = figures[FIRST_PLAY]
            for name, share in _SEEKS.items():
                waited += _watched(server, media, int(share * media.length))
                figures[SEEK.format(name)] = waited
            return {FETCHES: bench.upstream.fetches(media) - before, **figures}

        title = f"one viewer of a cold {bench.scale.film / MEGABYTE:g} MB film, upstream {_FILM_LINE / MEGABYTE:g} MB/s"
        for figure, values in alternate(servers, bench.scale.crowd_rounds, measured).items():
            bench.add("seeks", title, figure, values, rising=False)


def stampede(bench: Bench) -> None:
    """Measure readers of one cold 1 MB media at one instant, over a slow upstream."""
    readers = bench.scale.crowd
    with bench.running(GATEWAY, NGINX, VARNISH, origin=bench.upstream.begun.slow_port, folder="crowd") as servers:
        fresh = _Fresh(bench, MEGABYTE, 2)

        def measured(server: Server) -> Mapping[str, float]:
            alone, crowded = fresh.following(server)
            expected = Expected(200, MEGABYTE)
            single = bench.load.crowd(server.port, 1, request(server, server.link(alone.ref), {}), expected)
            before = bench.upstream.fetches(crowded)
            together = bench.load.crowd(server.port, readers, request(server, server.link(crowded.ref), {}), expected)
            return {
                FETCHES: bench.upstream.fetches(crowded) - before,
                ALONE: single.p50 * 1e3,
                FIRST: together.first_p50 * 1e3,
                FIRST_LATE: together.first_p99 * 1e3,
                WHOLE: together.p50 * 1e3,
                WHOLE_LATE: together.p99 * 1e3,
            }

        title = f"{readers:,} readers of a cold 1 MB, upstream {bench.scale.slow_line / MEGABYTE:g} MB/s"
        for figure, values in alternate(servers, bench.scale.crowd_rounds, measured).items():
            bench.add("stampede", title, figure, values, rising=False)
