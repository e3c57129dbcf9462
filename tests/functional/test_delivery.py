"""`GET` and `HEAD` of a signed link: the bytes, the preconditions, and what HEAD says."""

from __future__ import annotations

import hashlib

import pytest

from proxy.cache.disk.files import BodyFile
from proxy.errors import StoreError
from proxy.sandbox import Headers, Media, Sandbox, Unlengthed
from proxy.semantics.fields import format_date, parse_date
from tests.functional.harness import Gateways, Reply, RunningGateway, bare, converse


def media_of(sandbox: Sandbox) -> list[Media]:
    return [media for message in sandbox.messages for media in message.media]


async def test_a_good_link_gives_the_media_s_exact_bytes(gateway: RunningGateway, sandbox: Sandbox) -> None:
    for media in media_of(sandbox):
        reply = await gateway.get(gateway.link(media.ref))
        assert (reply.status, reply.headers["Content-Type"]) == (200, media.content_type)
        assert reply.headers["Content-Length"] == str(media.length)
        assert hashlib.sha256(reply.body).hexdigest() == media.sha256
        assert reply.headers["Cache-Status"] == "media-gateway; fwd=uri-miss; fwd-status=200; stored"
    sandbox.clear_requests()
    for media in media_of(sandbox):
        reply = await gateway.get(gateway.link(media.ref))
        assert hashlib.sha256(reply.body).hexdigest() == media.sha256
        assert reply.headers["Cache-Status"].startswith("media-gateway; hit; ttl=")
        assert int(reply.headers["Age"]) >= 0
    assert sandbox.requests == ()


async def test_a_media_of_no_bytes_is_delivered(gateway: RunningGateway, sandbox: Sandbox) -> None:
    (empty,) = (await sandbox.add_message([("image/png", b"")], date_created=1_700_000_000)).media
    for _ in ("cold", "hot"):
        reply = await gateway.get(gateway.link(empty.ref))
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")
        head = await gateway.head(gateway.link(empty.ref))
        assert (head.status, head.headers["Content-Length"]) == (200, "0")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_media_of_unsaid_length_is_whole_or_an_error(
    gateway: RunningGateway, sandbox: Sandbox, film: Media, chunked: bool
) -> None:
    sandbox.fault(Unlengthed(chunked=chunked))
    cold = await gateway.get(gateway.link(film.ref))
    if not chunked:
        # What only the close ends cannot be told from a part (RFC 9112 §8).
        assert cold.status == 502
        return
    assert (cold.status, "Content-Length" in cold.headers) == (200, False)
    assert hashlib.sha256(cold.body).hexdigest() == film.sha256
    sandbox.clear_faults()
    hot = await gateway.get(gateway.link(film.ref))
    assert hot.headers["Content-Length"] == str(film.length)
    assert hot.headers["ETag"] == cold.headers["ETag"]


