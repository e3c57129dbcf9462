"""The bytes of a media at its resource path: all the fields and conditions of a signed link, or a redirect to one."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth
from yarl import URL

from proxy.sandbox import Disconnect, Media, Point, Sandbox, StallHeaders, Status
from tests.functional.configuring import client_table, identifiers, write_config
from tests.functional.harness import CLIENT, Gateways, Reply, RunningGateway, bare, converse
from tests.functional.media_api import ask, delete, get, path

REVOKER = ("revoker", "v" * 40)
MISS = "media-gateway; fwd=uri-miss; fwd-status=200; stored"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a client that may revoke, beside the one of the variables."""
    return write_config(tmp_path, client_table(REVOKER, "revoke"))


@pytest.fixture
async def gateway(gateways: Gateways, config: Path) -> RunningGateway:
    return await gateways.start(config=config)


async def revoke(gateway: RunningGateway, media: Media, *, lift: bool = False) -> Reply:
    return await gateway.post("/revoke", {"media": [identifiers(media.ref)], "lift": lift}, REVOKER)


# --- the bytes ------------------------------------------------------------------------------------------------


async def test_the_bytes_are_the_media_s_and_stored_for_links(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    cold = await get(gateway, path(photo))
    assert (cold.status, cold.body) == (200, photo.read())
    assert cold.headers["Content-Type"] == "image/jpeg"
    assert cold.headers["Cache-Status"] == MISS
    sandbox.clear_requests()
    for reply in (
        await get(gateway, path(photo)),
        await get(gateway, path(photo, folder="Message")),
        await gateway.get(gateway.link(photo.ref)),
    ):
        assert (reply.status, reply.body) == (200, photo.read())
        assert reply.headers["Cache-Status"].startswith("media-gateway; hit")
        assert reply.headers["ETag"] == cold.headers["ETag"]
    assert sandbox.requests == ()


async def test_the_fields_are_those_of_a_signed_link(gateway: RunningGateway, photo: Media) -> None:
    link = await gateway.get(gateway.link(photo.ref))
    reply = await get(gateway, path(photo))
    changing = {"date", "age", "cache-status", "x-request-id", "cache-control"}
    kept = [{n: v for n, v in one.headers.items() if n.lower() not in changing} for one in (reply, link)]
    assert kept[0] == kept[1]
    assert "Content-Disposition" in kept[0]


@pytest.mark.parametrize("cdn", ["0", "1"])
async def test_the_bytes_are_private_always(gateways: Gateways, photo: Media, cdn: str) -> None:
    gateway = await gateways.start(GATEWAY_CDN=cdn, GATEWAY_LINK_TTL="77")
    for _ in ("cold", "hot"):
        reply = await get(gateway, path(photo))
        match = re.fullmatch(r"private, max-age=(\d+)", reply.headers["Cache-Control"])
        assert match is not None
        assert 0 < int(match[1]) - int(reply.headers["Age"]) <= 77
        assert "CDN-Cache-Control" not in reply.headers
        assert "Cache-Tag" not in reply.headers


async def test_ranges_and_conditions_are_those_of_a_link(gateway: RunningGateway, photo: Media) -> None:
    whole = await get(gateway, path(photo))
    etag, size = whole.headers["ETag"], photo.length
    part = await get(gateway, path(photo), Range="bytes=2-5")
    assert (part.status, part.body) == (206, photo.read()[2:6])
    assert part.headers["Content-Range"] == f"bytes 2-5/{size}"
    fresh = await get(gateway, path(photo), If_None_Match=etag)
    assert (fresh.status, fresh.body) == (304, b"")
    stale = await get(gateway, path(photo), Range="bytes=0-0", If_Range='"other"')
    assert stale.status == 200
    head = await ask(gateway, "HEAD", path(photo))
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(size), b"")


async def test_a_missing_range_is_416_in_the_provider_s_shape(gateway: RunningGateway, photo: Media) -> None:
    reply = await get(gateway, path(photo), Range=f"bytes={photo.length}-")
    assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{photo.length}")
    assert reply.headers["Content-Type"] == "application/xml"
    assert b"<Code>20416</Code>" in reply.body


async def test_a_failed_precondition_is_412_in_the_provider_s_shape(gateway: RunningGateway, photo: Media) -> None:
    reply = await get(gateway, path(photo), If_Match='"other"')
    assert reply.status == 412
    assert b"<Code>20412</Code>" in reply.body


async def test_the_steps_are_timed_where_that_is_asked_for(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_SERVER_TIMING="1")
    reply = await get(gateway, path(photo))
    assert re.fullmatch(r"verify;dur=\d+\.\d{3}, open;dur=\d+\.\d{3}", reply.headers["Server-Timing"])


