"""How the cache bears a crowd: `python -m tests.benchmarks.cache [--readers N] [--entries N]`.

A thousand readers of one cold media, a thousand slow readers of a stored one, and look-ups among a million entries.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from proxy.cache.entry import Entry, make_entry, represent
from proxy.cache.index import Index, Row
from proxy.cache.memory import Held, MemoryBackend
from proxy.model import MediaRef
from proxy.origin import OriginHead
from proxy.semantics.fields import Fields
from tests.benchmarks.parts import Served, Upstream, free_port, gateway, tcp_memory, upstream

MEGABYTE = 1_000_000
_FIELDS = Fields(
    (
        ("Content-Type", "image/jpeg"),
        ("ETag", '"0123456789abcdef0123456789abcdef"'),
        ("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT"),
        ("Date", "Sun, 22 Nov 2026 20:00:00 GMT"),
        ("Cache-Control", "max-age=3600"),
    )
)


async def _exchange(host: str, port: int, target: str, go: asyncio.Event) -> tuple[float, float, int]:
    """Seconds to the first byte and to the last, and bytes of body, of one GET sent when `go` is set."""
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    await go.wait()
    began = time.perf_counter()
    writer.write(f"GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    first = time.perf_counter() - began
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    left = length
    while left:
        left -= len(await reader.read(min(left, 1 << 18)))
    whole = time.perf_counter() - began
    writer.close()
    return first, whole, length


def _p(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] * 1000


async def stampede(source: Upstream, served: Served, readers: int) -> None:
    """Readers of one cold media at one instant, beside a single fetch of another one."""
    at_once = asyncio.Event()
    at_once.set()
    single = [
        (await _exchange(served.host, served.port, served.target(await source.add(MEGABYTE)), at_once))[1]
        for _ in range(5)
    ]
    before = await source.fetches()
    target = served.target(await source.add(MEGABYTE))
    go = asyncio.Event()
    crowd = [asyncio.ensure_future(_exchange(served.host, served.port, target, go)) for _ in range(readers)]
    await asyncio.sleep(1)
    go.set()
    answers = await asyncio.gather(*crowd)
    whole = [answer[1] for answer in answers]
    print(f"{readers} readers of one cold 1 MB media:")
    print(f"  upstream fetches {await source.fetches() - before}")
    print(f"  whole body p50 {_p(whole, 50):.0f} ms, p99 {_p(whole, 99):.0f} ms")
    print(f"  first byte p50 {_p([answer[0] for answer in answers], 50):.0f} ms")
    print(f"  a single cold fetch {statistics.median(single) * 1000:.1f} ms")


async def slow_readers(source: Upstream, served: Served, readers: int, seconds: float) -> None:
    """Readers at 20 KB/s of a stored 5 MB media: the memory that they cost."""
    ref = await source.add(5 * MEGABYTE)
    go = asyncio.Event()
    go.set()
    await _exchange(served.host, served.port, served.target(ref), go)
    idle, kernel = served.resident(), tcp_memory()
    request = f"GET {served.target(ref)} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    over = asyncio.Event()

    async def read_slowly() -> None:
        reader, writer = await asyncio.open_connection(served.host, served.port, limit=4096)
        writer.write(request)
        while not over.is_set():
            await reader.read(2_000)
            await asyncio.sleep(0.1)
        writer.transport.abort()

    crowd = [asyncio.ensure_future(read_slowly()) for _ in range(readers)]
    most = kernel_most = 0
    for _ in range(int(seconds * 2)):
        await asyncio.sleep(0.5)
        most, kernel_most = max(most, served.resident()), max(kernel_most, tcp_memory())
    over.set()
    await asyncio.gather(*crowd)
    print(f"{readers} readers at 20 KB/s of a stored 5 MB media:")
    print(f"  process {most / MEGABYTE:.0f} MB, idle {idle / MEGABYTE:.0f} MB")
    print(f"  kernel buffers {kernel_most / MEGABYTE:.0f} MB, before {kernel / MEGABYTE:.0f} MB")


def _ref(number: int) -> MediaRef:
    return MediaRef.parse("AC" + "a" * 32, f"MM{number // 3:032x}", f"ME{number:032x}")


def _entry(ref: MediaRef) -> Entry:
    head = OriginHead(200, _FIELDS, 20_480, 1_800_000_000.0, 1_800_000_000.1)
    return make_entry(represent(ref, head), length=20_480, checksum="0" * 64, epoch=1 << 62)


def _per_call(call: Callable[[str], object], keys: list[str]) -> float:
    began = time.perf_counter()
    for key in keys:
        call(key)
    return (time.perf_counter() - began) / len(keys) * 1e6


def look_ups(most: int) -> None:
    """Memory of an entry, and the time of a look-up, at three sizes of each tier."""
    sizes = sorted({1_000, min(100_000, most), most})
    print("entries      RAM bytes/entry   RAM look-up   disk look-up")
    for size in sizes:
        memory = MemoryBackend(10**12)
        tracemalloc.start()
        loop = asyncio.new_event_loop()
        before = tracemalloc.get_traced_memory()[0]
        keys: list[str] = []

        async def fill(held: MemoryBackend, count: int, names: list[str]) -> None:
            for number in range(count):
                ref = _ref(number)
                names.append(str(ref))
                await held.set(names[-1], Held(_entry(ref), None, 0))

        loop.run_until_complete(fill(memory, size, keys))
        each = (tracemalloc.get_traced_memory()[0] - before) / size
        tracemalloc.stop()
        sample = [random.Random(7).choice(keys) for _ in range(1)] + random.Random(8).choices(keys, k=20_000)

        async def look(held: MemoryBackend, names: list[str]) -> float:
            began = time.perf_counter()
            for name in names:
                await held.fetch(name)
            return (time.perf_counter() - began) / len(names) * 1e6

        in_ram = loop.run_until_complete(look(memory, sample))
        loop.close()
        with tempfile.TemporaryDirectory(prefix="media-gateway-bench-") as folder:
            on_disk = _disk_look_up(Path(folder), keys, sample)
        print(f"{size:9,}    {each:15,.0f}   {in_ram:8.2f} µs   {on_disk:9.2f} µs")


def _disk_look_up(folder: Path, keys: list[str], sample: list[str]) -> float:
    index = Index(folder)
    index.open()
    row = Row("0" * 32, 20_480, None, 1 << 62, b"m" * 400)
    for number, key in enumerate(keys):
        index.put(key, row, used=float(number))
    try:
        return _per_call(index.get, sample)
    finally:
        index.close()


async def main() -> None:
    """Run all three and print what was seen."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--readers", type=int, default=1_000)
    options.add_argument("--entries", type=int, default=1_000_000)
    options.add_argument("--seconds", type=float, default=10.0)
    asked = options.parse_args()
    async with upstream() as source, gateway(source, free_port()) as served:
        await stampede(source, served, asked.readers)
        await slow_readers(source, served, asked.readers, asked.seconds)
    await asyncio.to_thread(look_ups, asked.entries)


if __name__ == "__main__":
    asyncio.run(main())
