"""`python -m tests.benchmarks [--smoke]`: every benchmark, one after the other, with its figures."""

from __future__ import annotations

import argparse
import asyncio
import os
from dataclasses import dataclass
from typing import Final

from tests.benchmarks import cache, entries, eviction
from tests.benchmarks.cache import Crowd
from tests.benchmarks.parts import free_port, gateway, pinned, upstream


@dataclass(frozen=True, slots=True)
class Scale:
    """How large each benchmark is; `seconds` is for the parts that are measured over a time."""

    readers: int
    seconds: float
    entries: tuple[int, ...]
    media: int
    requests: int
    alphas: tuple[float, ...]


FULL: Final = Scale(1_000, 10.0, (1_000, 100_000, 1_000_000), 100_000, 500_000, (0.7, 0.9, 1.1))
SMOKE: Final = Scale(20, 0.5, (100, 1_000), 1_000, 3_000, (0.9,))


async def crowds(scale: Scale) -> Crowd:
    """The benchmarks with a gateway and an upstream."""
    async with upstream() as source, gateway(source, free_port()) as served:
        with pinned(1):
            crowd = await cache.stampede(source, served, scale.readers)
            await cache.throughput(source, served, scale.seconds)
            await cache.slow(source, served, scale.readers, scale.seconds)
    return crowd


def main(scale: Scale) -> None:
    """Run everything. The machine's load is printed, since it is in every figure."""
    print("load average {:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg()), f"on {os.cpu_count()} cores", flush=True)
    asyncio.run(crowds(scale))
    entries.look_ups(scale.entries)
    eviction.compare(scale.media, scale.requests, scale.alphas)


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    options.add_argument("--smoke", action="store_true", help="run each part small, to see that it runs")
    main(SMOKE if options.parse_args().smoke else FULL)
