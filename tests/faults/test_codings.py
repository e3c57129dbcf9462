"""Coded bodies: a client sees what they stand for, whole and as if it had been sent so, or an error and no byte."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth

from tests.faults.conftest import Start, Within
from tests.faults.origin import LARGE, OTHER, REF, SMALL, Close, FaultyOrigin, Script, Stall, chunks, head
from tests.faults.serving import Joins, until_stored
from tests.faults.test_upstream_faults import URN, assert_good_again
from tests.functional.harness import RunningGateway

READER = ("reader", "r" * 40)
BODIES = pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])


def coded(body: bytes, coding: str = "gzip", *lines: str) -> Script:
    """Return a whole answer whose body is coded already."""
    return (
        head("Content-Type: image/jpeg", f"Content-Encoding: {coding}", *lines, f"Content-Length: {len(body)}"),
        body,
    )


def swelling(size: int) -> bytes:
    """Return many bytes in few."""
    return gzip.compress(bytes(size))


@BODIES
@pytest.mark.parametrize("coding", ["gzip", "X-GZip", "deflate"])
async def test_a_coded_body_is_as_good_as_a_plain_one(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path, body: bytes, coding: str
) -> None:
    origin.play(coded(zlib.compress(body) if coding == "deflate" else gzip.compress(body), coding, 'ETag: "one"'))
    link = gateway.link(REF)
    fetched = await gateway.get(link)
    await until_stored(folder, 1)
    hit, measured, part = await gateway.get(link), await gateway.head(link), await gateway.get(link, Range="bytes=-5")
    for reply in (fetched, hit):
        assert (reply.status, reply.body == body) == (200, True)
    for reply in (fetched, hit, measured):
        assert reply.headers["Content-Length"] == str(len(body))
        assert reply.headers["ETag"] == '"one"'
        assert "Content-Encoding" not in reply.headers
    assert (part.status, part.body) == (206, body[-5:])
    assert "; stored" in fetched.headers["Cache-Status"]
    assert "; hit" in hit.headers["Cache-Status"]
    assert origin.asked == 1


@BODIES
@pytest.mark.parametrize("storing", ["max-age=60", "no-store"])
async def test_a_cold_head_and_a_cold_range_know_the_length(
    gateway: RunningGateway, origin: FaultyOrigin, body: bytes, storing: str
) -> None:
    origin.play(coded(gzip.compress(body), "gzip", f"Cache-Control: {storing}"))
    measured = await gateway.head(gateway.link(REF))
    assert (measured.status, measured.headers["Content-Length"]) == (200, str(len(body)))
    part = await gateway.get(gateway.link(OTHER), Range="bytes=1-3")
    assert (part.status, part.body) == (206, body[1:4])
    assert part.headers["Content-Range"] == f"bytes 1-3/{len(body)}"


@pytest.mark.parametrize("coding", ["", "identity", "aws-chunked", "binary", "UTF-8"])
async def test_what_is_no_coding_is_sent_on_as_it_is(
    gateway: RunningGateway, origin: FaultyOrigin, coding: str
) -> None:
    origin.play(coded(LARGE, coding))
    reply = await gateway.get(gateway.link(REF))
    assert (reply.status, reply.body == LARGE, reply.headers["Content-Length"]) == (200, True, str(len(LARGE)))
    assert "Content-Encoding" not in reply.headers


@pytest.mark.parametrize("tag", ['ETag: W/"one"', "X-None: 1"])
async def test_a_tag_is_strong_where_the_upstream_has_none(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path, tag: str
) -> None:
    origin.play(coded(gzip.compress(LARGE), "gzip", tag))
    link = gateway.link(REF)
    fetched = await gateway.get(link)
    await until_stored(folder, 1)
    assert fetched.headers["ETag"].startswith('"')
    part = await gateway.get(link, Range="bytes=0-9", If_Range=fetched.headers["ETag"])
    assert (part.status, part.body) == (206, LARGE[:10])
    assert (await gateway.get(link, If_None_Match=fetched.headers["ETag"])).status == 304
    assert origin.asked == 1


async def test_a_coded_body_is_validated_by_the_upstreams_own_tag(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path
) -> None:
    stale = "Cache-Control: max-age=0"
    not_modified = head('ETag: "one"', "Content-Encoding: gzip", stale, status="304 Not Modified")
    origin.play(coded(gzip.compress(LARGE), "gzip", 'ETag: "one"', stale), (not_modified,))
    link = gateway.link(REF)
    fetched = await gateway.get(link)
    await until_stored(folder, 1)
    validated = await gateway.get(link)
    assert "fwd-status=304" in validated.headers["Cache-Status"]
    for reply in (fetched, validated):
        assert (reply.status, reply.body == LARGE, reply.headers["ETag"]) == (200, True, '"one"')
    assert origin.asked == 2


async def test_a_coded_body_outlives_a_restart(within: Within, origin: FaultyOrigin, folder: Path) -> None:
    origin.play(coded(gzip.compress(LARGE), "gzip", 'ETag: "one"'))
    async with within() as gateway:
        await gateway.get(gateway.link(REF))
        await until_stored(folder, 1)
    async with within() as gateway:
        reply = await gateway.get(gateway.link(REF))
    assert (reply.body == LARGE, reply.headers["ETag"], origin.asked) == (True, '"one"', 1)


GZIP = gzip.compress(LARGE)
WRONG_SUM = GZIP[:-8] + bytes([GZIP[-8] ^ 1]) + GZIP[-7:]
RAW_END = zlib.compress(LARGE)[:-1]
FAULTS: dict[str, tuple[Script, str, int]] = {
    "ends early": (coded(GZIP[:-1]), "upstream-malformed", 1),
    "ends in its head": (coded(GZIP[:5]), "upstream-malformed", 1),
    "wrong checksum": (coded(WRONG_SUM), "upstream-malformed", 1),
    "zlib ends early": (coded(RAW_END, "deflate"), "upstream-malformed", 1),
    "garbage behind": (coded(GZIP + b"\0"), "upstream-malformed", 1),
    "two members": (coded(GZIP + gzip.compress(b"more")), "upstream-malformed", 1),
    "no gzip": (coded(LARGE), "upstream-malformed", 1),
    "no deflate": (coded(b"\xff" * 1_000, "deflate"), "upstream-malformed", 1),
    "a byte too large": (coded(swelling(2_000_001)), "upstream-too-large", 1),
    "a bomb": (coded(swelling(200_000_000)), "upstream-too-large", 1),
    "cut off": ((*coded(GZIP)[:1], GZIP[:-9], Close()), "upstream-truncated", 3),
    "chunks cut off": (
        (head("Content-Encoding: gzip", "Transfer-Encoding: chunked"), chunks(GZIP), Close()),
        "upstream-truncated",
        3,
    ),
    "brotli": (coded(LARGE, "br"), "upstream-malformed", 1),
    "a list": (coded(gzip.compress(GZIP), "gzip, gzip"), "upstream-malformed", 1),
}


@pytest.mark.parametrize("storing", ["max-age=60", "no-store"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("script", "kind", "fetches"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_broken_coded_body_is_a_problem_and_not_stored(
    gateway: RunningGateway, origin: FaultyOrigin, script: Script, kind: str, fetches: int, method: str, storing: str
) -> None:
    beginning, *rest = script
    assert isinstance(beginning, bytes)
    origin.play((beginning[:-2] + f"Cache-Control: {storing}\r\n\r\n".encode(), *rest))
    reply = await gateway.ask(method, gateway.link(REF))
    assert (reply.status, reply.headers["Cache-Control"], origin.asked) == (502, "no-store", fetches)
    if method == "GET":
        assert reply.json["type"] == URN + kind
    await assert_good_again(gateway, origin, SMALL)


async def test_a_coding_that_is_not_undone_is_named(start: Start, origin: FaultyOrigin) -> None:
    gateway = await start(GATEWAY_CLIENTS=":".join(READER))
    origin.play(coded(LARGE, "<i>br</i>, \u00e9" + "x" * 500))
    reply = await gateway.get(gateway.link(REF))
    detail = str(reply.json["detail"])
    assert reply.status == 502
    assert "?i?br??i?, ??" in detail
    assert len(detail) < 200
    origin.play(coded(LARGE, "zstd"))
    resource = f"/2010-04-01/Accounts/{REF.account}/Messages/{REF.message}/Media/{REF.media}"
    reply = await gateway.ask("GET", resource, headers={"Authorization": encode_basic_auth(*READER)})
    assert reply.status == 502
    assert b"zstd" in reply.body


async def test_a_stalled_coded_body_is_too_slow(gateway: RunningGateway, origin: FaultyOrigin) -> None:
    origin.play((*coded(GZIP)[:1], GZIP[:1_000_000], Stall()))
    assert (await gateway.get(gateway.link(REF))).status == 504


@pytest.mark.parametrize("storing", ["max-age=60", "no-store"])
async def test_no_byte_goes_out_before_the_last_one_has_come(
    gateway: RunningGateway, origin: FaultyOrigin, joins: Joins, storing: str
) -> None:
    last = asyncio.Event()
    beginning, body = coded(GZIP, "gzip", f"Cache-Control: {storing}")
    assert isinstance(body, bytes)
    # What comes last spoils the whole: a reader that had been sent anything could not be told.
    origin.play((beginning, body[:-4], last, bytes(4)))
    reading = asyncio.create_task(gateway.get(gateway.link(REF)))
    await origin.requests_arrive(1)
    await joins.reach(1)
    last.set()
    reply = await reading
    assert (reply.status, reply.json["type"]) == (502, URN + "upstream-malformed")


async def test_a_crowd_at_a_coded_body_makes_one_fetch(
    gateway: RunningGateway, origin: FaultyOrigin, joins: Joins
) -> None:
    last = asyncio.Event()
    origin.play((coded(GZIP)[0], GZIP[:-4], last, GZIP[-4:]))
    crowd = [asyncio.create_task(gateway.get(gateway.link(REF))) for _ in range(5)]
    await joins.reach(5)
    last.set()
    for reply in await asyncio.gather(*crowd):
        assert (reply.status, reply.body == LARGE) == (200, True)
    assert origin.asked == 1


async def test_a_broken_coded_body_is_fetched_again_for_its_crowd(
    gateway: RunningGateway, origin: FaultyOrigin, joins: Joins
) -> None:
    last = asyncio.Event()
    origin.play((coded(GZIP)[0], GZIP[:-4], last, Close()), coded(GZIP))
    crowd = [asyncio.create_task(gateway.get(gateway.link(REF))) for _ in range(5)]
    await joins.reach(5)
    last.set()
    for reply in await asyncio.gather(*crowd):
        assert (reply.status, reply.body == LARGE) == (200, True)
    assert origin.asked == 2


async def test_a_coded_body_that_is_not_stored_is_sent_whole(
    gateway: RunningGateway, origin: FaultyOrigin, folder: Path
) -> None:
    origin.play(coded(GZIP, "gzip", "Cache-Control: no-store"))
    for _ in range(2):
        reply = await gateway.get(gateway.link(REF))
        assert (reply.status, reply.body == LARGE) == (200, True)
        assert reply.headers["Content-Length"] == str(len(LARGE))
        assert "stored" not in reply.headers["Cache-Status"]
    assert origin.asked == 2
    await until_stored(folder, 0)


async def test_a_stale_response_stands_in_for_a_broken_coded_body(
    start: Start, origin: FaultyOrigin, folder: Path
) -> None:
    gateway = await start(GATEWAY_CACHE_STALE_IF_ERROR="3600")
    origin.play(coded(GZIP, "gzip", "Cache-Control: max-age=0"), coded(WRONG_SUM))
    link = gateway.link(REF)
    assert (await gateway.get(link)).status == 200
    await until_stored(folder, 1)
    reply = await gateway.get(link)
    assert (reply.status, reply.body == LARGE, origin.asked) == (200, True, 2)
