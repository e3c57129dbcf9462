"""Stored files in the express lane: what goes out, what is known of it, and what keeps or takes it off the lane."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from proxy.cache.engine import Engine
from proxy.erasure import Reach
from proxy.http_server.protocol import GatewayProtocol
from proxy.model import MediaRef
from proxy.sandbox import Media
from tests.functional.express import HeldClock, Start, make_older, ordinary, turns, until, warm
from tests.functional.harness import Reply, logged

PART = "Range: bytes=1000000-3999999"


def said(reply: Reply) -> list[tuple[str, str]]:
    """Return all that an answer's head says, but for its id."""
    return [(name, value) for name, value in reply.headers.items() if name != "X-Request-Id"]


@pytest.mark.parametrize("lines", [(), (PART,)], ids=["whole", "part"])
async def test_a_file_comes_the_same_with_and_without_the_lane(
    start: Start, film: Media, lines: tuple[str, ...]
) -> None:
    clock = HeldClock()
    at, other = await start(clock), await start(clock, GATEWAY_EXPRESS="0")
    octets = at.get(film.ref, *lines)
    async with at.connection() as connection, other.connection() as plain:
        await warm(connection, at, octets)
        before = at.express
        replies = [await connection.ask(octets) for _ in range(3)]
        wanted = await ordinary(plain, other, octets)
    assert at.express == before + 3
    assert wanted.body == (film.read()[1_000_000:4_000_000] if lines else film.read())
    for reply in replies:
        assert (reply.status, said(reply), reply.body) == (wanted.status, said(wanted), wanted.body)


# --- connections ----------------------------------------------------------------------------------------------


async def test_requests_sent_meanwhile_are_answered_behind_in_order(start: Start, film: Media, photo: Media) -> None:
    at = await start()
    async with at.connection(receive_buffer=4_096) as connection:
        for media in (photo, film):
            await warm(connection, at, at.get(media.ref))
        await warm(connection, at, at.get(photo.ref))
        connection.pause()
        connection.writer.write(at.get(film.ref))
        await until(lambda: at.sending == 1)
        before = at.express
        for later in (at.get(photo.ref), at.get(film.ref, method="HEAD"), at.get(photo.ref)):
            connection.writer.write(later)
            await turns()
        # Nobody has read them.
        assert at.express == before
        connection.resume()
        bodies = [(await connection.answer(is_head=place == 2)).body for place in range(4)]
        assert bodies == [film.read(), photo.read(), b"", photo.read()]
        # And the connection goes on as ever.
        await warm(connection, at, at.get(film.ref))


async def test_bytes_read_while_a_file_goes_out_end_the_connection(start: Start, film: Media) -> None:
    at = await start()
    octets = at.get(film.ref)
    async with at.connection() as connection:
        await warm(connection, at, octets)
    await until(lambda: not at.server.connections)
    async with at.connection(receive_buffer=4_096) as connection:
        connection.pause()
        connection.writer.write(octets)
        await until(lambda: at.sending == 1)
        before = at.express
        (one,) = at.server.connections
        # A loop that was about to read when it was told not to.
        one.data_received(at.get(film.ref, method="HEAD"))
        connection.resume()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await connection.answer()
        await until(lambda: not at.server.connections)
        # That is the one that was cut.
        assert at.express == before + 1


