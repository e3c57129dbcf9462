"""How the cache bears a crowd: readers of one cold media, slow readers of a stored one, and one reader's throughput."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

import aiohttp
from yarl import URL

from proxy.model import MediaRef
from tests.benchmarks.load import Answered, readers, slow_readers
from tests.benchmarks.parts import Served, Upstream, tcp_memory

MEGABYTE = 1_000_000
STORED_BYTES = 5 * MEGABYTE
_SINGLES = 9
_SLOW = 20_000


def _p(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _show(what: str, answers: list[Answered]) -> None:
    whole, first = [answer.whole * 1000 for answer in answers], [answer.first * 1000 for answer in answers]
    print(
        f"  {what}: whole body p50 {_p(whole, 50):.1f} ms, p99 {_p(whole, 99):.1f} ms; "
        f"first byte p50 {_p(first, 50):.1f} ms, p99 {_p(first, 99):.1f} ms"
    )


@dataclass(frozen=True, slots=True)
class Crowd:
    """What a crowd of readers of one cold media cost and got."""

    fetches: int
    answers: list[Answered]


async def stampede(source: Upstream, served: Served, number: int) -> Crowd:
    """Readers of one cold media at one instant, beside single fetches of cold ones, with the gateway and without."""
    direct = [await _direct(source, await source.add(MEGABYTE)) for _ in range(_SINGLES)]
    async with readers(served.host, served.port, 1) as (single,):
        alone = [await single.get(served.target(await source.add(MEGABYTE))) for _ in range(_SINGLES)]
    before = await source.fetches()
    target = served.target(await source.add(MEGABYTE))
    async with readers(served.host, served.port, number) as crowd:
        answers = list(await asyncio.gather(*(reader.get(target) for reader in crowd)))
    fetches = await source.fetches() - before
    assert all(answer.length == MEGABYTE for answer in answers)
    print(f"\n{number:,} readers of one cold 1 MB media: upstream fetches {fetches}")
    _show("the crowd", answers)
    _show("alone, through the gateway", alone)
    print(f"  alone, from the upstream: whole body p50 {statistics.median(direct) * 1000:.1f} ms")
    return Crowd(fetches, answers)


async def _direct(source: Upstream, ref: MediaRef) -> float:
    began = time.perf_counter()
    credentials = aiohttp.encode_basic_auth(source.account_sid, source.auth_token)
    async with aiohttp.ClientSession() as session:
        asking = session.get(source.url(ref), headers={"Authorization": credentials}, allow_redirects=False)
        async with asking as redirect:
            location = URL(redirect.headers["Location"], encoded=True)
        async with session.get(location) as answer:
            answer.raise_for_status()
            assert len(await answer.read()) == MEGABYTE
    return time.perf_counter() - began


async def slow(source: Upstream, served: Served, number: int, seconds: float) -> None:
    """Readers at 20 KB/s of a stored 5 MB media: the memory that they cost, of the process and of the kernel."""
    target = served.target(await source.add(STORED_BYTES))
    async with readers(served.host, served.port, 1) as (first,):
        await first.get(target)
    idle, kernel = served.resident(), tcp_memory()
    most = kernel_most = 0
    async with slow_readers(served.host, served.port, target, number, _SLOW):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await asyncio.sleep(min(0.5, seconds))
            most, kernel_most = max(most, served.resident()), max(kernel_most, tcp_memory())
    print(f"\n{number:,} readers at 20 KB/s of a stored 5 MB media:")
    each = (most - idle) / number / 1000
    print(f"  process {most / MEGABYTE:.0f} MB, idle {idle / MEGABYTE:.0f} MB: {each:.0f} KB a reader")
    print(f"  kernel's TCP buffers {kernel_most / MEGABYTE:.0f} MB, before {kernel / MEGABYTE:.0f} MB")


async def throughput(source: Upstream, served: Served, seconds: float) -> None:
    """One reader of a stored 5 MB media, again and again."""
    target = served.target(await source.add(STORED_BYTES))
    async with readers(served.host, served.port, 1) as (reader,):
        await reader.get(target)
        answers: list[Answered] = []
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            answers.append(await reader.get(target))
        took = time.monotonic() - began
    print(f"\nA stored 5 MB media, one reader: {len(answers) * STORED_BYTES / took / MEGABYTE:.0f} MB/s")
    _show("each", answers)
