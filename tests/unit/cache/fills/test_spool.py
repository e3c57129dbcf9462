"""The bytes of a fill as they come: in RAM, in a file, and within the allowance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from proxy.cache.body import BLOCK
from proxy.cache.checksum import Checksum, checksum
from proxy.cache.disk.files import BodyFile
from proxy.cache.disk.store import DiskStore, open_disk
from proxy.cache.fills.spool import Allowance, Spool, Window
from proxy.errors import Overloaded, StoreError
from tests.unit.cache.scripted import HeldClock

GENERATION = "ab" * 16
PLENTY = 100 * BLOCK


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[DiskStore]:
    async with open_disk(tmp_path, 1_000_000_000, HeldClock()) as store:
        yield store


def blocks(count: int) -> list[bytes]:
    return [bytes([n]) * BLOCK for n in range(count)]


def break_writes(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    write = BodyFile.write

    async def failing(file: BodyFile, blocks: Sequence[bytes], offset: int, checksum: Checksum) -> None:
        if offset >= after:
            raise StoreError(note="full")
        await write(file, blocks, offset, checksum)

    monkeypatch.setattr(BodyFile, "write", failing)


def is_free(allowance: Allowance, size: int) -> bool:
    try:
        allowance.take(size)
    except Overloaded:
        return False
    allowance.give(size)
    return True


async def test_a_small_body_settles_in_ram_with_its_checksum(disk: DiskStore) -> None:
    spool = Spool(GENERATION, disk, 10, Allowance(10))
    await spool.append(b"01234")
    await spool.append(b"56789")
    assert await spool.settle() == (b"0123456789", checksum(b"0123456789"))
    await spool.close(kept=False)


async def test_a_large_body_is_read_from_its_file_and_ram(disk: DiskStore) -> None:
    allowance = Allowance(PLENTY)
    spool = Spool(GENERATION, disk, 10, allowance)
    content = b"".join(blocks(5)) + b"end"
    for at in range(0, len(content), 100_000):
        await spool.append(content[at : at + 100_000])
    assert await spool.read(len(content) - 3, 10) == b"end"
    settled = await spool.settle()
    assert settled is not None
    file, found = settled
    assert isinstance(file, BodyFile)
    assert found == checksum(content)
    assert file.path.read_bytes() == content
    assert await spool.read(BLOCK - 1, 2) == b"\x00\x01"
    assert is_free(allowance, PLENTY)
    await spool.close(kept=False)
    assert not file.path.exists()


async def test_a_body_just_too_long_for_ram_goes_to_file(disk: DiskStore) -> None:
    spool = Spool(GENERATION, disk, 9, Allowance(PLENTY))
    await spool.append(b"0123456789")
    settled = await spool.settle()
    assert settled is not None
    file, found = settled
    assert isinstance(file, BodyFile)
    assert (file.path.read_bytes(), found) == (b"0123456789", checksum(b"0123456789"))
    await spool.close(kept=False)


async def test_all_readers_share_the_bytes_as_they_came(disk: DiskStore) -> None:
    spool = Spool(GENERATION, disk, 100_000, Allowance(100_000))
    came = bytes(range(256)) * 100
    await spool.append(came)
    await spool.append(b"end" * 10_000)
    assert await spool.read(0, 100_000) is came
    assert await spool.read(0, 100_000) is came
    part = await spool.read(5, 20)
    assert isinstance(part, memoryview)
    assert (part.obj, bytes(part)) == (came, came[5:25])
    await spool.close(kept=False)


async def test_a_body_that_came_at_once_is_not_copied() -> None:
    spool = Spool(GENERATION, None, 200_000, Allowance(200_000))
    came = bytes(200_000)
    await spool.append(came)
    settled = await spool.settle()
    assert settled == (came, checksum(came))
    assert settled is not None
    assert settled[0] is came
    await spool.close(kept=False)


async def test_bytes_that_came_during_a_write_are_written_together(
    disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, sizes = asyncio.Event(), list[int]()
    write = BodyFile.write

    async def slow(file: BodyFile, blocks: Sequence[bytes], offset: int, checksum: Checksum) -> None:
        sizes.append(sum(map(len, blocks)))
        await gate.wait()
        await write(file, blocks, offset, checksum)

    monkeypatch.setattr(BodyFile, "write", slow)
    spool = Spool(GENERATION, disk, 10, Allowance(PLENTY))
    content = b"".join(blocks(4))
    for at in range(0, 2 * BLOCK, 1_000):
        await spool.append(content[at : min(at + 1_000, 2 * BLOCK)])
    while not sizes:  # noqa: ASYNC110 - a list has no event
        await asyncio.sleep(0)
    # More bytes come while the first ones are being written.
    for at in range(2 * BLOCK, 4 * BLOCK - 1_000, 1_000):
        await spool.append(content[at : at + 1_000])
    gate.set()
    await spool.append(content[spool.received :])
    settled = await spool.settle()
    assert sizes == [2 * BLOCK, 2 * BLOCK]
    assert settled is not None
    assert settled[1] == checksum(content)
    assert isinstance(settled[0], BodyFile)
    assert settled[0].path.read_bytes() == content
    await spool.close(kept=False)


async def test_a_reader_close_behind_gets_the_bytes_as_they_came(disk: DiskStore) -> None:
    allowance = Allowance(PLENTY)
    spool = Spool(GENERATION, disk, 10, allowance)
    came = blocks(9)
    for block in came:
        await spool.append(block)
        while spool._spilling is not None:  # noqa: ASYNC110 - a task that may be none has no event
            await asyncio.sleep(0)
    # All but the last one are in the file, and the last four were in RAM when it came.
    assert spool._filed == 8 * BLOCK
    for n in (8, 4):
        assert await spool.read(n * BLOCK, BLOCK) is came[n]
    assert await spool.read(3 * BLOCK, BLOCK) == came[3]
    assert await spool.read(3 * BLOCK, BLOCK) is not came[3]
    assert is_free(allowance, PLENTY - 5 * BLOCK)
    assert not is_free(allowance, PLENTY - 5 * BLOCK + 1)
    assert await spool.settle() is not None
    assert is_free(allowance, PLENTY)
    await spool.close(kept=False)


async def test_scarce_ram_holds_no_bytes_of_the_file(disk: DiskStore) -> None:
    allowance = Allowance(4 * BLOCK)
    spool = Spool(GENERATION, disk, 10, allowance)
    for block in blocks(9):
        await spool.append(block)
        while spool._spilling is not None:  # noqa: ASYNC110 - a task that may be none has no event
            await asyncio.sleep(0)
    assert await spool.read(0, BLOCK) == blocks(1)[0]
    await spool.close(kept=False)
    assert is_free(allowance, 4 * BLOCK)


async def test_a_failing_disk_stores_nothing_and_stops_no_reader(
    disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_writes(monkeypatch, 2 * BLOCK)
    allowance = Allowance(5 * BLOCK)
    spool = Spool(GENERATION, disk, 10, allowance)
    content = b"".join(blocks(7))
    for came in blocks(7):
        await spool.append(came)
        # The file takes two of them, and is then not written to any more.
        while spool._spilling is not None:  # noqa: ASYNC110 - a task that may be none has no event
            await asyncio.sleep(0)
    assert not spool.lasting
    got = bytearray()
    while block := await spool.read(len(got), BLOCK):
        got += block
    assert bytes(got) == content
    with pytest.raises(Overloaded):
        await spool.append(b"x")
    assert await spool.settle() is None
    await spool.close(kept=False)
    assert is_free(allowance, 5 * BLOCK)


async def test_a_disk_that_takes_no_file_stores_nothing(disk: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> BodyFile:
        raise StoreError(note="full")

    monkeypatch.setattr(DiskStore, "begin", fail)
    spool = Spool(GENERATION, disk, 10, Allowance(PLENTY))
    for block in blocks(5):
        await spool.append(block)
    assert await spool.settle() is None
    assert await spool.read(0, BLOCK) == blocks(1)[0]
    await spool.close(kept=False)


async def test_a_slow_disk_holds_the_writer_and_no_reader(disk: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    write = BodyFile.write

    async def slow(file: BodyFile, blocks: Sequence[bytes], offset: int, checksum: Checksum) -> None:
        await gate.wait()
        await write(file, blocks, offset, checksum)

    monkeypatch.setattr(BodyFile, "write", slow)
    spool = Spool(GENERATION, disk, 10, Allowance(PLENTY))
    for block in blocks(3):
        await spool.append(block)
    fourth = asyncio.ensure_future(spool.append(blocks(4)[3]))
    while spool._file is None:  # noqa: ASYNC110 - a file has no event
        await asyncio.sleep(0)
    assert not fourth.done()
    assert await spool.read(3 * BLOCK, BLOCK) == blocks(4)[3]
    # A writer that is cancelled does not cancel the write under way.
    fourth.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fourth
    assert spool._spilling is not None
    closing = asyncio.ensure_future(spool.close(kept=False))
    await asyncio.sleep(0)
    assert not closing.done()
    gate.set()
    await closing
    assert spool._tail.begins == 4 * BLOCK


async def test_a_windows_writer_waits_for_the_reader() -> None:
    allowance = Allowance(PLENTY)
    window = Window(allowance)
    for block in blocks(3):
        await window.append(block)
    fourth = asyncio.ensure_future(window.append(blocks(4)[3]))
    await asyncio.sleep(0)
    assert not fourth.done()
    assert await window.read(0, 10) == bytes(10)
    assert not fourth.done()
    # It is woken, but not enough bytes have come.
    assert await window.read(0, 10) == bytes(10)
    await asyncio.sleep(0)
    assert not fourth.done()
    assert await window.read(10, 10) == bytes(10)
    await fourth
    assert not is_free(allowance, PLENTY - 4 * BLOCK + 11)
    assert is_free(allowance, PLENTY - 4 * BLOCK + 10)
    await window.settle()
    await window.close(kept=False)
    assert is_free(allowance, PLENTY)


async def test_a_whole_window_is_bounded_by_the_allowance_alone() -> None:
    allowance = Allowance(10 * BLOCK)
    window = Window(allowance, whole=True)
    for block in blocks(10):
        await window.append(block)
    with pytest.raises(Overloaded):
        await window.append(b"x")
    # The bytes that its reader has taken make room.
    await window.read(0, BLOCK)
    await window.read(BLOCK, BLOCK)
    await window.append(b"x")
    await window.close(kept=False)
    assert is_free(allowance, 10 * BLOCK)