async def test_http_1_0_is_told_an_unsaid_length(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    sandbox.fault(Unlengthed(chunked=True))
    target = gateway.link(photo.ref).removeprefix(gateway.url)
    reply = bare(await converse(gateway, f"GET {target} HTTP/1.0\r\n\r\n".encode()))
    assert (reply.status, reply.headers["Content-Length"]) == (200, str(photo.length))
    assert reply.body == photo.read()


# --- preconditions (RFC 9110 §13) -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{0}", '"other", {0}', "*", "W/{0}", '"a,b" , W/{0},,'])
async def test_if_none_match_of_the_entity_tag_gives_304(gateway: RunningGateway, photo: Media, form: str) -> None:
    link = gateway.link(photo.ref)
    whole = await gateway.get(link)
    etag = whole.headers["ETag"]
    for reply in (
        await gateway.get(link, If_None_Match=form.format(etag)),
        await gateway.head(link, If_None_Match=form.format(etag)),
    ):
        assert (reply.status, reply.body) == (304, b"")
        assert_says_of_caching_what_the_200_says(reply, whole)
        assert not {"Content-Length", "Content-Type", "Content-Disposition"} & {name.title() for name in reply.headers}


def assert_says_of_caching_what_the_200_says(reply: Reply, whole: Reply) -> None:
    """Check the fields of a 304 (RFC 9110 §15.4.5)."""
    for name in ("ETag", "Date", "Last-Modified"):
        assert reply.headers[name] == whole.headers[name]
    assert reply.headers["Cache-Control"].startswith("private, max-age=")
    assert int(reply.headers["Age"]) >= 0


async def test_a_304_needs_no_body_from_the_upstream_once_stored(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    link = gateway.link(photo.ref)
    etag = (await gateway.get(link)).headers["ETag"]
    sandbox.clear_requests()
    assert (await gateway.get(link, If_None_Match=etag)).status == 304
    assert sandbox.requests == ()


@pytest.mark.parametrize("value", ['"other"', "garbage", 'W/"other", "x"', '"unclosed'])
async def test_if_none_match_of_something_else_gives_the_whole(
    gateway: RunningGateway, photo: Media, value: str
) -> None:
    date = format_date(photo.date_created + 10)
    reply = await gateway.get(gateway.link(photo.ref), If_None_Match=value, If_Modified_Since=date)
    assert (reply.status, reply.body) == (200, photo.read())


@pytest.mark.parametrize(("later", "status"), [(0, 304), (60, 304), (-1, 200)])
async def test_if_modified_since_compares_with_last_modified(
    gateway: RunningGateway, photo: Media, later: int, status: int
) -> None:
    date = format_date(photo.date_created + later)
    for _ in ("cold", "hot"):
        reply = await gateway.get(gateway.link(photo.ref), If_Modified_Since=date)
        assert reply.status == status


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("If_Match", '"other"', 412),
        ("If_Match", "W/{etag}", 412),
        ("If_Match", "garbage", 412),
        ("If_Match", "{etag}", 200),
        ("If_Match", '"other", {etag}', 200),
        ("If_Match", "*", 200),
        ("If_Unmodified_Since", "{before}", 412),
        ("If_Unmodified_Since", "{modified}", 200),
        ("If_Unmodified_Since", "no date", 200),
    ],
)
async def test_a_failed_precondition_is_412(
    gateway: RunningGateway, photo: Media, name: str, value: str, status: int
) -> None:
    before, modified = format_date(photo.date_created - 1), format_date(photo.date_created)
    condition = {name: value.format(etag=photo.etag, before=before, modified=modified)}
    for method in ("GET", "HEAD"):
        headers = {field.replace("_", "-"): content for field, content in condition.items()}
        reply = await gateway.ask(method, gateway.link(photo.ref), headers=headers)
        assert reply.status == status
        assert reply.headers["Cache-Control"] == "no-store" if status == 412 else True


async def test_a_failed_precondition_precedes_ranges_and_if_none_match(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref)
    reply = await gateway.get(link, If_Match='"other"', If_None_Match=photo.etag, Range="bytes=0-0")
    assert reply.status == 412
    reply = await gateway.get(link, If_None_Match=photo.etag, Range=f"bytes={photo.length}-")
    assert reply.status == 304


# --- HEAD (RFC 9110 §9.3.2) -----------------------------------------------------------------------------------


def comparable(reply: Reply) -> dict[str, str]:
    """Return all fields but the request's own and those that tell the time."""
    own = {"x-request-id", "age", "cache-control", "cache-status"}
    return {name.lower(): value for name, value in reply.headers.items() if name.lower() not in own}


async def test_head_says_what_get_says_and_sends_no_body(gateways: Gateways, sandbox: Sandbox) -> None:
    for number, media in enumerate(media_of(sandbox)):
        async with gateways.running(GATEWAY_CACHE_DIR=str(gateways.folder / str(number))) as gateway:
            link = gateway.link(media.ref)
            cold = await gateway.head(link)
            got = await gateway.get(link)
            hot = await gateway.head(link)
            again = await gateway.get(link)
        for head in (cold, hot):
            assert (head.status, head.body) == (200, b"")
            assert comparable(head) == comparable(got) == comparable(again)
        assert hot.headers["Cache-Status"].startswith("media-gateway; hit")


