"""Every fault, as a raw client meets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession
from yarl import URL

from proxy.sandbox import (
    Disconnect,
    Headers,
    Media,
    Mode,
    Overrun,
    Oversize,
    Point,
    Raw,
    RedirectHops,
    RedirectLoop,
    RedirectStatus,
    RedirectTo,
    Sandbox,
    StallBody,
    StallHeaders,
    Status,
    Truncate,
    Unlengthed,
    WrongType,
)

Ask = Callable[..., Awaitable[ClientResponse]]


async def octets(url: str, headers: dict[str, str] | None = None) -> bytes:
    """Return everything that comes over the wire until the server closes, with no HTTP client's opinion."""
    target = URL(url, encoded=True)
    assert target.host is not None
    reader, writer = await asyncio.open_connection(target.host, target.port)
    lines = {"Host": target.authority, "Connection": "close", **(headers or {})}
    head = f"GET {target.raw_path_qs} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(head.encode() + b"\r\n")
    received = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return received


@pytest.fixture
async def location(sandbox: Sandbox, api: Ask, photo: Media) -> str:
    return (await api(sandbox.media_url(photo))).headers["Location"]


async def test_a_fresh_404_turns_into_the_media_after_some_requests(
    sandbox: Sandbox, api: Ask, fetch: Ask, photo: Media
) -> None:
    sandbox.fault(Status(404), media_sid=photo.sid, times=2)
    for _ in range(2):
        answer = await api(sandbox.media_url(photo))
        assert answer.status == 404
        assert "<Code>20404</Code>" in await answer.text()
    assert (await fetch(photo)).status == 200


async def test_a_fresh_404_turns_into_the_media_after_some_seconds(
    sandbox: Sandbox, fetch: Ask, photo: Media, set_clock: Callable[[float], None]
) -> None:
    sandbox.fault(Status(404), seconds=3)
    assert (await fetch(photo)).status == 404
    set_clock(1_800_000_003)
    assert (await fetch(photo)).status == 200


async def test_a_fault_for_one_media_leaves_the_others_alone(sandbox: Sandbox, fetch: Ask, photo: Media) -> None:
    sandbox.fault(Status(500), media_sid=photo.sid)
    assert (await fetch(photo)).status == 500
    assert (await fetch(sandbox.messages[0].media[1])).status == 200
    sandbox.clear_faults()
    assert (await fetch(photo)).status == 200


