"""Properties and lists of the Media resource: as the provider gives them, or an error."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import aiohttp
import pytest

from proxy.sandbox import Media, Message, Point, Raw, Sandbox, WrongType
from tests.functional.harness import Gateways, Reply, RunningGateway, bare, converse
from tests.functional.media_api import ask, get, list_path, not_found, path, said

LIST_KEYS = {
    "end", "first_page_uri", "media_list", "next_page_uri", "page", "page_size", "previous_page_uri", "start", "uri",
}  # fmt: skip


async def upstream(sandbox: Sandbox, target: str) -> Reply:
    """Return what the provider itself answers."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(sandbox.api_url + target, headers={"Authorization": sandbox.authorization}) as response,
    ):
        return Reply(response.status, response.headers, await response.read())


@pytest.fixture
async def album(sandbox: Sandbox) -> Message:
    """Return a message with three media."""
    return await sandbox.add_message([("image/png", str(n).encode()) for n in range(3)], date_created=1.7e9)


# --- properties -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".xml"])
async def test_properties_are_the_provider_s_byte_for_byte(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, suffix: str
) -> None:
    own = await upstream(sandbox, path(photo, suffix))
    reply = await get(gateway, path(photo, suffix))
    assert (reply.status, reply.body) == (200, own.body)
    assert reply.headers["Content-Type"] == own.headers["Content-Type"]
    assert reply.headers["Cache-Control"] == "private, no-cache"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Length"] == str(len(own.body))
    # What else the provider says stays with the gateway.
    assert not {name for name in reply.headers if name.startswith("Twilio-") or name == "Strict-Transport-Security"}


