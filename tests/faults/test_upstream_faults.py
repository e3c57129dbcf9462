"""Faults of the upstream on the wire: a problem or a broken connection, never a part for the whole."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from yarl import URL

from tests.faults.conftest import Start
from tests.faults.origin import (
    CHUNKED,
    LARGE,
    OTHER,
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
from tests.functional.harness import RunningGateway

URN = "urn:media-gateway:problem:"
HALF = SMALL[: len(SMALL) // 2]


async def assert_good_again(gateway: RunningGateway, origin: FaultyOrigin, body: bytes) -> None:
    """Check that nothing of the fault is stored: one fetch brings the bytes, and they are then a hit."""
    origin.play(good(body))
    asked, link = origin.asked, gateway.link(REF)
    fetched, hit = await gateway.get(link), await gateway.get(link)
    for reply in (fetched, hit):
        assert (reply.status, reply.body == body) == (200, True)
    assert origin.asked - asked == 1
    assert "; hit" in hit.headers["Cache-Status"]


async def assert_cut_off(response: aiohttp.ClientResponse) -> bytes:
    """Check that the connection breaks before the end of the body; return what came before it."""
    got = bytearray()
    try:
        async for block in response.content.iter_any():
            got += block
    except aiohttp.ClientError:
        return bytes(got)
    raise AssertionError("the body ended as if it were whole")


def framed(*lines: str, status: str = "200 OK") -> Script:
    return (head("Content-Type: image/jpeg", *lines, status=status), SMALL, Close())


# What breaks off is tried three times in all. aiohttp itself begins each of them once more if the connection broke
# before a head, as it may have been an idle one that the other side had closed.
BEFORE_THE_FIRST_BYTE: dict[str, tuple[Script, int, str, int]] = {
    "truncated": ((announcing(len(SMALL)), HALF, Close()), 502, "upstream-truncated", 3),
    "one byte short": ((announcing(len(SMALL)), SMALL[:-1], Close()), 502, "upstream-truncated", 3),
    "empty": ((announcing(len(SMALL)), Close()), 502, "upstream-truncated", 3),
    "reset in the body": ((announcing(len(SMALL)), HALF, Reset()), 502, "upstream-truncated", 3),
    "reset before the head": ((Reset(),), 502, "upstream-unreachable", 6),
    "reset in the head": ((announcing(len(SMALL))[:20], Reset()), 502, "upstream-unreachable", 6),
    "closed before the head": ((Close(),), 502, "upstream-unreachable", 6),
    "chunks cut off at once": ((CHUNKED, Close()), 502, "upstream-truncated", 3),
    "stalled before the head": ((Stall(),), 504, "upstream-timeout", 1),
    "stalled in the head": ((announcing(len(SMALL))[:20], Stall()), 504, "upstream-timeout", 1),
    "stalled in the body": ((announcing(len(SMALL)), HALF, Stall()), 504, "upstream-timeout", 3),
    "too large, announced": ((announcing(2_000_001), Stall()), 502, "upstream-too-large", 1),
    "two lengths": (framed("Content-Length: 100000", "Content-Length: 200000"), 502, "upstream-malformed", 1),
    "two lengths in one field": (framed("Content-Length: 200000, 200000"), 502, "upstream-malformed", 1),
    "the same length twice": (framed("Content-Length: 200000", "Content-Length: 200000"), 502, "upstream-malformed", 1),
    "length and chunked": (
        (head("Content-Length: 200000", "Transfer-Encoding: chunked"), chunks(SMALL), b"0\r\n\r\n"),
        502,
        "upstream-malformed",
        1,
    ),
    "unknown transfer coding": (framed("Transfer-Encoding: gzip, chunked"), 502, "upstream-malformed", 1),
    "negative length": (framed("Content-Length: -1"), 502, "upstream-malformed", 1),
    "signed length": (framed("Content-Length: +200000"), 502, "upstream-malformed", 1),
    "length of no digits": (framed("Content-Length: many"), 502, "upstream-malformed", 1),
    "ended by close alone": (framed(), 502, "upstream-malformed", 1),
    "coded as nobody undoes": (framed("Content-Encoding: br", "Content-Length: 200000"), 502, "upstream-malformed", 1),
    "coded otherwise": (framed("Content-Encoding: gzip", "Content-Length: 200000"), 502, "upstream-malformed", 1),
    "206 unasked": (
        framed("Content-Length: 200000", "Content-Range: bytes 0-199999/400000", status="206 Partial Content"),
        502,
        "upstream-malformed",
        1,
    ),
    "304 unasked": ((head('ETag: "one"', status="304 Not Modified"),), 502, "upstream-malformed", 1),
    "204": ((head(status="204 No Content"),), 502, "upstream-malformed", 1),
    "garbage": ((b"\x16\x03\x01 this is no HTTP\r\n\r\n", Close()), 502, "upstream-malformed", 1),
    "endless head": ((announcing(1)[:-2] + b"X-More: " + b"x" * 100_000, Close()), 502, "upstream-malformed", 1),
    "503 for ever": ((head("Content-Length: 0", status="503 Away"),), 502, "upstream-error", 3),
}


@pytest.mark.parametrize(
    ("script", "status", "kind", "fetches"), BEFORE_THE_FIRST_BYTE.values(), ids=BEFORE_THE_FIRST_BYTE.keys()
)
async def test_a_fault_before_the_first_byte_is_a_problem(
    start: Start,
    origin: FaultyOrigin,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    status: int,
    kind: str,
    fetches: int,
) -> None:
    # A short body waits for its end here however busy the machine is.
    monkeypatch.setattr("proxy.web.media.delivery._SOON_SECONDS", 60)
    stalls_in_the_head = (kind, fetches) == ("upstream-timeout", 1)
    gateway = await start(GATEWAY_LIMIT_HEADERS_SECONDS="1" if stalls_in_the_head else "20")
    origin.play(script)
    reply = await gateway.get(gateway.link(REF))
    assert (reply.status, reply.json["type"]) == (status, URN + kind)
    assert reply.headers["Cache-Control"] == "no-store"
    assert origin.asked == fetches
    await assert_good_again(gateway, origin, SMALL)


ONE_MB = LARGE[:1_000_000]
AFTER_THE_FIRST_BYTE: dict[str, Script] = {
    "truncated": (announcing(len(LARGE)), ONE_MB, Close()),
    "one byte short": (announcing(len(LARGE)), LARGE[:-1], Close()),
    "reset": (announcing(len(LARGE)), ONE_MB, Reset()),
    "chunks cut off": (CHUNKED, chunks(LARGE)[:1_000_000], Close()),
    "chunks reset": (CHUNKED, chunks(LARGE)[:1_000_000], Reset()),
    "no last chunk": (CHUNKED, chunks(LARGE), Close()),
    "no end of the last chunk": (CHUNKED, chunks(LARGE), b"0\r\n", Close()),
    "a broken chunk": (CHUNKED, chunks(ONE_MB), b"no size\r\n", Stall()),
    "stalled": (announcing(len(LARGE)), ONE_MB, Stall()),
    "chunks stalled": (CHUNKED, chunks(LARGE), Stall()),
    "too large, unannounced": (CHUNKED, chunks(LARGE + LARGE), b"0\r\n\r\n"),
}


@pytest.mark.parametrize("script", AFTER_THE_FIRST_BYTE.values(), ids=AFTER_THE_FIRST_BYTE.keys())
async def test_a_fault_after_the_first_byte_breaks_the_connection(
    gateway: RunningGateway, origin: FaultyOrigin, script: Script
) -> None:
    origin.play(script)
    async with gateway.session.get(URL(gateway.link(REF), encoded=True)) as response:
        assert response.status == 200
        assert (LARGE + LARGE).startswith(await assert_cut_off(response))
    assert origin.asked == 1
    await assert_good_again(gateway, origin, LARGE)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "apart"])
async def test_bytes_past_the_announced_end_prevent_storing(
    gateway: RunningGateway, origin: FaultyOrigin, body: bytes, at_once: bool
) -> None:
    answer = announcing(len(body)) + body
    origin.play((answer + b"more", Close()) if at_once else (answer, b"more", Close()))
    try:
        reply = await gateway.get(gateway.link(REF))
    except aiohttp.ClientError:
        pass
    else:
        # All that was announced may be on its way to a reader when the bytes past its end come (RFC 9112 §6.3).
        assert reply.status == 502 or reply.body == body
    await assert_good_again(gateway, origin, body)


@pytest.mark.parametrize("when", ["at once", "apart", "later"])
async def test_an_unasked_answer_is_never_taken_for_another_media(
    gateway: RunningGateway, origin: FaultyOrigin, when: str
) -> None:
    answer, unasked, later = announcing(len(SMALL)) + SMALL, announcing(7) + b"unasked", asyncio.Event()
    scripts: dict[str, Script] = {
        "at once": (answer + unasked, Stall()),
        "apart": (answer, unasked, Stall()),
        "later": (answer, later, unasked, Stall()),
    }
    origin.play(scripts[when], good(HALF))
    assert (await gateway.get(gateway.link(REF))).body == SMALL
    later.set()
    reply = await gateway.get(gateway.link(OTHER))
    assert (reply.status, reply.body) == (200, HALF)
    assert (await gateway.get(gateway.link(REF))).body == SMALL


async def test_http_1_0_gets_no_answer_without_a_clear_end(gateway: RunningGateway, origin: FaultyOrigin) -> None:
    """To it a close is the end of a body (RFC 9112 §6.3), so what has no length is read whole before it is sent."""
    origin.play((CHUNKED, chunks(LARGE), Close()))
    async with (
        aiohttp.ClientSession(version=aiohttp.HttpVersion10) as session,
        session.get(URL(gateway.link(REF), encoded=True)) as response,
    ):
        assert response.status == 502
    assert origin.asked == 3
    await assert_good_again(gateway, origin, LARGE)


@pytest.mark.parametrize(
    "script",
    [
        trickled(announcing(3_000) + SMALL[:3_000]),
        trickled(CHUNKED + chunks(SMALL[:3_000], 700) + b"0\r\n\r\n"),
        (CHUNKED, chunks(SMALL[:3_000], 1), b"0\r\nX-Trailer: 1\r\n\r\n"),
        (CHUNKED, b"bb8;name=value\r\n" + SMALL[:3_000] + b"\r\n", b"0\r\n\r\n"),
        (head("Content-Length: 3000", "Connection: close"), SMALL[:3_000], Close()),
    ],
    ids=["trickled", "trickled chunks", "chunks of one byte", "chunk extension", "closed at the end"],
)
async def test_what_is_odd_and_whole_is_served_and_stored(
    gateway: RunningGateway, origin: FaultyOrigin, script: Script
) -> None:
    origin.play(script)
    fetched, hit = await gateway.get(gateway.link(REF)), await gateway.get(gateway.link(REF))
    for reply in (fetched, hit):
        assert (reply.status, reply.body == SMALL[:3_000]) == (200, True)
    assert "; hit" in hit.headers["Cache-Status"]
    assert origin.asked == 1


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_burst_of_5xx_costs_two_requests_and_no_answer(
    gateway: RunningGateway, origin: FaultyOrigin, status: int
) -> None:
    away = (head("Content-Length: 4", "Retry-After: 0", status=f"{status} Away") + b"away",)
    origin.play(away, away, good(SMALL))
    reply = await gateway.get(gateway.link(REF))
    assert (reply.status, reply.body == SMALL) == (200, True)
    assert origin.asked == 3


async def test_a_connection_broken_twice_costs_two_requests_and_no_answer(
    gateway: RunningGateway, origin: FaultyOrigin
) -> None:
    origin.play((Reset(),), (announcing(len(SMALL)), HALF, Close()), good(SMALL))
    reply = await gateway.get(gateway.link(REF))
    assert (reply.status, reply.body == SMALL) == (200, True)
    assert origin.asked == 3


async def test_a_failed_validation_does_not_touch_what_is_stored(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_CACHE_DEFAULT_TTL="0", GATEWAY_CACHE_STALE_IF_ERROR="600")
    link = gateway.link(REF)
    assert (await gateway.get(link)).body == SMALL
    origin.play((announcing(len(SMALL)), HALF, Close()))
    broken = await gateway.get(link)
    assert (broken.status, broken.json["type"]) == (502, URN + "upstream-truncated")
    for script in ((Close(),), (b"no HTTP\r\n\r\n", Close())):
        origin.play(script)
        stale = await gateway.get(link)
        assert (stale.status, stale.body == SMALL) == (200, True)
        assert "detail=stale-if-error" in stale.headers["Cache-Status"]
    origin.play((head('ETag: "one"', status="304 Not Modified"),))
    valid = await gateway.get(link)
    assert (valid.status, valid.body == SMALL) == (200, True)
    assert "fwd-status=304" in valid.headers["Cache-Status"]
