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
async def test_a_fill_broken_before_any_byte_is_repeated_for_all(
    gateway: RunningGateway, origin: FaultyOrigin, joins: Joins, body: bytes, broken: Script
) -> None:
    everyone = asyncio.Event()
    origin.play((announcing(len(body)), everyone, *broken), good(body))
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
    origin.play((announcing(len(SMALL)), everyone, Close()))
    tasks = readers(gateway, READERS)
    await joins.reach(READERS)
    everyone.set()
    assert {reply.status for reply in await asyncio.gather(*tasks)} == {502}
    assert origin.asked == 3


async def test_a_fill_broken_after_the_first_byte_cuts_every_reader(
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
    """Return a request by a reader that takes next to nothing."""
    url = URL(link, encoded=True)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    connection.connect((url.host, url.port))
    connection.sendall(f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: {url.authority}\r\nConnection: close\r\n\r\n".encode())
    return connection


def take(connection: socket.socket) -> bytes:
    """Return all that comes, up to the end."""
    taken = bytearray()
    while block := connection.recv(65_536):
        taken += block
    return bytes(taken)


async def test_a_stalled_reader_holds_no_other_back_and_gets_all(
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


async def leave_early(gateway: RunningGateway, *, method: str = "GET", **headers: str) -> None:
    """Send a request, read some of the answer, and cut the connection."""
    url = URL(gateway.link(REF), encoded=True)
    async with gateway.session.request(method, url, headers=headers) as leaving:
        if method == "GET":
            await leaving.content.readany()
        leaving.close()


async def test_once_every_reader_left_an_unstorable_fetch_is_given_up(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_LIMIT_IDLE_SECONDS="300")
    more = asyncio.Event()
    passing = head("Content-Type: image/jpeg", "Cache-Control: no-store", f"Content-Length: {len(LARGE)}")
    origin.play((passing, LARGE[:100_000], more, *trickled(LARGE[100_000:101_000]), Stall()), good(LARGE))
    await leave_early(gateway)
    more.set()
    await origin.left.wait()
    reply = await gateway.get(gateway.link(REF))
    assert (reply.status, reply.body == LARGE) == (200, True)
    assert origin.asked == 2


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("coding", ["announced", "chunked"])
async def test_heads_probes_and_cut_players_make_one_cold_read(
    gateway: RunningGateway, origin: FaultyOrigin, body: bytes, coding: str
) -> None:
    rest = asyncio.Event()
    if coding == "announced":
        origin.play((announcing(len(body)), body[:100_000], rest, body[100_000:]))
    else:
        origin.play((CHUNKED, chunks(body[:100_000]), rest, chunks(body[100_000:]), b"0\r\n\r\n"))
    for _ in range(5):
        await leave_early(gateway, method="HEAD")
    await leave_early(gateway)
    if coding == "announced":
        for _ in range(5):
            await leave_early(gateway, Range="bytes=0-1")
    tail = asyncio.create_task(gateway.get(gateway.link(REF), Range="bytes=-1000"))
    middle = asyncio.create_task(gateway.get(gateway.link(REF), Range="bytes=120000-129999"))
    rest.set()
    assert ((await tail).status, (await tail).body) == (206, body[-1000:])
    assert ((await middle).status, (await middle).body) == (206, body[120_000:130_000])
    whole = await gateway.get(gateway.link(REF))
    assert (whole.status, whole.body == body) == (200, True)
    assert origin.asked == 1


@pytest.mark.parametrize("coding", ["announced", "chunked", "not stored"])
async def test_a_short_slow_media_begins_before_its_last_byte(
    gateway: RunningGateway, origin: FaultyOrigin, coding: str
) -> None:
    rest = asyncio.Event()
    match coding:
        case "announced":
            origin.play((announcing(2_000), SMALL[:1_000], rest, SMALL[1_000:2_000]))
        case "chunked":
            origin.play((CHUNKED, chunks(SMALL[:1_000]), rest, chunks(SMALL[1_000:2_000]), b"0\r\n\r\n"))
        case _:
            passing = head("Content-Type: image/jpeg", "Cache-Control: no-store", "Content-Length: 2000")
            origin.play((passing, SMALL[:1_000], rest, SMALL[1_000:2_000]))
    async with gateway.session.get(URL(gateway.link(REF), encoded=True)) as answer:
        assert await answer.content.readexactly(1_000) == SMALL[:1_000]
        rest.set()
        assert await answer.content.read() == SMALL[1_000:2_000]


async def test_a_short_media_that_comes_at_once_gets_a_length(gateway: RunningGateway, origin: FaultyOrigin) -> None:
    origin.play((CHUNKED + chunks(SMALL[:1_000]) + b"0\r\n\r\n",))
    reply = await gateway.get(gateway.link(REF))
    assert (reply.headers["Content-Length"], reply.body) == ("1000", SMALL[:1_000])


@pytest.mark.parametrize(("length", "stored"), [(1_000, True), (30_000, False)])
async def test_rfc9211_s2_5_stored_means_it_is_found_again(
    start: Start, origin: FaultyOrigin, length: int, stored: bool
) -> None:
    # The disk's row takes some hundred bytes.
    gateway = await start(GATEWAY_CACHE_BYTES="20000", GATEWAY_MEMORY_BYTES="0")
    origin.play(good(SMALL[:length]))
    said = (await gateway.get(gateway.link(REF))).headers["Cache-Status"]
    assert said.endswith("; stored") is stored
    again = (await gateway.get(gateway.link(REF))).headers["Cache-Status"]
    assert ("; hit" in again) is stored


UTF8, LATIN = "Grüße\n".encode(), "Grüße\n".encode("latin-1")


def text(content: bytes, *, kind: str = "text/plain") -> Script:
    return (head(f"Content-Type: {kind}", f"Content-Length: {len(content)}") + content,)


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (UTF8, "text/plain", "text/plain; charset=utf-8"),
        (UTF8, "text/vcard", "text/vcard; charset=utf-8"),
        (UTF8, "text/plain; charset=iso-8859-1", "text/plain; charset=iso-8859-1"),
        (LATIN, "text/plain", "text/plain"),
        (b"plain\n", "text/plain", "text/plain"),
        (UTF8, "application/json", "application/json"),
        (b"x" * 300_000 + UTF8, "text/plain", "text/plain"),
    ],
)
async def test_short_text_that_is_utf8_is_said_to_be_that(
    gateway: RunningGateway, origin: FaultyOrigin, content: bytes, kind: str, said: str
) -> None:
    origin.play(text(content, kind=kind))
    link = gateway.link(REF)
    assert (await gateway.head(link)).headers["Content-Type"] == said
    cold = await gateway.get(link)
    assert cold.body == content


@pytest.mark.parametrize("content", [UTF8 * 200, b"x" * 1_900_000 + UTF8], ids=["in RAM", "on disk"])
async def test_stored_text_of_any_length_is_said_to_be_utf8(
    gateway: RunningGateway, origin: FaultyOrigin, content: bytes
) -> None:
    origin.play(text(content))
    link = gateway.link(REF)
    await gateway.get(link)
    await settled(gateway, link)
    said = "text/plain; charset=utf-8"
    assert (await gateway.get(link)).headers["Content-Type"] == said
    assert (await gateway.head(link)).headers["Content-Type"] == said
    part = await gateway.get(link, Range="bytes=0-1")
    assert (part.status, part.headers["Content-Type"]) == (206, said)
    parts = await gateway.get(link, Range="bytes=0-1,1000-1001")
    assert parts.body.count(said.encode()) == 2


async def settled(gateway: RunningGateway, link: str) -> None:
    """Wait until the media is found stored."""
    while "; hit" not in (await gateway.head(link)).headers["Cache-Status"]:
        pass
