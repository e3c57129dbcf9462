"""Many readers of one fill: one fetch for all of them, and none that harms another."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import aiohttp
import pytest
from yarl import URL

from tests.faults.conftest import Start
from tests.faults.origin import (
    CHUNKED,
    LARGE,
    REF,
    SMALL,
    Close,
    FaultyOrigin,
    Reset,
    Script,
    Stall,
    announcing,
    chunks,
    good,
    head,
    trickled,
)
from tests.faults.serving import Joins
from tests.functional.harness import Reply, RunningGateway

READERS = 20


def readers(gateway: RunningGateway, count: int) -> list[asyncio.Task[Reply]]:
    link = gateway.link(REF)
    return [asyncio.create_task(gateway.get(link)) for _ in range(count)]


@pytest.mark.parametrize(
    "body",
    [SMALL, LARGE],
    ids=["small", "large"],
)
@pytest.mark.parametrize("broken", [(Close(),), (Reset(),)], ids=["closed", "reset"])
async def test_readers_of_a_fill_that_breaks_before_their_first_byte_are_all_served_by_a_second_one(
    gateway: RunningGateway, origin: FaultyOrigin, joins: Joins, body: bytes, broken: Script
) -> None:
    everyone = asyncio.Event()
    sent = body[: len(body) // 2] if body is SMALL else b""
    origin.play((announcing(len(body)), sent, everyone, *broken), good(body))
    tasks = readers(gateway, READERS)
    await joins.reach(READERS)
    everyone.set()
    replies = await asyncio.gather(*tasks)
    assert [(reply.status, reply.body == body) for reply in replies] == [(200, True)] * READERS
    assert origin.asked == 2


async def test_readers_of_fills_that_all_break_share_three_fetches(
    gateway: RunningGateway, origin: FaultyOrigin, joins: Joins
) -> None:
    everyone = asyncio.Event()
    origin.play((announcing(len(SMALL)), SMALL[:-1], everyone, Close()))
    tasks = readers(gateway, READERS)
    await joins.reach(READERS)
    everyone.set()
    assert {reply.status for reply in await asyncio.gather(*tasks)} == {502}
    assert origin.asked == 3


async def test_readers_of_a_fill_that_breaks_after_their_first_byte_are_all_cut_off_and_the_next_is_served(
    gateway: RunningGateway, origin: FaultyOrigin, joins: Joins
) -> None:
    everyone = asyncio.Event()
    origin.play((announcing(len(LARGE)), LARGE[:1_000_000], everyone, Close()), good(LARGE))

    async def begun() -> aiohttp.ClientResponse:
        response = await gateway.session.get(URL(gateway.link(REF), encoded=True))
        assert response.status == 200
        return response

    async with asyncio.timeout(60):
        responses = await asyncio.gather(*(begun() for _ in range(READERS)))
    everyone.set()
    for response in responses:
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    after = await gateway.get(gateway.link(REF))
    assert (after.status, after.body == LARGE) == (200, True)
    assert origin.asked == 2


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_stampede_of_200_cold_readers_makes_one_fetch(
    gateway: RunningGateway, origin: FaultyOrigin, chunked: bool
) -> None:
    body = LARGE[:1_000_000]
    origin.play((CHUNKED, chunks(body), b"0\r\n\r\n") if chunked else good(body))
    replies = await asyncio.gather(*readers(gateway, 200))
    assert [(reply.status, reply.body == body) for reply in replies] == [(200, True)] * 200
    assert origin.asked == 1


async def test_what_may_not_be_stored_is_fetched_for_each_reader(gateway: RunningGateway, origin: FaultyOrigin) -> None:
    origin.play((head("Cache-Control: no-store", f"Content-Length: {len(LARGE)}"), LARGE))
    replies = await asyncio.gather(*readers(gateway, READERS))
    assert [(reply.status, reply.body == LARGE) for reply in replies] == [(200, True)] * READERS
    assert origin.asked == READERS


def connect(gateway: RunningGateway, link: str) -> socket.socket:
    """A request by a reader that takes next to nothing."""
    url = URL(link, encoded=True)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    connection.connect((url.host, url.port))
    connection.sendall(f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: {url.authority}\r\nConnection: close\r\n\r\n".encode())
    return connection


def take(connection: socket.socket) -> bytes:
    """All that comes, up to the end."""
    taken = bytearray()
    while block := connection.recv(65_536):
        taken += block
    return bytes(taken)


async def test_a_reader_that_takes_nothing_holds_nobody_back_and_still_gets_every_byte(
    gateway: RunningGateway, origin: FaultyOrigin, joins: Joins
) -> None:
    rest = asyncio.Event()
    origin.play((announcing(len(LARGE)), LARGE[:100_000], rest, LARGE[100_000:]))
    link = gateway.link(REF)
    slow = await asyncio.to_thread(connect, gateway, link)
    try:
        await joins.reach(1)
        quick = readers(gateway, 5)
        await joins.reach(6)
        rest.set()
        for reply in await asyncio.gather(*quick):
            assert (reply.status, reply.body == LARGE) == (200, True)
        # The fill is over and another media of the same size passes: the slow one sits on its own connection alone.
        assert (await gateway.get(link)).body == LARGE
        answer = await asyncio.to_thread(take, slow)
    finally:
        slow.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.partition(b"\r\n\r\n")[2] == LARGE
    assert origin.asked == 1


async def test_slow_cold_readers_are_served_from_one_fetch(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_MEMORY_BYTES="4MB", GATEWAY_CACHE_OBJECT_MEMORY_BYTES="100KB")
    origin.play(good(LARGE))
    link = gateway.link(REF)
    slow = [await asyncio.to_thread(connect, gateway, link) for _ in range(100)]
    try:
        assert (await gateway.get(link)).body == LARGE
        for connection in slow:
            answer = await asyncio.to_thread(take, connection)
            assert answer.partition(b"\r\n\r\n")[2] == LARGE
    finally:
        for connection in slow:
            connection.close()
    assert origin.asked == 1


async def test_readers_that_leave_harm_nobody(gateway: RunningGateway, origin: FaultyOrigin, joins: Joins) -> None:
    begin, rest = asyncio.Event(), asyncio.Event()
    origin.play((begin, announcing(len(LARGE)), LARGE[:100_000], rest, LARGE[100_000:]))
    tasks = readers(gateway, READERS)
    await joins.reach(READERS)
    for task in tasks[::4]:
        task.cancel()
    begin.set()
    async with gateway.session.get(URL(gateway.link(REF), encoded=True)) as leaving:
        await leaving.content.readexactly(50_000)
        leaving.close()
    for task in tasks[1::4]:
        task.cancel()
    rest.set()
    stayed = [task for place, task in enumerate(tasks) if place % 4 > 1]
    for reply in await asyncio.gather(*stayed):
        assert (reply.status, reply.body == LARGE) == (200, True)
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
    assert origin.asked == 1


async def test_when_every_reader_has_left_the_upstream_is_let_go_and_the_next_reader_gets_a_fetch_of_its_own(
    start: Start, origin: FaultyOrigin
) -> None:
    gateway = await start(GATEWAY_LIMIT_IDLE_SECONDS="300")
    more = asyncio.Event()
    origin.play(
        (announcing(len(LARGE)), LARGE[:100_000], more, *trickled(LARGE[100_000:101_000]), Stall()), good(LARGE)
    )
    async with gateway.session.get(URL(gateway.link(REF), encoded=True)) as leaving:
        await leaving.content.readexactly(50_000)
        leaving.close()
    more.set()
    await origin.left.wait()
    reply = await gateway.get(gateway.link(REF))
    assert (reply.status, reply.body == LARGE) == (200, True)
    assert origin.asked == 2
