"""A growing number of entries: what one takes of RAM, and how long a look-up takes in each tier."""

from __future__ import annotations

import asyncio
import random
import secrets
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from proxy.cache.disk.index import Index
from proxy.cache.entry import Entry, encode, make_entry, represent
from proxy.cache.ram.store import RamStore
from proxy.cache.stored import StoredResponse
from proxy.model import MediaRef
from proxy.origin import OriginHead
from proxy.semantics.fields import Fields
from proxy.telemetry.metrics import Metrics
from tests.benchmarks.tables import table

_LOOK_UPS = 20_000
_BATCHES = 7
_LENGTH = 2_000_000
_INSERT = (
    "INSERT INTO response (key, generation, length, used, deadline, epoch, metadata) VALUES (?, ?, ?, ?, NULL, ?, ?)"
)
_EPOCH = 1 << 62


def _ref(number: int) -> MediaRef:
    return MediaRef.parse("AC" + "a" * 32, f"MM{number // 3:032x}", f"ME{number:032x}")


def _entry(number: int) -> Entry:
    # From bytes, as a parser makes them: no text is shared between two responses.
    received = (
        f"Content-Type: image/jpeg\nContent-Length: {_LENGTH}\n"
        f'ETag: "{secrets.token_hex(16)}"\nLast-Modified: Tue, 15 Nov 2022 12:{number % 60:02}:31 GMT\n'
        f"Date: Tue, 15 Nov 2022 12:{number % 60:02}:31 GMT\nCache-Control: max-age=31536000"
    ).encode()
    lines = (line.decode().partition(": ") for line in received.split(b"\n"))
    fields = Fields.of((name, value) for name, _, value in lines)
    head = OriginHead(200, fields, _LENGTH, 1_800_000_000.0 + number, 1_800_000_000.1 + number)
    return make_entry(represent(_ref(number), head), length=_LENGTH, checksum=secrets.token_hex(32), epoch=_EPOCH)


@dataclass(frozen=True, slots=True)
class LookUps:
    """The figures of a number of entries: bytes of RAM each, and seconds for a look-up in each tier, of each batch."""

    bytes_each: float
    in_ram: Sequence[float]
    on_disk: Sequence[float]


def look_ups(sizes: Sequence[int]) -> dict[int, LookUps]:
    """Fill both tiers to each of the sizes, which grow, and look up at random there."""
    rows: list[list[str]] = []
    found: dict[int, LookUps] = {}
    process = psutil.Process()
    chance = random.Random(8)
    memory = RamStore(10**12, Metrics())
    with tempfile.TemporaryDirectory(prefix="media-gateway-bench-") as folder, asyncio.Runner() as runner:
        index = Index(Path(folder))
        index.open()
        before, held = process.memory_full_info().uss, 0
        for size in sizes:
            runner.run(_fill(memory, range(held, size)))
            each = (process.memory_full_info().uss - before) / size
            counted = memory.used_bytes / size
            inserted = _insert(Path(folder), range(held, size))
            held = size
            in_ram: list[float] = []
            on_disk: list[float] = []
            for _ in range(_BATCHES):
                keys = [str(_ref(chance.randrange(size))) for _ in range(_LOOK_UPS // _BATCHES)]
                in_ram.append(runner.run(_in_ram(memory, keys)))
                on_disk.append(_on_disk(index, keys))
            found[size] = LookUps(each, in_ram, on_disk)
            middle = _micro(statistics.median(in_ram), statistics.median(on_disk))
            rows.append([f"{size:,}", f"{each:,.0f}", f"{counted:,.0f}", *middle, f"{inserted:.1f}"])
        index.close()
    print()
    table(["entries", "RAM bytes each", "counted", "RAM look-up µs", "disk look-up µs", "rows written in s"], rows)
    return found


def _micro(*seconds: float) -> Iterator[str]:
    return (f"{1e6 * value:.2f}" for value in seconds)


async def _fill(memory: RamStore, numbers: Iterable[int]) -> None:
    for number in numbers:
        await memory.set(str(_ref(number)), StoredResponse(_entry(number), None, 0))


async def _in_ram(memory: RamStore, keys: Sequence[str]) -> float:
    began = time.perf_counter()
    for key in keys:
        await memory.fetch(key)
    return (time.perf_counter() - began) / len(keys)


def _on_disk(index: Index, keys: Sequence[str]) -> float:
    began = time.perf_counter()
    for key in keys:
        assert index.get(key) is not None
    return (time.perf_counter() - began) / len(keys)


def _insert(folder: Path, numbers: Iterable[int]) -> float:
    """Write rows as the index does, all in one transaction. Returns the seconds that it took."""
    metadata = encode(_entry(0))
    rows = ((str(_ref(n)), f"{n:032x}", _LENGTH, float(n), _EPOCH, metadata) for n in numbers)
    (file,) = folder.glob("index-*.sqlite3")
    began = time.perf_counter()
    db = sqlite3.connect(file)
    try:
        with db:
            db.executemany(_INSERT, rows)
    finally:
        db.close()
    return time.perf_counter() - began