async def test_a_client_that_closes_is_told_that_it_is_closed(gateway: RunningGateway, photo: Media) -> None:
    octets = (
        f"HEAD {path(photo)} HTTP/1.1\r\nHost: x\r\nAuthorization: {encode_basic_auth(*CLIENT)}\r\n"
        "Connection: close\r\n\r\n"
    )
    reply = bare(await converse(gateway, octets.encode()))
    assert (reply.status, reply.headers["Connection"], reply.body) == (200, "close", b"")


@pytest.mark.parametrize(
    ("fault", "status"), [(Status(400), 502), (Status(500), 502), (Status(401), 502), (Disconnect(), 502)]
)
async def test_what_fails_upstream_is_told_in_xml(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, fault: Status | Disconnect, status: int
) -> None:
    sandbox.fault(fault, point=Point.CONTENT)
    reply = await get(gateway, path(photo))
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/xml")
    assert f"<Code>{20_000 + status}</Code>".encode() in reply.body
    assert sandbox.api_url.removeprefix("http://").encode() not in reply.body


async def test_a_provider_that_does_not_answer_is_504(gateways: Gateways, sandbox: Sandbox, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_HEADERS_SECONDS="1")
    sandbox.fault(StallHeaders(), point=Point.CONTENT)
    reply = await get(gateway, path(photo))
    assert reply.status == 504
    assert b"<Code>20504</Code>" in reply.body


async def test_a_provider_that_is_busy_is_429_with_its_wait(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(Status(429, retry_after="77"), point=Point.CONTENT)
    reply = await get(gateway, path(photo))
    assert (reply.status, reply.headers["Retry-After"]) == (429, "77")
    assert b"<Code>20429</Code>" in reply.body


async def test_a_revoked_media_is_still_read_by_clients(gateway: RunningGateway, photo: Media) -> None:
    await revoke(gateway, photo)
    assert (await gateway.get(gateway.link(photo.ref))).status == 403
    assert (await get(gateway, path(photo))).status == 200


# --- the redirect ---------------------------------------------------------------------------------------------


@pytest.fixture
async def redirecting(gateways: Gateways, config: Path) -> RunningGateway:
    return await gateways.start(config=config, GATEWAY_CONTENT_MODE="redirect")


async def test_the_bytes_are_a_redirect_away_where_that_is_wanted(
    redirecting: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    for method in ("GET", "HEAD"):
        before = time.time()
        reply = await ask(redirecting, method, path(photo))
        assert (reply.status, reply.body, reply.headers["Cache-Control"]) == (307, b"", "no-store")
        location = URL(reply.headers["Location"], encoded=True)
        assert str(location.origin()) == redirecting.url
        assert location.path == f"/media/{photo.ref}"
        assert before + 14_400 <= int(location.query["expires"]) <= time.time() + 14_460
        opened = await redirecting.get(reply.headers["Location"])
        assert (opened.status, opened.body) == (200, photo.read())
    for suffix in (".json", ".xml"):
        # A library reads the body of any answer as the document it asked for.
        assert (await get(redirecting, path(photo, suffix))).status == 200
    assert (await delete(redirecting, path(photo))).status == 204


async def test_a_redirect_lives_no_longer_than_any_link(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(
        GATEWAY_CONTENT_MODE="redirect", GATEWAY_LINK_MAX_TTL="600", GATEWAY_PUBLIC_URL="https://media.example/mms"
    )
    here = f"http://{gateway.settings.listen}"
    reply = await ask(gateway, "GET", here + "/mms" + path(photo))
    location = reply.headers["Location"]
    assert location.startswith(f"https://media.example/mms/media/{photo.ref}?")
    assert int(URL(location).query["expires"]) - time.time() <= 660
    opened = await gateway.get(here + location.removeprefix("https://media.example"))
    assert (opened.status, opened.body) == (200, photo.read())


async def test_a_redirect_needs_a_client_like_any_answer(redirecting: RunningGateway, photo: Media) -> None:
    assert (await get(redirecting, path(photo), None)).status == 401


async def test_there_is_no_redirect_to_a_link_that_is_revoked(redirecting: RunningGateway, photo: Media) -> None:
    assert (await revoke(redirecting, photo)).status == 204
    for method in ("GET", "HEAD"):
        assert (await ask(redirecting, method, path(photo))).status == 403
    assert b"<Code>20403</Code>" in (await get(redirecting, path(photo))).body
    assert (await revoke(redirecting, photo, lift=True)).status == 204
    assert (await get(redirecting, path(photo))).status == 307


async def test_there_is_no_redirect_to_what_was_deleted(redirecting: RunningGateway, photo: Media) -> None:
    assert (await delete(redirecting, path(photo))).status == 204
    reply = await get(redirecting, path(photo))
    assert (reply.status, b"<Code>20404</Code>" in reply.body) == (404, True)
