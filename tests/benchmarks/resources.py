"""Memory and start-up: at rest, under slow readers, and how long until a first good answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Final

from tests.benchmarks.bench import LARGE, MEGABYTE, SMALL, Bench, ask, fetched, number, request, stored
from tests.benchmarks.machine import tcp_memory
from tests.benchmarks.origin import Media
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.servers import Kind

MEMORY: Final = "memory (PSS), MB"
GROWTH: Final = "memory a reader, KB"
KERNEL: Final = "kernel's TCP buffers, MB"
START: Final = "first good answer after, ms"
REST: Final = "memory at rest (PSS), MB"

_SLOW_BYTES: Final = 20_000
_LOOK_SECONDS: Final = 0.25
_START_SECONDS: Final = 30.0


def slow_readers(bench: Bench) -> None:
    """Measure readers at 20 KB/s of a stored 5 MB media, of a server that has just been started."""
    readers = bench.scale.crowd
    (media,) = bench.upstream.add(LARGE, 1)
    figures: dict[str, dict[str, list[float]]] = {MEMORY: {}, GROWTH: {}, KERNEL: {}}
    for kind in bench.kinds:
        with bench.running(kind.name, folder="slow") as (server,):
            stored(server, [media])
            idle, kernel = server.child.memory(), tcp_memory()
            most = kernel_most = 0
            asked = request(server, server.link(media.ref), {})
            with bench.load.slow(server.port, readers, bench.scale.slow_seconds, asked, _SLOW_BYTES):
                ends = time.monotonic() + bench.scale.slow_seconds * 0.9
                while time.monotonic() < ends:
                    time.sleep(min(_LOOK_SECONDS, bench.scale.slow_seconds / 4))
                    most, kernel_most = max(most, server.child.memory()), max(kernel_most, tcp_memory())
            fetched(server, media)
        figures[MEMORY][kind.name] = [most / MEGABYTE]
        figures[GROWTH][kind.name] = [(most - idle) / readers / 1e3]
        figures[KERNEL][kind.name] = [(kernel_most - kernel) / MEGABYTE]
    for figure, values in figures.items():
        bench.add("slow-readers", f"{readers:,} readers at 20 KB/s of 5 MB", figure, values, rising=False)


def start_up(bench: Bench) -> None:
    """Measure the time from the program's start to a good answer with a stored media, and the memory then."""
    (media,) = bench.upstream.add(SMALL, 1)
    kinds = [kind for kind in bench.kinds if kind.keeps]
    for kind in kinds:
        with bench.running(kind.name, folder="start") as (server,):
            stored(server, [media])
    fetches = bench.upstream.fetches(media)
    figures: dict[str, dict[str, list[float]]] = {START: {}, REST: {}}
    for kind in _in_turns(kinds, bench.scale.starts):
        seconds, memory = _start(bench, kind, media)
        figures[START].setdefault(kind.name, []).append(seconds * 1e3)
        figures[REST].setdefault(kind.name, []).append(memory / MEGABYTE)
    if bench.upstream.fetches(media) != fetches:
        raise BenchmarkFailed("what was stored was fetched again after a start")
    for figure, values in figures.items():
        bench.add("start-up", "start", figure, values, rising=False)


def _start(bench: Bench, kind: Kind, media: Media) -> tuple[float, int]:
    began = time.perf_counter()
    with bench.running(kind.name, folder="start") as (server,):
        target = server.link(media.ref)
        while time.perf_counter() < began + _START_SECONDS:
            with contextlib.suppress(OSError):
                status, _, body = ask(server, target)
                if status == 200 and len(body) == media.length:
                    return time.perf_counter() - began, server.child.memory()
    raise BenchmarkFailed(f"{kind.name} gave no good answer in {number(_START_SECONDS)} s")


def _in_turns(kinds: Sequence[Kind], rounds: int) -> list[Kind]:
    return [kind for turn in range(rounds) for kind in (kinds if turn % 2 == 0 else kinds[::-1])]
