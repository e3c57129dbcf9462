"""All that a cache folder says is checked against bounds first: no number in it takes the gateway down."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import struct
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from proxy.cache import bounds
from proxy.cache.disk.index import Index
from proxy.cache.disk.threads import on
from proxy.cache.disk.visitor import visiting
from proxy.cache.engine import Engine
from proxy.cache.entry import Entry, decode, encode
from proxy.erasure import Reach
from proxy.errors import StoreError
from tests.unit.cache.extremes import VALUES, little_memory, within_bounds
from tests.unit.cache.rigs import Rig, fetch, settled
from tests.unit.cache.scripted import REF, HeldClock

FIELDS = [field.name for field in msgspec.structs.fields(Entry)]
Entries = Callable[..., Entry]


def altered(encoded: bytes, field: str, value: object) -> bytes:
    """Return an encoded entry with another value in place of one field."""
    parts: list[object] = msgspec.msgpack.decode(encoded)
    parts[FIELDS.index(field)] = value
    return msgspec.msgpack.encode(parts)


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_of_an_entry_is_decoded_out_of_bounds(entries: Entries, field: str) -> None:
    for value in VALUES:
        entry = decode(altered(encode(entries()), field, value))
        assert entry is None or all(within_bounds(part) for part in msgspec.structs.astuple(entry)), value


@pytest.mark.parametrize(
    ("field", "most"),
    [("length", bounds.LONGEST_BODY), ("epoch", bounds.LAST_NUMBER), ("answered_at", int(bounds.LATEST))],
)
def test_an_entry_of_the_longest_length_is_the_last_good(entries: Entries, field: str, most: int) -> None:
    encoded = encode(entries())
    assert decode(altered(encoded, field, most)) is not None
    assert decode(altered(encoded, field, most + 1)) is None


def database(folder: Path) -> sqlite3.Connection:
    (path,) = folder.glob("index-*.sqlite3")
    return sqlite3.connect(path, isolation_level=None)


async def content_of(engine: Engine) -> bytes:
    """Return what a reader gets if RAM holds nothing."""
    await engine.tiers.memory.clear()
    content, _ = await fetch(engine)
    await settled(engine)
    return content


@pytest.mark.parametrize("field", FIELDS)
async def test_an_entry_out_of_bounds_costs_one_fetch(rig: Rig, field: str) -> None:
    engine = await rig.engine()
    content = await content_of(engine)
    with little_memory():
        for value in VALUES:
            with closing(database(rig.folder)) as db:
                (metadata,) = db.execute("SELECT metadata FROM response").fetchone()
                db.execute("UPDATE response SET metadata = ?", (altered(metadata, field, value),))
            assert await content_of(engine) == content, value
            # Whatever it was, a sound one is in its place.
            assert await content_of(engine) == content, value


def columns(folder: Path) -> list[tuple[str, str]]:
    """Return every column of every table of an index."""
    with closing(database(folder)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return [(table, column) for table in tables for _, column, *_ in db.execute(f"PRAGMA table_info({table})")]


def empty_index(folder: Path) -> list[tuple[str, str]]:
    index = Index(folder, max_bytes=1)
    index.open()
    index.close()
    return columns(folder)


STORED = (-1, -(2**63), 2**40 + 1, 2**60 + 1, 2**63 - 1, 0.5, 1e300, math.inf, "", "text", b"\xff\xfe")


async def use(engine: Engine, folder: Path, clock: HeldClock) -> list[str]:
    """Call all that reads the index; return what failed."""
    disk = engine.tiers.disk
    assert disk is not None

    async def visit(work: Callable[[], object]) -> None:
        await asyncio.to_thread(work)

    def look() -> None:
        with visiting(folder, clock) as visitor:
            visitor.usage()
            visitor.statistics()
            visitor.bound()
            visitor.count("")

    def lift() -> Awaitable[None]:
        return engine.lift_revocation(Reach.of(REF))

    async def upkeep() -> None:
        # In the thread that the connection belongs to: one that another thread closes ends the whole process.
        await on(disk._index_thread, disk._index.forget_erasures, clock() - 1)
        await on(disk._index_thread, disk._index.forget_blocks, clock())
        await disk.orphans.reclaim()
        await disk._quota.evict(disk.max_footprint)

    failed: list[str] = []
    for work in (
        lambda: engine.erase(Reach.of(REF.parent)),
        lambda: engine.revoke(Reach.of(REF), 60),
        lambda: engine.block_kinds(REF),
        lift,
        lambda: engine.block_kinds(REF),
        disk.usage,
        disk.write_behind.write,
        engine.tiers.sweeper.sweep,
        upkeep,
        lambda: visit(look),
    ):
        try:
            await work()
        except StoreError as error:
            failed.append(error.note)
    return failed


@pytest.mark.parametrize(
    "table", ["response", "total", "erasure", "horizon", "verdict", "counter", "worker", "bound", "forgotten_verdict"]
)
async def test_no_value_in_the_index_does_lasting_harm(rig: Rig, tmp_path: Path, table: str) -> None:
    engine = await rig.engine()
    content = await content_of(engine)
    names = [column for name, column in await asyncio.to_thread(empty_index, tmp_path) if name == table]

    def damage(column: str, value: object) -> None:
        with closing(database(rig.folder)) as db, contextlib.suppress(sqlite3.IntegrityError):
            db.execute(f"UPDATE {table} SET {column} = ?", (value,))

    with little_memory():
        for column in names:
            for value in STORED:
                assert await content_of(engine) == content
                await engine.erase(Reach.of(REF.parent.account))
                await asyncio.to_thread(damage, column, value)
                # Where it cannot be told what is revoked, one request is refused.
                with contextlib.suppress(StoreError):
                    assert await content_of(engine) == content, (column, value)
                assert await content_of(engine) == content, (column, value)
                # One call may find the damage, and one what depends on it.
                for _ in range(2):
                    await use(engine, rig.folder, rig.clock)
                assert await use(engine, rig.folder, rig.clock) == [], (column, value)
                assert await content_of(engine) == content, (column, value)


def test_every_table_of_the_index_is_fed(tmp_path: Path) -> None:
    fed = {"response", "total", "erasure", "horizon", "verdict", "counter", "worker", "bound", "forgotten_verdict"}
    assert {table for table, _ in empty_index(tmp_path)} == fed


async def test_a_row_that_is_too_long_is_not_read(rig: Rig) -> None:
    engine = await rig.engine()
    content = await content_of(engine)
    with closing(database(rig.folder)) as db:
        db.execute("UPDATE response SET metadata = zeroblob(900000000)")
    with little_memory():
        assert await content_of(engine) == content
        assert await use(engine, rig.folder, rig.clock) == []


@pytest.mark.parametrize("number", [-1, -(2**63), 2**60, 2**62, 2**63 - 1])
async def test_an_epoch_out_of_bounds_hides_no_erasure(rig: Rig, number: int) -> None:
    engine = await rig.engine()
    content = await content_of(engine)
    (rig.folder / "epoch").write_bytes(struct.pack("q", number))
    other = await rig.engine()
    for _ in range(2):
        assert await content_of(engine) == content
        before = engine.tiers.epoch
        await other.erase(Reach.of(REF))
        assert engine.tiers.epoch > before
        assert engine.tiers.recall(str(REF)) is None


async def test_a_file_is_read_no_further_than_its_entry_says(rig: Rig) -> None:
    engine = await rig.engine()
    content = await content_of(engine)
    (path,) = (path for path in (rig.folder / "bodies").rglob("*") if path.is_file())
    with path.open("ab") as file:
        file.truncate(2**35)
    with little_memory():
        assert await content_of(engine) == content
