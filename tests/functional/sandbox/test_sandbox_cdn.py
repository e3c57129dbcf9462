"""The CDN's origin: signatures, credentials refused, conditions and ranges."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from xml.etree import ElementTree as ET

import pytest
from aiohttp import ClientResponse, ClientSession
from yarl import URL

from proxy.sandbox import Media, Mode, Sandbox
from proxy.semantics.fields import format_date

Ask = Callable[..., Awaitable[ClientResponse]]


@pytest.fixture
async def location(sandbox: Sandbox, api: Ask, photo: Media) -> str:
    return (await api(sandbox.media_url(photo))).headers["Location"]


async def test_a_signed_location_is_good_for_four_hours(
    sandbox: Sandbox, ask: Ask, location: str, set_clock: Callable[[float], None]
) -> None:
    assert sandbox.cdn_url != sandbox.api_url
    pattern = (
        rf"{re.escape(sandbox.cdn_url)}/{sandbox.account_sid}/[0-9a-f]{{32}}"
        r"\?Expires=(\d+)&Signature=[\w~%-]+&Key-Pair-Id=\w+"
    )
    match = re.fullmatch(pattern, location)
    assert match is not None
    start = 1_800_000_000
    assert 0 <= start + 4 * 3600 - int(match[1]) < 60
    for moment, status in ((int(match[1]) - 1, 200), (int(match[1]), 403)):
        set_clock(moment)
        assert (await ask("GET", location)).status == status


async def test_a_tampered_signature_path_or_query_is_403(ask: Ask, location: str, sandbox: Sandbox) -> None:
    other = sandbox.messages[0].media[1].key
    for changed in (
        location[:-1],
        location + "&x=1",
        re.sub("Expires=1", "Expires=2", location),
        re.sub("Signature=.", "Signature=!", location),
        re.sub("[0-9a-f]{32}[?]", f"{other}?", location),
        location.partition("?")[0],
        f"{sandbox.cdn_url}/media.twiliocdn.com{location.removeprefix(sandbox.cdn_url).partition('?')[0]}",
        f"{sandbox.cdn_url}/",
    ):
        answer = await ask("GET", changed)
        assert answer.status == 403
        assert ET.fromstring(await answer.text()).findtext("Code") == "AccessDenied"
    assert (await ask("GET", location)).status == 200


async def test_a_rewritten_tilde_is_403_and_exact_bytes_are_200(
    sandbox: Sandbox, api: Ask, ask: Ask, photo: Media, session: ClientSession
) -> None:
    locations = [(await api(sandbox.media_url(photo))).headers["Location"] for _ in range(2)]
    assert sorted("%7E" in location for location in locations) == [False, True]
    for location in locations:
        assert (await ask("GET", location)).status == 200
        async with session.get(URL(location)) as normalised:
            assert normalised.status == (403 if "%7E" in location else 200)


@pytest.mark.parametrize("authorization", ["Basic QTpC", "", "Bearer <&>"])
async def test_any_authorization_is_400_in_the_stores_xml(ask: Ask, location: str, authorization: str) -> None:
    answer = await ask("GET", location, {"Authorization": authorization})
    assert (answer.status, answer.content_type) == (400, "application/xml")
    tree = ET.fromstring(await answer.text())
    assert tree.tag == "Error"
    assert tree.findtext("Code") == "InvalidArgument"
    assert tree.findtext("Message") == "Unsupported Authorization Type"
    assert tree.findtext("ArgumentValue") == authorization


async def test_validators_and_length(fetch: Ask, photo: Media) -> None:
    for method, body in (("GET", photo.read()), ("HEAD", b"")):
        answer = await fetch(photo, method)
        assert (answer.status, await answer.read()) == (200, body)
        assert re.fullmatch('"[0-9a-f]{32}"', answer.headers["ETag"])
        assert answer.headers["Last-Modified"] == format_date(photo.date_created)
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Content-Length"] == str(photo.length)


async def test_a_single_range_is_206_exactly(ask: Ask, location: str, photo: Media) -> None:
    for method in ("GET", "HEAD"):
        answer = await ask(method, location, {"Range": "bytes=100-299"})
        assert (answer.status, answer.headers["Content-Length"]) == (206, "200")
        assert answer.headers["Content-Range"] == f"bytes 100-299/{photo.length}"
        assert await answer.read() == (photo.read()[100:300] if method == "GET" else b"")


async def test_a_range_across_many_writes_is_exact(sandbox: Sandbox, fetch: Ask) -> None:
    surf = sandbox.messages[-1].media[0]
    answer = await fetch(surf, headers={"Range": "bytes=65535-4000000"})
    assert await answer.read() == surf.read()[65_535:4_000_001]


async def test_an_unsatisfiable_range_is_416(ask: Ask, location: str, photo: Media) -> None:
    answer = await ask("GET", location, {"Range": f"bytes={photo.length}-"})
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{photo.length}")


async def test_several_ranges_count_as_none(ask: Ask, location: str) -> None:
    assert (await ask("GET", location, {"Range": "bytes=0-1,3-4"})).status == 200


async def test_304_by_entity_tag_and_by_date(ask: Ask, location: str, photo: Media) -> None:
    for headers in (
        {"If-None-Match": photo.etag},
        {"If-None-Match": f'"x", W/{photo.etag}'},
        {"If-Modified-Since": format_date(photo.date_created)},
    ):
        answer = await ask("GET", location, headers)
        assert (answer.status, await answer.read(), answer.headers["ETag"]) == (304, b"", photo.etag)
        assert "Content-Length" not in answer.headers
    assert (await ask("GET", location, {"If-None-Match": '"x"'})).status == 200


async def test_a_failed_precondition_is_412(ask: Ask, location: str) -> None:
    assert (await ask("GET", location, {"If-Match": '"x"'})).status == 412


async def test_only_get_and_head(ask: Ask, location: str) -> None:
    answer = await ask("POST", location)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_the_public_mode_needs_no_signature_while_it_lasts(
    sandbox: Sandbox, api: Ask, ask: Ask, photo: Media
) -> None:
    sandbox.mode = Mode.REDIRECT_PUBLIC
    location = (await api(sandbox.media_url(photo))).headers["Location"]
    prefix = f"{sandbox.cdn_url}/media.twiliocdn.com/{sandbox.account_sid}/"
    assert re.fullmatch(re.escape(prefix) + "[0-9a-f]{32}", location)
    assert await (await ask("GET", location)).read() == photo.read()
    assert (await ask("GET", location.replace(sandbox.account_sid, f"AC{'0' * 32}"))).status == 404
    assert (await ask("GET", location[:-1] + "_")).status == 403
    sandbox.mode = Mode.REDIRECT_SIGNED
    assert (await ask("GET", location)).status == 403


async def test_an_empty_media_has_no_octets_and_no_ranges(sandbox: Sandbox, fetch: Ask) -> None:
    empty = (await sandbox.add_message([("text/plain", b"")])).media[0]
    answer = await fetch(empty)
    assert (answer.status, answer.headers["Content-Length"], await answer.read()) == (200, "0", b"")
    assert (await fetch(empty, headers={"Range": "bytes=0-"})).status == 416
