"""Ranges of a signed link's media (RFC 9110 §14): one part, several, none, under `If-Range`, hot and cold."""

from __future__ import annotations

import re

import pytest

from proxy.sandbox import Headers, Media, Sandbox, Unlengthed
from proxy.semantics.fields import format_date
from tests.functional.harness import Reply, RunningGateway


def parts_of(reply: Reply) -> list[tuple[str, str, bytes]]:
    """Return type, Content-Range and bytes of each part of a multipart/byteranges body, read back strictly."""
    match = re.fullmatch(r"multipart/byteranges; boundary=([0-9A-Za-z]+)", reply.headers["Content-Type"])
    assert match is not None
    delimiter = b"\r\n--" + match[1].encode()
    before, *parts, after = (b"\r\n" + reply.body).split(delimiter)
    assert (before, after) == (b"", b"--\r\n")
    found: list[tuple[str, str, bytes]] = []
    for part in parts:
        head, _, octets = part.partition(b"\r\n\r\n")
        fields = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
        assert fields.keys() == {"Content-Type", "Content-Range"}
        found.append((fields["Content-Type"], fields["Content-Range"], octets))
    return found


@pytest.mark.parametrize("hot", [False, True])
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-0", 0, 0), ("-5", -5, None), ("5-", 5, None), ("0-", 0, None), ("100-199", 100, 199), ("9-99999999", 9, None)],
)
async def test_one_range_is_one_part(
    gateway: RunningGateway, film: Media, asked: str, first: int, last: int | None, hot: bool
) -> None:
    link = gateway.link(film.ref)
    if hot:
        await gateway.get(link)
    reply = await gateway.get(link, Range=f"bytes={asked}")
    start = first % film.length
    end = film.length - 1 if last is None else last
    assert reply.status == 206
    assert reply.headers["Content-Range"] == f"bytes {start}-{end}/{film.length}"
    assert reply.headers["Content-Length"] == str(end - start + 1)
    assert reply.headers["Content-Type"] == "audio/wav"
    assert reply.body == film.read()[start : end + 1]
    assert reply.headers["Cache-Status"].startswith("media-gateway; hit" if hot else "media-gateway; fwd=uri-miss")
    assert reply.headers["ETag"] == film.etag


@pytest.mark.parametrize("hot", [False, True])
async def test_several_ranges_are_parts_in_the_order_asked_for(gateway: RunningGateway, film: Media, hot: bool) -> None:
    link = gateway.link(film.ref)
    if hot:
        await gateway.get(link)
    reply = await gateway.get(link, Range="bytes=4000000-4699999,0-9,-7")
    size = film.length
    spans = [(4_000_000, 4_699_999), (0, 9), (size - 7, size - 1)]
    assert reply.status == 206
    assert reply.headers["Content-Length"] == str(len(reply.body))
    assert "Content-Range" not in reply.headers
    assert parts_of(reply) == [
        ("audio/wav", f"bytes {first}-{last}/{size}", film.read()[first : last + 1]) for first, last in spans
    ]


@pytest.mark.parametrize("asked", ["{size}-", "{size}-{size}", "-0", "99999999999999999999-"])
async def test_an_unsatisfiable_range_is_416_with_the_length(gateway: RunningGateway, photo: Media, asked: str) -> None:
    for _ in ("cold", "hot"):
        reply = await gateway.get(gateway.link(photo.ref), Range="bytes=" + asked.format(size=photo.length))
        assert reply.status == 416
        assert reply.headers["Content-Range"] == f"bytes */{photo.length}"
        assert reply.json["status"] == 416
        assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("value", ["bytes=5-4", "bytes=", "bytes=a-b", "lines=0-1", "bytes 0-1", "bytes=0-1;q=1"])
