"""Single ranges in the express lane, of media in RAM and of files; what else asks for parts goes the ordinary way."""

from __future__ import annotations

import pytest

from proxy.sandbox import Media
from tests.functional.express import HeldClock, Start, Station, ordinary, turns, warm
from tests.functional.harness import Reply

LEARNT = "Range: bytes=7-8"


@pytest.fixture(params=["photo", "film"], ids=["ram", "file"])
def media(request: pytest.FixtureRequest, photo: Media, film: Media) -> Media:
    """Return one whose bytes RAM holds, and one whose bytes it does not."""
    return photo if request.param == "photo" else film


def all_of(reply: Reply) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return an answer but for its id."""
    return reply.status, [(name, value) for name, value in reply.headers.items() if name != "X-Request-Id"], reply.body


async def pair(start: Start, media: Media) -> tuple[Station, Station]:
    """Return a gateway whose lane knows such a request, and one without a lane over the same folder."""
    clock = HeldClock()
    at, plain = await start(clock), await start(clock, GATEWAY_EXPRESS="0")
    async with at.connection() as connection:
        # A fetch of which only a part is wanted is given up once that was read.
        await warm(connection, at, at.get(media.ref))
        await warm(connection, at, at.get(media.ref, LEARNT))
    disk = at.gateway.media.engine.tiers.disk
    assert disk is not None
    # RAM has it a moment before the folder.
    while await disk.backend.fetch(str(media.ref)) is None:
        await turns()
    return at, plain


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("0-0", slice(0, 1)),
        ("0-1", slice(0, 2)),
        ("7-8", slice(7, 9)),
        ("0100-000199", slice(100, 200)),
        ("90000-95000", slice(90_000, 95_001)),
        ("0-", slice(0, None)),
        ("5-", slice(5, None)),
        ("99000-999999999999999999", slice(99_000, None)),
        ("-1", slice(-1, None)),
        ("-100000", slice(-100_000, None)),
        ("-999999999999999999", slice(0, None)),
    ],
)
async def test_a_range_not_learnt_is_answered_as_without_the_lane(
    start: Start, media: Media, asked: str, span: slice
) -> None:
    at, plain = await pair(start, media)
    octets = at.get(media.ref, f"Range: bytes={asked}")
    async with plain.connection() as connection:
        wanted = await ordinary(connection, plain, octets)
    assert (wanted.status, wanted.body) == (206, media.read()[span])
    before = at.express
    # The first request of a connection, and a later one.
    async with at.connection() as connection:
        replies = [await connection.ask(octets) for _ in range(2)]
    assert [all_of(reply) for reply in replies] == [all_of(wanted)] * 2
    assert at.express == before + 2


@pytest.mark.parametrize(
    "lines",
    [
        ("Range: bytes=5000000-",),
        ("Range: bytes=0-0,500-500",),
        ("Range: bytes=0-0, 1-1",),
        ("Range: bytes=1-0",),
        ("Range: bytes=-0",),
        ("Range: bytes=-",),
        ("Range: bytes=",),
        ("Range: bytes=0-99999999999999999999",),
        ("Range: bytes=x",),
        ("Range: seconds=0-1",),
        ("Range: Bytes=0-1",),
        ("Range: bytes= 0-1",),
        ("Range: bytes=0 -1",),
        ("Range: bytes=0-1 ",),
        ("Range:  bytes=0-1",),
        ("Range:bytes=0-1",),
        ("RANGE: bytes=0-1",),
        ("rAnge: bytes=0-1",),
        ("Range : bytes=0-1",),
        (" Range: bytes=0-1",),
        ("Range: bytes=0-1", " ,500-501"),
        ("Range: bytes=0-1", "Range: bytes=0-1"),
        ("Range: bytes=0-1", "range: bytes=2-3"),
        ("Range: bytes=0-1", "RANGE: x"),
        ("X-Range: bytes=0-1",),
        ("Range: bytes=0-1", "If-Range: $"),
        ("Range: bytes=0-1", 'If-Range: "other"'),
        ("Range: bytes=0-1", "If-Match: $"),
        ("Range: bytes=0-1", "X-Unknown: 1"),
        ("Range: bytes=0-1", "Connection: close"),
    ],
    ids=str,
)
async def test_all_but_a_plain_single_range_goes_the_ordinary_way(
    start: Start, media: Media, lines: tuple[str, ...]
) -> None:
    at, plain = await pair(start, media)
    octets = at.get(media.ref, *(line.replace("$", media.etag) for line in lines))
    async with plain.connection() as connection:
        wanted = await ordinary(connection, plain, octets)
    for _ in range(3):
        async with at.connection() as connection:
            reply = await ordinary(connection, at, octets)
            await at.settled()
            await turns()
        if b"multipart" in reply.headers["Content-Type"].encode():
            assert reply.headers.keys() == wanted.headers.keys()
        else:
            assert _timeless(reply) == _timeless(wanted)


def _timeless(reply: Reply) -> tuple[int, set[str], bytes]:
    """Check that a problem's document names the request."""
    problem = reply.status >= 400
    return reply.status, set(reply.headers), b"" if problem else reply.body


