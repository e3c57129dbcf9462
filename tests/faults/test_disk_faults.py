"""A disk that is full, gone, or no longer what was written: it costs speed and never an answer, nor a wrong byte."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from proxy.cache.checksum import checksum
from proxy.links import LinkMinter
from tests.faults.conftest import Start, Within
from tests.faults.origin import CHUNKED, LARGE, OTHER, REF, SMALL, FaultyOrigin, Script, announcing, chunks, good
from tests.faults.serving import environment, purge, until_stored
from tests.functional.harness import KEY, RunningGateway
from tests.functional.programs import started

LARGE_ANSWERS: dict[str, Script] = {"length": good(LARGE), "chunked": (CHUNKED, chunks(LARGE), b"0\r\n\r\n")}
answers = pytest.mark.parametrize("script", LARGE_ANSWERS.values(), ids=LARGE_ANSWERS.keys())


def bodies(folder: Path) -> list[Path]:
    """Return the stored bodies, and those that were begun."""
    return [
        path
        for top in ("bodies", "incoming")
        for path in (folder / top).rglob("*")
        if path.is_file() and path.name != "lock"
    ]


async def nothing_left(folder: Path) -> None:
    """Wait until no body is there, stored or begun: the files of a fill go when its last reader has left."""
    while await asyncio.to_thread(bodies, folder):
        pass


def failing(allowed: int, code: int) -> Callable[[int, Sequence[memoryview], int], int]:
    """Return an `os.pwritev` that succeeds so often, and then writes half of its bytes before it fails for ever."""
    left = [allowed]
    write = os.pwritev

    def pwritev(descriptor: int, blocks: Sequence[memoryview], offset: int) -> int:
        if left[0] < 0:
            raise OSError(code, os.strerror(code))
        left[0] -= 1
        if left[0] >= 0:
            return write(descriptor, blocks, offset)
        half = b"".join(blocks)[: sum(map(len, blocks)) // 2]
        return write(descriptor, [half], offset)

    return pwritev


@pytest.mark.parametrize("allowed", [0, 1])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
@answers
async def test_a_disk_failing_within_a_fill_costs_no_byte(
    gateway: RunningGateway,
    origin: FaultyOrigin,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    allowed: int,
    code: int,
) -> None:
    origin.play(script)
    link = gateway.link(REF)
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwritev", failing(allowed, code))
        replies = await asyncio.gather(*(gateway.get(link) for _ in range(10)))
        assert [(reply.status, reply.body == LARGE) for reply in replies] == [(200, True)] * 10
        assert origin.asked == 1
        await nothing_left(folder)
        again = await gateway.get(link)
        assert (again.status, again.body == LARGE) == (200, True)
        assert origin.asked == 2
        small = await gateway.get(gateway.link(OTHER))
        assert (small.status, small.body == LARGE) == (200, True)
    await nothing_left(folder)
    # The disk is well again, and is used again.
    origin.play(good(LARGE))
    fetched, hit = await gateway.get(link), await gateway.get(link)
    assert fetched.body == hit.body == LARGE
    assert "; hit" in hit.headers["Cache-Status"]


async def test_a_small_media_that_the_disk_refuses_comes_from_ram(
    gateway: RunningGateway, origin: FaultyOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwritev", failing(-1, errno.ENOSPC))
    for _ in range(3):
        reply = await gateway.get(gateway.link(REF))
        assert (reply.status, reply.body == SMALL) == (200, True)
    assert origin.asked == 1


async def test_a_file_that_cannot_grow_costs_no_byte(origin: FaultyOrigin, folder: Path, tmp_path: Path) -> None:
    """The system's own limit in place of a full disk, in a process of its own."""
    limit = 600_000
    launcher = (
        "import resource, signal, runpy, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "sys.argv[1:] = ['serve']\n"
        "runpy.run_module('proxy', run_name='__main__')\n"
    )
    origin.play(good(LARGE))
    path = tmp_path / "gateway.sock"
    environ = environment(
        origin, folder, GATEWAY_LISTEN=f"unix:{path}", GATEWAY_PUBLIC_URL="http://gateway", HOME=str(tmp_path)
    )
    assert limit < len(LARGE) < resource.RLIM_INFINITY % (1 << 63)
    connector = aiohttp.UnixConnector(str(path))
    async with (
        started(["-c", launcher], environ, command=[sys.executable]) as program,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        await program.line("listening at")
        link = URL(LinkMinter("http://gateway", KEY).url(REF), encoded=True)
        for _ in range(3):
            async with session.get(link) as response:
                assert (response.status, await response.read() == LARGE) == (200, True)
                assert "hit" not in response.headers["Cache-Status"]
        program.signal(15)
        assert await program.ended() == 0
    assert await asyncio.to_thread(bodies, folder) == []


# --- the folder -------------------------------------------------------------------------------------------------


def delete(folder: Path) -> None:
    # The gateway may write something into it meanwhile.
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def empty(folder: Path) -> None:
    delete(folder)
    folder.mkdir(mode=0o700, exist_ok=True)


def bar(folder: Path) -> None:
    """Let nothing be begun in the folder any more; this holds for root as well."""
    delete(folder / "incoming")
    (folder / "incoming").write_bytes(b"")


def drop_bodies(folder: Path) -> None:
    delete(folder / "bodies")


def drop_index(folder: Path) -> None:
    for path in folder.glob("index-*"):
        path.unlink(missing_ok=True)


def spoil_index(folder: Path) -> None:
    for path in folder.glob("index-*.sqlite3"):
        path.write_bytes(b"\x00 no database \xff" * 4_096)


harm = pytest.mark.parametrize("harm", [delete, empty, bar, drop_bodies, drop_index, spoil_index])


@harm
@answers
async def test_a_harmed_cache_folder_costs_a_running_gateway_no_answer(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path, script: Script, harm: Callable[[Path], None]
) -> None:
    origin.play(script)
    link = gateway.link(REF)
    assert (await gateway.get(link)).body == LARGE
    await until_stored(folder, 1)
    await asyncio.to_thread(harm, folder)
    for wanted in (link, gateway.link(OTHER)):
        replies = [*await asyncio.gather(*(gateway.get(wanted) for _ in range(5))), await gateway.get(wanted)]
        assert [(reply.status, reply.body == LARGE) for reply in replies] == [(200, True)] * 6


@harm
async def test_a_small_media_is_served_over_a_harmed_cache_folder(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path, harm: Callable[[Path], None]
) -> None:
    link = gateway.link(REF)
    assert (await gateway.get(link)).body == SMALL
    await until_stored(folder, 1)
    await asyncio.to_thread(harm, folder)
    for wanted in (link, gateway.link(OTHER)):
        for _ in range(2):
            reply = await gateway.get(wanted)
            assert (reply.status, reply.body == SMALL) == (200, True)
    assert origin.asked == 2


@harm
async def test_a_purge_over_a_harmed_folder_holds_or_is_refused(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path, harm: Callable[[Path], None]
) -> None:
    link = gateway.link(REF)
    assert (await gateway.get(link)).body == SMALL
    await until_stored(folder, 1)
    await asyncio.to_thread(harm, folder)
    status = await purge(gateway, {"all": True})
    assert status in {204, 503}
    assert (await gateway.get(link)).body == SMALL
    if status == 204:
        assert origin.asked == 2


@harm
async def test_a_gateway_starts_over_a_harmed_folder_and_stores_again(
    within: Within, origin: FaultyOrigin, folder: Path, harm: Callable[[Path], None]
) -> None:
    async with within() as first:
        assert (await first.get(first.link(REF))).body == SMALL
    await asyncio.to_thread(harm, folder)
    origin.play(good(LARGE))
    async with within() as second:
        for wanted in (REF, OTHER):
            for _ in range(2):
                reply = await second.get(second.link(wanted))
                assert reply.status == 200
                assert reply.body in {SMALL, LARGE}
                assert wanted == REF or reply.body == LARGE


# --- bodies that are not what was stored ------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(content)


def flip_last(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def clear(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [flip, flip_last, shorten, clear, lengthen, Path.unlink, replace_with_folder])
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("wanted", [None, "bytes=100-199", "bytes=-1", "bytes=0-9,100-109"])
async def test_a_damaged_body_is_never_served_whole_and_fetched_again(
    within: Within,
    origin: FaultyOrigin,
    folder: Path,
    damage: Callable[[Path], None],
    body: bytes,
    wanted: str | None,
) -> None:
    origin.play(good(body))
    async with within() as first:
        assert (await first.get(first.link(REF))).body == body
    (stored,) = await asyncio.to_thread(bodies, folder)
    await asyncio.to_thread(damage, stored)
    async with within() as second:
        link = second.link(REF)
        headers = {} if wanted is None else {"Range": wanted}
        try:
            reply = await second.get(link, **headers)
        except aiohttp.ClientError:
            pass  # damage that is found within an answer cuts it off
        else:
            match wanted:
                case None:
                    assert (reply.status, reply.body == body) == (200, True)
                case "bytes=-1":
                    assert (reply.status, reply.body) == (206, body[-1:])
                case _:
                    assert reply.status == 206
        try:
            fetched = await second.get(link)
        except aiohttp.ClientError:
            # The check that the range began was still under way.
            fetched = await second.get(link)
        hit = await second.get(link)
        for reply in (fetched, hit):
            assert (reply.status, reply.body == body) == (200, True)
        # The reader of a range may have left its fill when much of it was still to come, which ends it.
        assert origin.asked == 2 or (wanted is not None and body is LARGE and origin.asked == 3)
        assert "; hit" in hit.headers["Cache-Status"]


async def test_an_index_with_wrong_length_or_bytes_is_not_believed(
    within: Within, origin: FaultyOrigin, folder: Path
) -> None:
    def swap() -> None:
        first, second = bodies(folder)
        one, other = first.read_bytes(), second.read_bytes()
        first.write_bytes(other)
        second.write_bytes(one)

    first_body, second_body = SMALL, SMALL[::-1]
    origin.play(good(first_body), (announcing(len(second_body)), second_body))
    async with within() as first:
        assert (await first.get(first.link(REF))).body == first_body
        assert (await first.get(first.link(OTHER))).body == second_body
    await asyncio.to_thread(swap)
    origin.play(good(first_body), good(second_body))
    async with within() as second:
        assert (await second.get(second.link(REF))).body == first_body
        assert (await second.get(second.link(OTHER))).body == second_body
    assert origin.asked == 4


async def test_what_is_stored_is_what_came(start: Start, origin: FaultyOrigin, folder: Path) -> None:
    """The checks above would be vacuous if the files were not where they look for them."""
    gateway = await start()
    origin.play(good(LARGE))
    await gateway.get(gateway.link(REF))
    await until_stored(folder, 1)

    def stored() -> tuple[str, int]:
        (path,) = bodies(folder)
        (database,) = folder.glob("index-*.sqlite3")
        with closing(sqlite3.connect(database)) as index:
            (length,) = index.execute("SELECT length FROM response").fetchone()
        return checksum(path.read_bytes()), int(length)

    assert await asyncio.to_thread(stored) == (checksum(LARGE), len(LARGE))