@pytest.mark.parametrize("retry_after", [None, "7", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_429_with_and_without_retry_after(
    sandbox: Sandbox, api: Ask, photo: Media, retry_after: str | None
) -> None:
    sandbox.fault(Status(429, retry_after), point=Point.PROPERTIES)
    answer = await api(sandbox.media_url(photo) + ".json")
    error = await answer.json()
    assert (answer.status, error["code"], error["message"]) == (429, 20429, "Too Many Requests")
    assert answer.headers.get("Retry-After") == retry_after
    assert (await api(sandbox.media_url(photo))).status == 307


@pytest.mark.parametrize("status", [500, 502, 503, 418])
@pytest.mark.parametrize("mode", list(Mode))
async def test_an_error_at_the_bytes_wherever_they_come_from(
    sandbox: Sandbox, fetch: Ask, photo: Media, status: int, mode: Mode
) -> None:
    sandbox.mode = mode
    sandbox.fault(Status(status, "1"), point=Point.BYTES, times=1)
    answer = await fetch(photo)
    assert (answer.status, answer.headers["Retry-After"]) == (status, "1")
    assert ("<Error>" in await answer.text()) == (mode is not Mode.DIRECT)
    assert sandbox.requests[-1].status == status
    assert (await fetch(photo)).status == 200


@pytest.mark.parametrize(
    ("point", "method", "path"),
    [
        (Point.LIST, "GET", "/Messages/{m}/Media.json"),
        (Point.MESSAGES, "GET", "/Messages.json"),
        (Point.MESSAGES, "GET", "/Messages/{m}.json"),
        (Point.PROPERTIES, "GET", "/Messages/{m}/Media/{me}.json"),
        (Point.DELETE, "DELETE", "/Messages/{m}/Media/{me}.json"),
        (Point.CONTENT, "GET", "/Messages/{m}/Media/{me}"),
    ],
)
async def test_every_point_can_fail(
    sandbox: Sandbox, api: Ask, photo: Media, point: Point, method: str, path: str
) -> None:
    sandbox.fault(Status(503), point=point, times=1)
    where = path.format(m=photo.ref.message, me=photo.sid)
    assert (await api(where, method)).status == 503
    assert (await api(where, method)).status < 400


@pytest.mark.parametrize("point", [Point.CONTENT, Point.BYTES])
@pytest.mark.parametrize("mode", [Mode.REDIRECT_SIGNED, Mode.DIRECT])
async def test_no_answer_begins_until_the_release(
    sandbox: Sandbox, fetch: Ask, photo: Media, point: Point, mode: Mode
) -> None:
    sandbox.mode = mode
    rule = sandbox.fault(StallHeaders(), point=point)
    fetching = asyncio.ensure_future(fetch(photo))
    await rule.reached()
    assert sandbox.requests[-1].status is None
    assert not fetching.done()
    rule.release()
    assert await (await fetching).read() == photo.read()


async def test_a_body_stops_after_so_many_octets_until_the_release(
    sandbox: Sandbox, location: str, session: ClientSession, photo: Media
) -> None:
    rule = sandbox.fault(StallBody(70_000))
    async with session.get(URL(location, encoded=True)) as response:
        assert await response.content.readexactly(70_000) == photo.read()[:70_000]
        following = asyncio.ensure_future(response.content.readexactly(1))
        await rule.reached()
        assert not following.done()
        rule.release()
        assert await following + await response.read() == photo.read()[70_000:]


@pytest.mark.parametrize("after", [0, 1, 70_000])
async def test_a_body_shorter_than_its_content_length(
    sandbox: Sandbox, location: str, session: ClientSession, photo: Media, after: int
) -> None:
    sandbox.fault(Truncate(after), times=2)
    head, _, body = (await octets(location)).partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % photo.length in head
    assert body == photo.read()[:after]
    async with session.get(URL(location, encoded=True)) as response:
        with pytest.raises(ClientPayloadError):
            await response.read()
    async with session.get(URL(location, encoded=True)) as response:
        assert await response.read() == photo.read()


async def test_a_body_longer_than_its_content_length(sandbox: Sandbox, location: str, photo: Media) -> None:
    sandbox.fault(Overrun(11))
    head, _, body = (await octets(location)).partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % photo.length in head + b"\r\n"
    assert body == photo.read() + b"!" * 11


@pytest.mark.parametrize("announced", [True, False])
async def test_an_oversized_body_with_and_without_its_length(
    sandbox: Sandbox, ask: Ask, location: str, photo: Media, announced: bool
) -> None:
    sandbox.fault(Oversize(300_001, announced=announced))
    answer = await ask("GET", location)
    assert answer.headers.get("Content-Length") == ("300001" if announced else None)
    assert await answer.read() == (photo.read() * 3)[:300_001]


async def test_an_oversized_body_of_an_empty_media(sandbox: Sandbox, fetch: Ask) -> None:
    empty = (await sandbox.add_message([("text/plain", b"")])).media[0]
    sandbox.fault(Oversize(100_000))
    assert await (await fetch(empty)).read() == bytes(100_000)


async def test_a_body_of_unsaid_length_in_chunks(sandbox: Sandbox, ask: Ask, location: str, photo: Media) -> None:
    sandbox.fault(Unlengthed(chunked=True))
    answer = await ask("GET", location)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers
    assert await answer.read() == photo.read()


async def test_a_body_ended_by_the_close_alone(sandbox: Sandbox, location: str, photo: Media) -> None:
    sandbox.fault(Unlengthed())
    head, _, body = (await octets(location, {"Connection": "keep-alive"})).partition(b"\r\n\r\n")
    assert b"content-length" not in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert b"Connection: close" in head
    assert body == photo.read()


async def test_a_head_has_no_body_to_spoil(sandbox: Sandbox, ask: Ask, location: str) -> None:
    for fault in (Truncate(1), Overrun(1), StallBody(1), Oversize(10), Unlengthed(chunked=True), Unlengthed()):
        sandbox.fault(fault, times=1)
        answer = await ask("HEAD", location)
        assert (answer.status, await answer.read()) == (200, b"")


async def test_a_wrong_content_type(sandbox: Sandbox, ask: Ask, location: str, photo: Media) -> None:
    sandbox.fault(WrongType("text/html"))
    answer = await ask("GET", location)
    assert (answer.headers["Content-Type"], await answer.read()) == ("text/html", photo.read())


async def test_fields_are_put_and_dropped(sandbox: Sandbox, ask: Ask, location: str, photo: Media) -> None:
    sandbox.fault(
        Headers(put=(("Cache-Control", "max-age=60"), ("Vary", "Accept"), ("Vary", "Origin")), drop=("ETag",)),
        media_sid=photo.sid,
    )
    answer = await ask("GET", location, {"If-None-Match": photo.etag})
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "max-age=60"
    assert answer.headers.getall("Vary") == ["Accept", "Origin"]
    assert "ETag" not in answer.headers


async def test_a_changed_validator_is_the_one_that_conditions_meet(
    sandbox: Sandbox, ask: Ask, location: str, photo: Media
) -> None:
    sandbox.fault(Headers(put=(("ETag", 'W/"new"'), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"))))
    assert (await ask("GET", location, {"If-None-Match": photo.etag})).status == 200
    same = await ask("GET", location, {"If-None-Match": '"new"'})
    assert (same.status, same.headers["ETag"]) == (304, 'W/"new"')
    assert (await ask("GET", location, {"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"})).status == 304


async def test_fields_of_the_first_hop(sandbox: Sandbox, api: Ask, photo: Media) -> None:
    sandbox.fault(Headers(put=(("Set-Cookie", "a=b"),)), point=Point.CONTENT)
    answer = await api(sandbox.media_url(photo))
    assert (answer.status, answer.headers["Set-Cookie"]) == (307, "a=b")


async def test_a_connection_that_closes_with_no_answer(sandbox: Sandbox, api: Ask, photo: Media) -> None:
    sandbox.fault(Disconnect(), times=1)
    assert await octets(sandbox.media_url(photo), {"Authorization": sandbox.authorization}) == b""
    assert sandbox.requests[-1].status is None
    assert (await api(sandbox.media_url(photo))).status == 307


async def test_raw_octets_in_place_of_an_answer(sandbox: Sandbox, location: str) -> None:
    words = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
    sandbox.fault(Raw(words), point=Point.BYTES)
    assert await octets(location) == words


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_every_redirect_code(sandbox: Sandbox, api: Ask, ask: Ask, photo: Media, status: int) -> None:
    sandbox.fault(RedirectStatus(status))
    answer = await api(sandbox.media_url(photo))
    assert answer.status == status
    assert await (await ask("GET", answer.headers["Location"])).read() == photo.read()


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("hops", [1, 2, 5])
async def test_a_way_of_several_hops(sandbox: Sandbox, api: Ask, ask: Ask, photo: Media, mode: Mode, hops: int) -> None:
    sandbox.mode = mode
    sandbox.fault(RedirectHops(hops, 302))
    answer = await api(sandbox.media_url(photo))
    followed = 0
    while "Location" in answer.headers:
        assert answer.status == 302
        followed += 1
        answer = await ask("GET", answer.headers["Location"])
    assert (followed, answer.status) == (hops, 200)
    assert await answer.read() == photo.read()


async def test_redirects_without_an_end(sandbox: Sandbox, api: Ask, ask: Ask, photo: Media) -> None:
    sandbox.fault(RedirectLoop())
    seen = [(await api(sandbox.media_url(photo))).headers["Location"]]
    for _ in range(20):
        answer = await ask("GET", seen[-1])
        assert answer.status == 307
        seen.append(answer.headers["Location"])
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("target", ["http://mms.twiliocdn.com/x", "//evil.example/", "http://[::ffff:10.0.0.1]/", ""])
async def test_a_redirect_to_anywhere(sandbox: Sandbox, api: Ask, photo: Media, target: str) -> None:
    sandbox.fault(RedirectTo(target, 308))
    answer = await api(sandbox.media_url(photo))
    assert (answer.status, answer.headers["Location"]) == (308, target)