async def test_the_older_folder_s_name_is_understood(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    reply = await get(gateway, path(photo, ".json", folder="Message"))
    assert reply.json["sid"] == str(photo.ref.media)
    assert sandbox.requests[-1].path == path(photo, ".json")


async def test_the_provider_gets_the_account_s_credentials_alone(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    await get(gateway, path(photo, ".json"), Cookie="a=b", X_Forwarded_For="1.2.3.4", Accept="text/html")
    (request,) = sandbox.requests
    assert request.fields["Authorization"] == sandbox.authorization
    assert {name.lower() for name, _ in request.headers} == {"host", "user-agent", "accept-encoding", "authorization"}


async def test_head_says_what_get_says_without_the_body(gateway: RunningGateway, photo: Media, album: Message) -> None:
    for target in (path(photo, ".json"), path(photo, ".xml"), list_path(album.ref), list_path(album.ref, ".xml")):
        whole, head = await get(gateway, target), await ask(gateway, "HEAD", target)
        assert (head.status, head.body) == (200, b"")
        for name in ("Content-Type", "Content-Length", "Cache-Control"):
            assert head.headers[name] == whole.headers[name]


async def test_a_query_of_properties_is_not_passed_on(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    assert (await get(gateway, path(photo, ".json") + "?a=b")).status == 200
    assert sandbox.requests[-1].query == ""


async def test_nothing_is_negotiated_and_no_request_field_is_refused(
    gateway: RunningGateway, photo: Media, album: Message
) -> None:
    for accept in ("*/*", "application/json, text/plain, */*", "image/png", "text/html;q=0"):
        reply = await get(gateway, path(photo, ".json"), Accept=accept)
        assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    form = await get(gateway, list_path(album.ref), Content_Type="application/x-www-form-urlencoded")
    assert form.status == 200


async def test_a_client_that_closes_is_told_that_it_is_closed(gateway: RunningGateway, photo: Media) -> None:
    # A library that says `Connection: close` and uses the connection again has to learn of its end.
    secret = aiohttp.encode_basic_auth("backend", "c" * 40)
    for method, target in (("GET", path(photo, ".json")), ("DELETE", path(photo, ".json"))):
        octets = (
            f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {secret}\r\nConnection: close\r\n"
            "Content-Length: 0\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n"
        )
        # All up to the end of the connection.
        reply = bare(await converse(gateway, octets.encode()))
        assert (reply.status, reply.headers["Connection"]) == ({"GET": 200, "DELETE": 204}[method], "close")


# --- lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".xml", ""])
async def test_a_list_is_the_provider_s_byte_for_byte(
    gateway: RunningGateway, sandbox: Sandbox, album: Message, suffix: str
) -> None:
    own = await upstream(sandbox, list_path(album.ref, suffix))
    reply = await get(gateway, list_path(album.ref, suffix))
    assert (reply.status, reply.body) == (200, own.body)
    assert reply.headers["Content-Type"] == own.headers["Content-Type"]
    assert reply.headers["Cache-Control"] == "private, no-cache"
    assert sandbox.requests[-1].path == list_path(album.ref, suffix)


async def test_a_list_has_exactly_the_nine_keys(gateway: RunningGateway, album: Message) -> None:
    document = (await get(gateway, list_path(album.ref))).json
    assert set(document) == LIST_KEYS
    listed = document["media_list"]
    assert isinstance(listed, list)
    assert {media["sid"] for media in listed} == {media.sid for media in album.media}


async def test_pages_are_followed_through_the_gateway(gateway: RunningGateway, album: Message) -> None:
    target: object = list_path(album.ref) + "?PageSize=1"
    sids: list[str] = []
    while target:
        document = (await get(gateway, str(target))).json
        listed, target = document["media_list"], document["next_page_uri"]
        assert isinstance(listed, list)
        sids += [media["sid"] for media in listed]
    assert sorted(sids) == sorted(media.sid for media in album.media)


@pytest.mark.parametrize(
    "query",
    [
        "PageSize=2&Page=0&PageToken=",
        "DateCreated=2023-11-14",
        "DateCreated%3E=2023-11-14&PageSize=50",
        "DateCreated>=2023-11-14T00:00:00Z",
        "DateCreated%3C=2023-11-14",
        "Unknown=%7e&&x=y;z,'(*)",
    ],
)
async def test_a_list_s_query_is_passed_on_unchanged(
    gateway: RunningGateway, sandbox: Sandbox, album: Message, query: str
) -> None:
    own = await upstream(sandbox, f"{list_path(album.ref)}?{query}")
    sandbox.clear_requests()
    reply = await get(gateway, f"{list_path(album.ref)}?{query}")
    assert (reply.status, reply.body) == (200, own.body)
    assert sandbox.requests[-1].query == query


async def test_an_empty_query_is_none(gateway: RunningGateway, sandbox: Sandbox, album: Message) -> None:
    assert (await get(gateway, list_path(album.ref) + "?")).status == 200
    assert sandbox.requests[-1].query == ""


@pytest.mark.parametrize("query", [b"a=" + b"x" * 2_047, b"a=#b"])
async def test_a_query_that_cannot_be_passed_on_is_400(
    gateway: RunningGateway, sandbox: Sandbox, album: Message, query: bytes
) -> None:
    secret = aiohttp.encode_basic_auth("backend", "c" * 40).encode()
    head = b"GET " + list_path(album.ref).encode() + b"?" + query + b" HTTP/1.1\r\nHost: x\r\nAuthorization: " + secret
    reply = bare(await converse(gateway, head + b"\r\nConnection: close\r\n\r\n"))
    assert said(reply) == (400, 20001, "Invalid query.")
    assert sandbox.requests == ()


async def test_what_the_provider_refuses_is_passed_on(
    gateway: RunningGateway, sandbox: Sandbox, album: Message
) -> None:
    for query, message in (
        ("DateCreated=yesterday", "Invalid date value."),
        ("Page=1", "PageToken is required for paging."),
    ):
        reply = await get(gateway, f"{list_path(album.ref)}?{query}")
        assert said(reply) == (400, 20001, message)
        xml = await get(gateway, f"{list_path(album.ref, '')}?{query}")
        assert (xml.status, xml.headers["Content-Type"]) == (400, "application/xml")
        (exception,) = ET.fromstring(xml.body)
        assert (exception.findtext("Code"), exception.findtext("Message")) == ("20001", message)


# --- what is not there, and what is not a document ------------------------------------------------------------


async def test_a_404_names_the_path_as_the_client_wrote_it(gateway: RunningGateway, photo: Media) -> None:
    missing = path(photo, ".json").replace("/ME", "/ME0")[:-6] + ".json"
    assert said(await get(gateway, missing)) == not_found(missing)
    older = missing.replace("/Messages/", "/Message/")
    assert said(await get(gateway, older)) == not_found(older)
    message = list_path(photo.ref).replace(str(photo.ref.message), "MM" + "0" * 32)
    assert said(await get(gateway, message)) == not_found(message)


def raw(content_type: str, body: bytes) -> Raw:
    return Raw(
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


@pytest.mark.parametrize(
    ("suffix", "content_type", "body"),
    [
        (".json", "application/json", b"[]"),
        (".json", "application/json", b""),
        (".json", "application/json", b'{"a": 1'),
        pytest.param(".json", "application/json", b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", id="deep"),
        (".json", "application/json", b'{"a": 1} x'),
        (".json", "application/json", b'{"a": \xff}'),
        (".json", "application/xml", b"<TwilioResponse/>"),
        (".json", "text/html", b"<html>"),
        (".xml", "application/json", b"{}"),
        (".xml", "text/html", b"<TwilioResponse/>"),
        (".xml", "application/xhtml+xml", b"<TwilioResponse/>"),
        ("", "text/html", b"<html>"),
        ("", "application/json", b"[]"),
    ],
)
async def test_a_document_that_was_not_asked_for_is_502(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, suffix: str, content_type: str, body: bytes
) -> None:
    sandbox.fault(raw(content_type, body), point=Point.LIST)
    reply = await get(gateway, list_path(photo.ref, suffix))
    assert reply.status == 502
    assert b"20502" in reply.body
    if suffix:
        sandbox.fault(raw(content_type, body), point=Point.PROPERTIES)
        assert (await get(gateway, path(photo, suffix))).status == 502


@pytest.mark.parametrize(
    ("suffix", "said_type", "shown"),
    [
        (".json", "application/json; charset=utf-8", "application/json; charset=utf-8"),
        (".json", "application/vnd.api+json", "application/vnd.api+json"),
        (".json", "text/html", "application/json"),
        (".json", "application/xml", "application/json"),
        (".xml", "text/xml; charset=UTF-8", "text/xml; charset=UTF-8"),
        (".xml", "application/xml; a=\xe9", "application/xml"),
    ],
)
async def test_a_document_is_shown_as_what_it_is(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, suffix: str, said_type: str, shown: str
) -> None:
    body = json.dumps({"sid": "x"}).encode() if suffix == ".json" else b"<TwilioResponse/>"
    octets = f"HTTP/1.1 200 OK\r\nContent-Type: {said_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode("latin-1")
    sandbox.fault(Raw(octets + body), point=Point.PROPERTIES)
    reply = await get(gateway, path(photo, suffix))
    assert (reply.status, reply.headers["Content-Type"], reply.body) == (200, shown, body)


async def test_a_wrong_type_from_the_provider_s_list_is_502(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(WrongType("image/png"), point=Point.LIST)
    assert (await get(gateway, list_path(photo.ref, ".xml"))).status == 502


async def test_documents_are_read_by_no_other_origin_s_script(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS="*")
    reply = await get(gateway, path(photo, ".json"), Origin="https://app.example")
    assert "Access-Control-Allow-Origin" not in reply.headers
