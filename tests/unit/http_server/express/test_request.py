"""Octets are cut only if they are one whole head with one reading; aiohttp's own parsers agree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy, RawRequestMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http_server.express.request import cut

START = b"GET /media/a?signature=b"
LINES = (b"Host: a", b"Accept: image/*", b"Cookie: range: bytes=0-1", b"Prange: bytes=0-1", b'If-None-Match: "a"')
RANGE = b"Range: bytes=0-9"
ODD = (
    b"", b"\r\n", b"\n", b"\r", b" ", b"\t", b" c\r\n", b"\r\n c", b":", RANGE, RANGE + b"\r\n", b"\r\n" + RANGE,
    b"\r\n" + RANGE + b"\r\n", b"\n" + RANGE, RANGE + b"\n", b"\r\nrange: bytes=5-\r\n", b"\r\nRANGE: bytes=-5",
    b"Content-Length: 5\r\n", b"\r\nTransfer-Encoding: chunked", b"hello", b"\r\n\r\n", b"\n\n", b"\0",
    START + b" HTTP/1.1\r\nHost: a\r\n\r\n", b" HTTP/1.1\r\n",
)  # fmt: skip


def block(*lines: bytes) -> bytes:
    """Return the fields of a request with these lines."""
    return b"\r\n".join([b" HTTP/1.1", *lines, b"", b""])


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


Parser = type[HttpRequestParser] | type[HttpRequestParserPy]


def parsed(octets: bytes, parser: Parser, loop: asyncio.AbstractEventLoop) -> list[RawRequestMessage] | None:
    """Return the messages that a parser finds in octets; None if they are not whole messages without bodies."""
    try:
        messages, _, tail = parser(BaseProtocol(loop), loop, 65_536).feed_data(octets)
    except HttpProcessingError:
        return None
    if tail or any(not payload.is_eof() for _, payload in messages):
        return None
    return [message for message, _ in messages]


def fields(message: RawRequestMessage) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in message.headers.items())


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request as it should be, or with something more between two of its lines, behind it, or anywhere in it."""
    lines = [START + b" HTTP/1.1", *draw(st.lists(st.sampled_from([*LINES, RANGE]), max_size=3)), b"", b""]
    for _ in range(draw(st.integers(0, 2))):
        # The last of these places lie behind the empty line.
        lines.insert(draw(st.integers(1, len(lines))), draw(st.just(RANGE) | st.sampled_from(ODD)))
    octets = b"\r\n".join(lines)
    if draw(st.integers(0, 3)):
        return octets
    first = draw(st.integers(0, len(octets)))
    return octets[:first] + draw(st.sampled_from(ODD)) + octets[first + draw(st.integers(0, 2)) :]


@settings(max_examples=2_000)
@given(requests())
def test_one_request_is_cut_and_its_range_taken_out(loop: asyncio.AbstractEventLoop, octets: bytes) -> None:
    parts = cut(octets)
    if parts is None:
        return
    start, rest, asked = parts
    for parser in (HttpRequestParser, HttpRequestParserPy):
        # What the lane may have learnt: a head that the parser has accepted, alone and with one reading.
        known = parsed(start + rest, parser, loop)
        if known is None or len(known) != 1 or known[0].path != start[4:].decode():
            continue
        if "range" in {name.lower() for name in known[0].headers}:
            continue
        came = parsed(octets, parser, loop)
        assert came is not None
        assert len(came) == 1
        taken = [("range", asked)] if asked else []
        assert fields(came[0]) == sorted([*fields(known[0]), *taken])


@pytest.mark.parametrize(
    "behind",
    [b"\r\n", b"\n", b"x", RANGE, RANGE + b"\r\n", RANGE + b"\r\n\r\n", START + block(b"Host: a"), b"\r\n" + RANGE],
)
def test_octets_behind_the_first_empty_line_prevent_the_cut(behind: bytes) -> None:
    assert cut(START + block(b"Host: a")) is not None
    assert cut(START + block(b"Host: a") + behind) is None


@pytest.mark.parametrize(
    "octets", [b"", b"\r\n\r\n", START, START + b" HTTP/1.1\r\nHost: a\r\n", START + b" HTTP/1.0\r\n\r\n"]
)
def test_what_is_not_a_whole_head_is_not_cut(octets: bytes) -> None:
    assert cut(octets) is None


@pytest.mark.parametrize("parser", [HttpRequestParser, HttpRequestParserPy])
@pytest.mark.parametrize(
    "odd", [b"A: b\r\n c", b"A: b\r\n\tc", b" A: b", b"A: b\nB: c", b"A: b\rB: c", b"A: b\n", b"\nA: b"]
)
def test_aiohttp_refuses_a_head_with_more_than_one_reading(
    loop: asyncio.AbstractEventLoop, parser: Parser, odd: bytes
) -> None:
    """So no line of a head that was learnt goes on in the next, and a line may be put between any two of them."""
    assert parsed(START + block(b"Host: a", b"A: b"), parser, loop) is not None
    assert parsed(START + block(b"Host: a", odd), parser, loop) is None


VALUES = st.from_regex(r"\Abytes=[0-9]{0,3}-[0-9]{0,20}\Z") | st.from_regex(r"\A[bB]ytes ?=[-0-9, ]{0,8}\Z")


@settings(max_examples=300)
@given(VALUES, st.lists(st.sampled_from(LINES), max_size=2))
def test_the_range_taken_out_is_the_one_aiohttp_reads(value: str, others: list[bytes]) -> None:
    octets = START + block(*others, f"Range: {value}".encode(), b"Host: a")
    parts = cut(octets)
    assert parts is not None
    start, rest, asked = parts
    assert start == START
    if not asked:
        assert start + rest == octets
        return
    assert rest == block(*others, b"Host: a")
    assert asked == value
    # One range, so never several parts.
    assert len(value.split(",")) == 1