async def test_a_malformed_or_foreign_range_is_ignored(gateway: RunningGateway, photo: Media, value: str) -> None:
    reply = await gateway.get(gateway.link(photo.ref), Range=value)
    assert (reply.status, reply.body) == (200, photo.read())


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("{etag}", 206),
        ("W/{etag}", 200),
        ('"other"', 200),
        ("{modified}", 206),
        ("{later}", 200),
        ("{earlier}", 200),
        ("garbage", 200),
    ],
)
async def test_if_range_holds_only_with_a_strongly_equal_validator(
    gateway: RunningGateway, photo: Media, condition: str, status: int
) -> None:
    made = photo.date_created
    value = condition.format(
        etag=photo.etag,
        modified=format_date(made),
        later=format_date(made + 1),
        earlier=format_date(made - 1),
    )
    for _ in ("cold", "hot"):
        reply = await gateway.get(gateway.link(photo.ref), Range="bytes=1-3", If_Range=value)
        assert (reply.status, reply.body) == (status, photo.read()[1:4] if status == 206 else photo.read())


async def test_if_range_passes_with_the_gateways_own_entity_tag(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    """A weak entity-tag of the upstream gives way to an opaque strong one, and that serves ranges."""
    sandbox.fault(Headers(put=(("ETag", 'W/"weak"'),)))
    link = gateway.link(photo.ref)
    etag = (await gateway.get(link)).headers["ETag"]
    assert not etag.startswith("W/")
    assert (await gateway.get(link, Range="bytes=0-0", If_Range=etag)).status == 206
    assert (await gateway.get(link, Range="bytes=0-0", If_Range='W/"weak"')).status == 200


@pytest.mark.parametrize("asked", ["0-0", "-3", "7-"])
async def test_a_range_of_unsaid_length_waits_for_the_end(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, asked: str
) -> None:
    sandbox.fault(Unlengthed(chunked=True))
    reply = await gateway.get(gateway.link(photo.ref), Range=f"bytes={asked}")
    expected = {"0-0": photo.read()[:1], "-3": photo.read()[-3:], "7-": photo.read()[7:]}[asked]
    assert (reply.status, reply.body) == (206, expected)
    assert reply.headers["Content-Range"].endswith(f"/{photo.length}")


async def test_a_range_of_unsaid_length_is_ignored_if_not_stored(
    gateway: RunningGateway, sandbox: Sandbox, film: Media
) -> None:
    sandbox.fault(Unlengthed(chunked=True))
    sandbox.fault(Headers(put=(("Cache-Control", "no-store"),)))
    reply = await gateway.get(gateway.link(film.ref), Range="bytes=0-0")
    assert (reply.status, reply.body) == (200, film.read())


async def test_unstored_media_give_one_range_and_ignore_several(
    gateway: RunningGateway, sandbox: Sandbox, film: Media
) -> None:
    """Its bytes can be read once, in order."""
    sandbox.fault(Headers(put=(("Cache-Control", "no-store"),)))
    link = gateway.link(film.ref)
    reply = await gateway.get(link, Range="bytes=4000000-4000009")
    assert (reply.status, reply.body) == (206, film.read()[4_000_000:4_000_010])
    reply = await gateway.get(link, Range="bytes=4000000-4000009,0-9")
    assert (reply.status, reply.body) == (200, film.read())


async def test_the_upstream_is_never_asked_for_a_part(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    await gateway.get(gateway.link(photo.ref), Range="bytes=0-0", If_None_Match='"x"', If_Range=photo.etag)
    asked = {name.lower() for record in sandbox.requests for name, _ in record.headers}
    assert sandbox.requests
    assert not asked & {"range", "if-range", "if-none-match", "if-match", "if-modified-since"}


async def test_a_range_of_no_bytes(gateway: RunningGateway, sandbox: Sandbox) -> None:
    (empty,) = (await sandbox.add_message([("image/png", b"")], date_created=1_700_000_000)).media
    for _ in ("cold", "hot"):
        reply = await gateway.get(gateway.link(empty.ref), Range="bytes=0-0")
        assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */0")
        reply = await gateway.get(gateway.link(empty.ref), Range="bytes=-1")
        assert (reply.status, reply.body) == (200, b"")