async def test_a_head_with_a_range_is_ordinary_and_whole(start: Start, media: Media) -> None:
    at, plain = await pair(start, media)
    octets = at.get(media.ref, "Range: bytes=0-1", method="HEAD")
    async with at.connection() as connection, plain.connection() as other:
        await warm(connection, at, at.get(media.ref, method="HEAD"))
        wanted = await ordinary(other, plain, octets)
        for _ in range(3):
            assert all_of(await ordinary(connection, at, octets)) == all_of(wanted)
    assert (wanted.status, wanted.headers["Content-Length"]) == (200, str(media.length))


@pytest.mark.parametrize("asked", ["bytes=0-1", "bytes=5000000-", "bytes=-"])
async def test_what_the_client_has_is_not_sent_in_parts_either(start: Start, media: Media, asked: str) -> None:
    at, plain = await pair(start, media)
    octets = at.get(media.ref, f"If-None-Match: {media.etag}", f"Range: {asked}")
    async with at.connection() as connection, plain.connection() as other:
        reply = await warm(connection, at, octets)
        assert all_of(reply) == all_of(await ordinary(other, plain, octets))
        assert (reply.status, reply.body) == (304, b"")
        # What it has not, is.
        other_tag = at.get(media.ref, 'If-None-Match: "other"', "Range: bytes=3-9")
        part = await warm(connection, at, other_tag)
    assert (part.status, part.body) == (206, media.read()[3:10])


async def test_a_range_and_the_whole_teach_the_lane_separately(start: Start, media: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        await warm(connection, at, at.get(media.ref))
        assert (await ordinary(connection, at, at.get(media.ref, "Range: bytes=1-2"))).body == media.read()[1:3]
        part = await warm(connection, at, at.get(media.ref, "Range: bytes=3-4"))
        assert (part.status, part.body) == (206, media.read()[3:5])
        whole = await connection.ask(at.get(media.ref))
    assert (whole.status, whole.body) == (200, media.read())


async def test_a_range_behind_a_head_s_end_is_ignored(start: Start, media: Media) -> None:
    """It is the beginning of a next request, and no good one."""
    at = await start()
    octets = at.get(media.ref)
    async with at.connection() as connection:
        await warm(connection, at, at.get(media.ref))
        await warm(connection, at, at.get(media.ref, LEARNT))
        # An empty line before a request is passed over (RFC 9112 §2.2).
        assert (await connection.ask(octets + b"\r\n")).status == 200
        await at.settled()
        await turns()
    for rest in (b"Range: bytes=0-1\r\n\r\n", b"Range: bytes=0-1\r\n"):
        async with at.connection() as connection:
            connection.writer.write(octets + rest)
            # What is not HTTP is answered alone.
            assert (await connection.answer()).status == 400