async def test_nothing_follows_the_head_on_the_wire(gateway: RunningGateway, photo: Media) -> None:
    target = gateway.link(photo.ref).removeprefix(gateway.url)
    for _ in ("cold", "hot"):
        answer = await converse(gateway, f"HEAD {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        reply = bare(answer)
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", str(photo.length))


async def test_head_ignores_a_range(gateway: RunningGateway, photo: Media) -> None:
    for _ in ("cold", "hot"):
        reply = await gateway.head(gateway.link(photo.ref), Range="bytes=0-0")
        assert (reply.status, reply.headers["Content-Length"]) == (200, str(photo.length))
        assert "Content-Range" not in reply.headers


async def test_a_refused_head_has_no_body(gateway: RunningGateway, photo: Media) -> None:
    target = gateway.link(photo.ref).removeprefix(gateway.url) + "x"
    answer = await converse(gateway, f"HEAD {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    reply = bare(answer)
    assert (reply.status, reply.body) == (403, b"")


async def test_without_last_modified_none_is_said_and_date_stands_in(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(Headers(drop=("Last-Modified",)))
    link = gateway.link(photo.ref)
    reply = await gateway.get(link)
    assert "Last-Modified" not in reply.headers
    # RFC 9111 §4.3.2: If-Modified-Since is then compared with Date.
    assert (await gateway.get(link, If_Modified_Since=reply.headers["Date"])).status == 304
    date = parse_date(reply.headers["Date"], 0)
    assert date is not None
    assert (await gateway.get(link, If_Modified_Since=format_date(date - 1))).status == 200


# --- a stored body that cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize("short", [False, True])
async def test_a_stored_body_that_cannot_be_read_is_fetched_anew(
    gateway: RunningGateway, sandbox: Sandbox, film: Media, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    link = gateway.link(film.ref)
    await gateway.get(link)
    read, failures = BodyFile.read, ["once"]

    async def failing(file: BodyFile, offset: int, size: int) -> bytes:
        if failures:
            failures.pop()
            if short:
                return b""
            raise StoreError(note="input/output error")
        return await read(file, offset, size)

    monkeypatch.setattr(BodyFile, "read", failing)
    sandbox.clear_requests()
    # Several parts are read; what is sent in one run goes from the file to the socket.
    reply = await gateway.get(link, Range="bytes=0-9,-10")
    assert (reply.status, reply.body.count(film.read()[-10:])) == (206, 1)
    assert sandbox.requests
    assert (await gateway.get(link)).headers["Cache-Status"].startswith("media-gateway; hit")


async def test_a_stored_file_that_cannot_be_read_is_fetched_again(
    gateway: RunningGateway, sandbox: Sandbox, film: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = gateway.link(film.ref)
    await gateway.get(link)
    warm, failures = BodyFile.warm, ["once"]

    async def failing(file: BodyFile, offset: int, size: int) -> None:
        if failures:
            failures.pop()
            raise StoreError(note="input/output error")
        await warm(file, offset, size)

    monkeypatch.setattr(BodyFile, "is_warm", lambda *_: False)
    monkeypatch.setattr(BodyFile, "warm", failing)
    sandbox.clear_requests()
    reply = await gateway.get(link)
    assert (reply.status, hashlib.sha256(reply.body).hexdigest()) == (200, film.sha256)
    assert sandbox.requests
    assert (await gateway.get(link)).headers["Cache-Status"].startswith("media-gateway; hit")


async def test_a_stored_body_that_ends_early_is_fetched_anew(
    gateways: Gateways, sandbox: Sandbox, film: Media, photo: Media
) -> None:
    folder = gateways.folder
    async with gateways.running() as gateway:
        for media in (film, photo):
            await gateway.get(gateway.link(media.ref))
    bodies = [
        path for path in folder.rglob("*") if path.is_file() and path.stat().st_size in {film.length, photo.length}
    ]
    assert len(bodies) == 2
    for file in bodies:
        with file.open("r+b") as opened:
            opened.truncate(100)
    async with gateways.running() as restarted:
        for media in (film, photo):
            reply = await restarted.get(restarted.link(media.ref))
            assert (reply.status, hashlib.sha256(reply.body).hexdigest()) == (200, media.sha256)