async def test_a_sending_connection_is_not_idle_and_later_closed(
    start: Start, film: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looked = GatewayProtocol._process_keepalive, 0

    def looking(protocol: GatewayProtocol) -> None:
        nonlocal looked
        looked += 1
        real(protocol)

    monkeypatch.setattr(GatewayProtocol, "_process_keepalive", looking)
    at = await start(GATEWAY_LIMIT_KEEPALIVE_SECONDS="1")
    octets = at.get(film.ref)
    async with at.connection() as connection:
        await warm(connection, at, octets)
    await until(lambda: not at.server.connections)
    before, looked = at.express, 0
    async with at.connection(receive_buffer=4_096) as connection:
        connection.pause()
        connection.writer.write(octets)
        await until(lambda: at.sending == 1 and looked == 1)
        connection.resume()
        assert (await connection.answer()).body == film.read()
        assert (await connection.ask(octets)).body == film.read()
        assert at.express == before + 2
        # Only the lane has answered here, and it ends all the same.
        assert await connection.reader.read() == b""


async def test_an_answer_behind_a_file_says_last_while_draining(start: Start, film: Media) -> None:
    at = await start()
    octets = at.get(film.ref)
    async with at.connection(receive_buffer=4_096) as connection:
        await warm(connection, at, octets)
        connection.pause()
        connection.writer.write(octets)
        await until(lambda: at.sending == 1)
        at.gateway.readiness.draining = True
        connection.resume()
        first = await connection.answer()
        assert (first.body, first.headers.get("Connection")) == (film.read(), None)
        last = await ordinary(connection, at, octets)
        assert (last.body, last.headers["Connection"]) == (film.read(), "close")
        assert await connection.reader.read() == b""


@pytest.mark.parametrize("times", [1, 1_000], ids=["once", "always"])
async def test_without_a_descriptor_an_answer_goes_another_way_or_ends(
    start: Start, film: Media, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """The limit is the process's, tests and all: so it is `dup` that says it."""
    real, left = os.dup, times

    def failing(descriptor: int) -> int:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(descriptor)

    async with logged() as logs:
        at = await start()
        octets = at.get(film.ref)
        async with at.connection() as connection:
            await warm(connection, at, octets)
            with monkeypatch.context() as patched:
                patched.setattr("proxy.http_server.file_transfer.os.dup", failing)
                assert (await ordinary(connection, at, octets)).body == film.read()
            assert (await connection.ask(octets)).body == film.read()
        await at.settled()
    assert "Traceback" not in logs.program.getvalue()


# --- what ends an answer --------------------------------------------------------------------------------------


class _Erase(Protocol):
    def __call__(self, engine: Engine, ref: MediaRef) -> Awaitable[None]: ...


ERASURES: list[tuple[_Erase, int]] = [
    (lambda engine, ref: engine.erase(Reach.of(ref)), 200),
    (lambda engine, ref: engine.revoke(Reach.of(ref), 600), 403),
    (lambda engine, ref: engine.mark_gone(ref, 600), 404),
]


@pytest.mark.parametrize("lines", [(), (PART,)], ids=["whole", "part"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "another-worker"])
@pytest.mark.parametrize(("erase", "status"), ERASURES, ids=["purged", "revoked", "deleted"])
async def test_what_was_erased_between_two_requests_is_not_shown(
    start: Start, film: Media, erase: _Erase, status: int, elsewhere: bool, lines: tuple[str, ...]
) -> None:
    at = await start()
    other = await start() if elsewhere else at
    async with at.connection() as connection:
        octets = at.get(film.ref, *lines)
        await warm(connection, at, octets)
        await erase(other.gateway.media.engine, film.ref)
        reply = await ordinary(connection, at, octets)
    assert reply.status == (206 if status == 200 and lines else status)
    assert "hit" not in reply.headers.get("Cache-Status", "")


async def test_what_becomes_stale_within_a_second_is_validated(start: Start, film: Media) -> None:
    at = await start(GATEWAY_CACHE_STALE_WHILE_REVALIDATE="0")
    at.clock.now += 0.25
    async with at.connection() as connection:
        octets = at.get(film.ref)
        first = await warm(connection, at, octets)
        await make_older(at, film.ref, int(first.headers["Cache-Status"].rpartition("ttl=")[2]) - 10)
        await connection.ask(octets)
        stored = await at.gateway.media.engine.tiers.find(film.ref)
        assert stored is not None
        at.clock.now += at.gateway.media.engine.reused(stored.entry).remaining - 0.125
        second = int(at.clock.now)
        before = at.express
        assert "; hit" in (await connection.ask(octets)).headers["Cache-Status"]
        assert at.express == before + 1
        at.clock.now += 0.25
        assert int(at.clock.now) == second
        assert "fwd=stale" in (await ordinary(connection, at, octets)).headers["Cache-Status"]


def _body_file(folder: Path, media: Media) -> Path:
    (path,) = [each for each in folder.rglob("bodies/*/*") if each.stat().st_size == media.length]
    return path


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 4_999_999)], ids=["removed", "cut"])
async def test_a_changed_file_costs_a_fetch_and_no_answer(
    start: Start, film: Media, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    at = await start()
    async with at.connection() as connection:
        octets = at.get(film.ref)
        await warm(connection, at, octets)
        await asyncio.to_thread(lambda: damage(_body_file(tmp_path / "cache", film)))
        reply = await ordinary(connection, at, octets)
        assert (reply.status, reply.body) == (200, film.read())
        assert "fwd=" in reply.headers["Cache-Status"]
        assert (await warm(connection, at, octets)).body == film.read()


async def test_a_cold_file_takes_the_ordinary_way(start: Start, film: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    at = await start()
    disk = at.gateway.media.engine.tiers.disk
    assert disk is not None
    async with at.connection() as connection:
        octets = at.get(film.ref)
        await warm(connection, at, octets)
        with monkeypatch.context() as patched:
            patched.setattr("proxy.cache.disk.files._is_warm", lambda *_: False)
            assert (await ordinary(connection, at, octets)).body == film.read()
        await at.settled()
        (file,) = disk.open_files._files.values()
        assert file.readers == 0
        before = at.express
        assert (await connection.ask(octets)).body == film.read()
        assert at.express == before + 1


async def test_the_lane_sends_no_file_with_other_bytes(start: Start, film: Media, tmp_path: Path) -> None:
    before = await start()
    async with before.connection() as connection:
        await warm(connection, before, before.get(film.ref))
    path = await asyncio.to_thread(_body_file, tmp_path / "cache", film)

    def damage() -> None:
        with path.open("r+b") as file:
            file.seek(2_500_000)
            file.write(b"damaged")

    await asyncio.to_thread(damage)
    # Another process has not written this file: it is checked as it is read for the first time.
    at = await start()
    for line in ("Range: bytes=0-9", "Range: bytes=0-9", "Accept: a", "Accept: a"):
        async with at.connection() as connection:
            with suppress(asyncio.IncompleteReadError, ConnectionResetError):
                reply = await connection.ask(at.get(film.ref, line))
                assert reply.body == (film.read()[:10] if reply.status == 206 else film.read())
    async with at.connection() as connection:
        assert (await warm(connection, at, at.get(film.ref))).body == film.read()
