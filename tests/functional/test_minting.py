"""`POST /links` and client authentication, through a real gateway."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlencode

import pytest
from aiohttp import encode_basic_auth
from yarl import URL

from proxy.clients import hash_secret
from proxy.sandbox import Media, Point, Sandbox, Status
from tests.functional.configuring import OTHER, account_table, client_table, identifiers, write_config
from tests.functional.harness import CLIENT, Gateways, Reply, RunningGateway, bare, converse, logged

BASIC = encode_basic_auth(*CLIENT)


class Link(TypedDict):
    url: str
    expires_at: str
    refresh_at: str
    account_sid: str
    message_sid: str
    media_sid: str
    content_type: str | None


def links(reply: Reply) -> Sequence[Link]:
    assert reply.status == 201, reply.body
    document: dict[str, list[Link]] = json.loads(reply.body)
    return document["links"]


def bad_fields(reply: Reply) -> list[str]:
    assert (reply.status, reply.headers["Content-Type"]) == (400, "application/problem+json")
    document: dict[str, list[dict[str, str]]] = json.loads(reply.body)
    return [error["field"] for error in document["errors"]]


def moment(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def forbidden_fields(reply: Reply) -> list[str]:
    assert (reply.status, reply.headers["Content-Type"]) == (403, "application/problem+json")
    document: dict[str, list[dict[str, str]]] = json.loads(reply.body)
    return [error["field"] for error in document["errors"]]


async def post(
    gateway: RunningGateway, body: bytes, content_type: str = "application/json", query: str = "", **headers: str
) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.ask(
        "POST", f"/links{query}", data=body, headers={"Content-Type": content_type, "Authorization": BASIC, **named}
    )


# --- what is minted -------------------------------------------------------------------------------------------


async def test_a_minted_link_opens_the_media(gateway: RunningGateway, photo: Media) -> None:
    reply = await gateway.mint({"media": [identifiers(photo.ref)]})
    (link,) = links(reply)
    assert link.items() >= identifiers(photo.ref).items()
    assert set(link) == {"url", "expires_at", "refresh_at", *identifiers(photo.ref), "content_type"}
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.headers["Cache-Control"] == "no-store"
    opened = await gateway.get(link["url"])
    assert (opened.status, len(opened.body)) == (200, photo.length)


async def test_times_are_those_of_the_link(gateway: RunningGateway, photo: Media) -> None:
    before = time.time()
    (link,) = links(await gateway.mint({"media": [identifiers(photo.ref)], "ttl": 1_000}))
    expires = int(URL(link["url"]).query["expires"])
    assert math.ceil((before + 1_000) / 60) * 60 <= expires <= math.ceil((time.time() + 1_000) / 60) * 60
    assert moment(link["expires_at"]) == expires
    assert moment(link["refresh_at"]) == expires - 500


async def test_the_same_media_within_a_window_has_the_same_url(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LINK_WINDOW="3600")
    minted = [links(await gateway.mint({"media": [identifiers(photo.ref)]}))[0]["url"] for _ in range(3)]
    # At most one of the three may have met the end of a window.
    assert len(set(minted)) < 3
    assert minted[1] in (minted[0], minted[2])


async def test_provider_and_configured_origin_urls_name_the_same_media(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    ours = sandbox.media_url(photo)
    twilios = "https://api.twilio.com" + URL(ours).path
    minted = links(await gateway.mint({"media": [identifiers(photo.ref), {"url": ours}, {"url": twilios}]}))
    assert [identifiers(photo.ref)] * 3 == [{name: link[name] for name in identifiers(photo.ref)} for link in minted]  # type: ignore[literal-required]
    assert not sandbox.requests


async def test_a_url_of_another_place_is_refused_by_name(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    path = URL(sandbox.media_url(photo)).path
    urls = [
        f"https://evil.example{path}",
        f"https://u@api.twilio.com{path}",
        f"https://api.twilio.com:444{path}",
        "https://api.twilio.com" + path.replace(sandbox.account_sid, OTHER),
        sandbox.cdn_url + path,
    ]
    reply = await gateway.mint({"media": [{"url": url} for url in urls]})
    assert bad_fields(reply) == [f"media[{place}].url" for place in range(len(urls))]
    assert b"evil.example" not in reply.body
    assert not sandbox.requests


async def test_the_api_s_uri_of_a_media_is_its_url(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    ours = URL(sandbox.media_url(photo))
    properties = await gateway.ask("GET", f"{ours.path}.json", headers={"Authorization": encode_basic_auth(*CLIENT)})
    uri = str(properties.json["uri"])
    assert (uri.startswith("/2010-04-01/"), uri.endswith(".json")) == (True, True)
    urls = [uri, f"{ours}.json", f"{ours}.xml", ours.path, f"https://API.TWILIO.COM{uri}"]
    minted = links(await gateway.mint({"media": [{"url": url} for url in urls]}))
    assert len({link["url"] for link in minted}) == 1
    assert (await gateway.get(minted[0]["url"])).status == 200
    for call, scope in (("/purge", "purge"), ("/revoke", "revoke")):
        refused = await gateway.ask(
            "POST", call, json={"media": [{"url": uri}]}, headers={"Authorization": encode_basic_auth(*CLIENT)}
        )
        assert (refused.status, scope in str(refused.json["detail"])) == (403, True)


async def test_each_media_has_its_own_name_and_disposition(gateway: RunningGateway, sandbox: Sandbox) -> None:
    message = await sandbox.add_message([("image/png", b"one"), ("image/png", b"two")])
    first, second = (identifiers(media.ref) for media in message.media)
    asked = {"media": [{**first, "filename": "first.png", "disposition": "attachment"}, second], "filename": "all.png"}
    one, other = [(await gateway.get(link["url"])).headers for link in links(await gateway.mint(asked))]
    assert one["Content-Disposition"] == 'attachment; filename="first.png"'
    assert other["Content-Disposition"] == 'inline; filename="all.png"'


# --- what type the media are ----------------------------------------------------------------------------------


async def store(gateway: RunningGateway, media: Media) -> None:
    """Have it stored: the answer to a second reader comes from the store, which waits for what is being written."""
    await gateway.get(gateway.link(media.ref))
    reply = await gateway.get(gateway.link(media.ref))
    assert reply.headers["Cache-Status"].startswith("media-gateway; hit")


async def test_a_type_is_null_until_the_media_is_stored(
    gateways: Gateways, sandbox: Sandbox, photo: Media, film: Media
) -> None:
    asked = {"media": [identifiers(photo.ref), identifiers(film.ref)] * 2}

    async def types(gateway: RunningGateway) -> list[str | None]:
        before = len(sandbox.requests)
        minted = [link["content_type"] for link in links(await gateway.mint(asked))]
        assert len(sandbox.requests) == before
        return minted

    async with gateways.running() as gateway:
        assert await types(gateway) == [None] * 4
        await store(gateway, photo)
        assert await types(gateway) == [photo.content_type, None] * 2
        await store(gateway, film)
        assert await types(gateway) == [photo.content_type, film.content_type] * 2
    # Now RAM is empty, and the disk says it.
    async with gateways.running() as gateway:
        assert await types(gateway) == [photo.content_type, film.content_type] * 2


async def test_a_whole_message_s_types_are_those_of_its_list(gateway: RunningGateway, sandbox: Sandbox) -> None:
    message = await sandbox.add_message([("image/png", b"one"), ("text/plain", b"two")])
    asked = {"message": {"account_sid": sandbox.account_sid, "message_sid": str(message.ref.message)}}
    assert [link["content_type"] for link in links(await gateway.mint(asked))] == ["image/png", "text/plain"]


async def test_a_whole_message_is_listed_at_the_upstream(gateway: RunningGateway, sandbox: Sandbox) -> None:
    message = await sandbox.add_message([("text/plain", b"%d" % number) for number in range(60)])
    asked = {"message": {"account_sid": sandbox.account_sid, "message_sid": str(message.ref.message)}}
    minted = links(await gateway.mint(asked))
    assert [link["media_sid"] for link in minted] == [str(media.ref.media) for media in message.media]
    assert (await gateway.get(minted[-1]["url"])).body == b"59"


async def test_a_message_of_more_than_100_media_is_refused(gateway: RunningGateway, sandbox: Sandbox) -> None:
    message = await sandbox.add_message([("text/plain", b"x")] * 101)
    asked = {"message": {"account_sid": sandbox.account_sid, "message_sid": str(message.ref.message)}}
    assert bad_fields(await gateway.mint(asked)) == ["message"]


async def test_a_message_that_is_not_there_is_404(gateway: RunningGateway, sandbox: Sandbox) -> None:
    reply = await gateway.mint({"message": {"account_sid": sandbox.account_sid, "message_sid": "MM" + "9" * 32}})
    assert reply.status == 404


async def test_an_upstream_that_fails_the_list_is_502(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    sandbox.fault(Status(500), point=Point.LIST)
    reply = await gateway.mint({"message": {"account_sid": sandbox.account_sid, "message_sid": str(photo.ref.message)}})
    assert (reply.status, reply.headers["Content-Type"]) == (502, "application/problem+json")
    assert sandbox.api_url.encode() not in reply.body


async def test_a_message_scope_is_one_signature_for_all_its_media(gateway: RunningGateway, sandbox: Sandbox) -> None:
    message = next(message for message in sandbox.messages if len(message.media) > 1)
    asked = {"message": {"account_sid": sandbox.account_sid, "message_sid": str(message.ref.message)}}
    minted = links(await gateway.mint({**asked, "scope": "message"}))
    assert len({URL(link["url"]).query["signature"] for link in minted}) == 1
    assert [(await gateway.get(link["url"])).status for link in minted] == [200] * len(message.media)


async def test_claims_are_in_the_link_and_hold(gateway: RunningGateway, photo: Media) -> None:
    asked = {"media": [identifiers(photo.ref)], "filename": "Grüße.jpg", "disposition": "attachment"}
    (link,) = links(await gateway.mint({**asked, "ip": "127.0.0.1"}))
    opened = await gateway.get(link["url"])
    assert opened.status == 200
    assert opened.headers["Content-Disposition"].startswith("attachment;")
    (elsewhere,) = links(await gateway.mint({**asked, "ip": "203.0.113.7/32"}))
    assert (await gateway.get(elsewhere["url"])).status == 403
    (later,) = links(await gateway.mint({**asked, "not_before": int(time.time()) + 200}))
    assert (await gateway.get(later["url"])).status == 403


async def test_at_most_100_media_a_call(gateway: RunningGateway, photo: Media) -> None:
    assert len(links(await gateway.mint({"media": [identifiers(photo.ref)] * 100}))) == 100
    assert bad_fields(await gateway.mint({"media": [identifiers(photo.ref)] * 101})) == ["media"]


async def test_every_bad_field_is_named_at_once(gateway: RunningGateway, photo: Media) -> None:
    asked = {
        "media": [{**identifiers(photo.ref), "media_sid": "x"}, {**identifiers(photo.ref), "account_sid": OTHER}],
        "ttl": 86_401,
        "not_before": 10**12,
        "ip": "x",
        "\ud800": 1,
    }
    assert sorted(bad_fields(await gateway.mint(asked))) == sorted(
        ["media[0].media_sid", "media[1].account_sid", "ttl", "not_before", "ip", "\\ud800"]
    )


@pytest.mark.parametrize("ttl", [0, 86_401, 10**400, True, 1e999])
async def test_a_ttl_is_from_1_to_the_maximum(gateway: RunningGateway, photo: Media, ttl: float) -> None:
    body = json.dumps({"media": [identifiers(photo.ref)], "ttl": ttl}).replace("Infinity", "1e999").encode()
    assert bad_fields(await post(gateway, body)) == ["ttl"]


# --- a provider's webhook -------------------------------------------------------------------------------------


def webhook(sandbox: Sandbox, media: Sequence[Media], **fields: str) -> bytes:
    form = {
        "AccountSid": sandbox.account_sid,
        "MessageSid": str(media[0].ref.message) if media else "MM" + "9" * 32,
        "NumMedia": str(len(media)),
        **{f"MediaUrl{place}": sandbox.media_url(one) for place, one in enumerate(media)},
        **{f"MediaContentType{place}": one.content_type for place, one in enumerate(media)},
        "Body": "Grüße",
        **fields,
    }
    return urlencode(form).encode()


async def test_a_webhook_s_media_are_minted(gateway: RunningGateway, sandbox: Sandbox) -> None:
    media = max((message.media for message in sandbox.messages), key=len)
    form = "application/x-www-form-urlencoded; charset=UTF-8"
    minted = links(await post(gateway, webhook(sandbox, media), form))
    assert [link["media_sid"] for link in minted] == [str(one.ref.media) for one in media]
    assert (await gateway.get(minted[0]["url"])).status == 200
    assert links(await post(gateway, webhook(sandbox, []), form)) == []


async def test_a_webhook_s_bad_fields_are_named(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    form = "application/x-www-form-urlencoded"
    beyond = webhook(sandbox, [photo], MediaUrl1=sandbox.media_url(photo))
    assert bad_fields(await post(gateway, beyond, form)) == ["MediaUrl1"]
    assert bad_fields(await post(gateway, webhook(sandbox, [photo], AccountSid=OTHER), form)) == ["MediaUrl0"]
    assert bad_fields(await post(gateway, webhook(sandbox, [], NumMedia="0000999999999"), form)) == ["NumMedia"]


async def test_a_webhook_says_the_types_of_its_media(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    form = "application/x-www-form-urlencoded"
    (told,) = links(await post(gateway, webhook(sandbox, [photo]), form))
    assert told["content_type"] == photo.content_type
    nonsense = webhook(sandbox, [photo], MediaContentType0="x" * 1_000)
    (unknown,) = links(await post(gateway, nonsense, form))
    assert unknown["content_type"] is None
    await store(gateway, photo)
    (stored,) = links(await post(gateway, nonsense, form))
    assert stored["content_type"] == photo.content_type


async def test_a_webhook_s_wishes_stand_in_the_query(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    form = "application/x-www-form-urlencoded"
    query = "?ttl=3000&filename=Gr%C3%BC%C3%9Fe+1.jpg&disposition=attachment&ip=127.0.0.0/8"
    before = time.time()
    (link,) = links(await post(gateway, webhook(sandbox, [photo]), form, query))
    assert moment(link["expires_at"]) >= before + 3_000
    opened = await gateway.get(link["url"])
    assert opened.status == 200
    assert opened.headers["Content-Disposition"].startswith("attachment;")
    assert "Gr%C3%BC%C3%9Fe%201.jpg" in opened.headers["Content-Disposition"]
    for refused in ("?ttl=5&ttl=6", "?variant=auto", "?scope=variants", "?Ttl=5", "?ttl=x"):
        assert bad_fields(await post(gateway, webhook(sandbox, [photo]), form, refused)) == [
            refused[1:].partition("=")[0]
        ]


async def test_beside_json_a_query_is_400(gateway: RunningGateway, photo: Media) -> None:
    body = json.dumps({"media": [identifiers(photo.ref)]}).encode()
    assert bad_fields(await post(gateway, body, query="?ttl=5")) == ["ttl"]
    assert (await post(gateway, body, query="?")).status == 201


@pytest.mark.parametrize("path", ["/links", "/link%73", "/console/links"])
async def test_the_query_of_a_mint_is_never_logged(
    gateways: Gateways, sandbox: Sandbox, photo: Media, path: str
) -> None:
    target = f"{path}?filename=a-secret-name.jpg&ip=203.0.113.7"
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": BASIC}
    async with logged() as logs, gateways.running() as gateway:
        for method, credentials in (("POST", headers), ("POST", {}), ("GET", {})):
            await gateway.ask(method, target, data=webhook(sandbox, [photo]), headers=credentials)
    assert [entry["target"] for entry in logs.entries] == [path] * 3
    assert "secret" not in logs.access.getvalue() + logs.program.getvalue()


# --- who may --------------------------------------------------------------------------------------------------


@pytest.fixture
async def bound(gateways: Gateways, sandbox: Sandbox, tmp_path: Path) -> RunningGateway:
    """Return a gateway with clients of some scopes and accounts."""
    hashed = f"""
        [[clients]]
        id = "own"
        secret_hash = "{hash_secret("o" * 40)}"
        scopes = ["mint"]
        accounts = ["{sandbox.account_sid}"]
        """
    config = write_config(
        tmp_path,
        account_table(sandbox.api_url),
        hashed,
        client_table(("few", "f" * 40), "purge revoke", sandbox.account_sid),
        client_table(("reader", "r" * 40), "read delete purge revoke observe"),
    )
    return await gateways.start(config=config)


async def test_a_client_mints_for_its_own_accounts(bound: RunningGateway, photo: Media) -> None:
    assert len(links(await bound.mint({"media": [identifiers(photo.ref)]}, client=("own", "o" * 40)))) == 1


async def test_another_account_is_403_for_every_form_of_reference(
    bound: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    client = ("own", "o" * 40)
    foreign = {**identifiers(photo.ref), "account_sid": OTHER}
    path = URL(sandbox.media_url(photo)).path.replace(sandbox.account_sid, OTHER)
    documents = [
        {"media": [identifiers(photo.ref), foreign]},
        {"media": [identifiers(photo.ref), {"url": sandbox.api_url + path}]},
        {"media": [{"url": "https://api.twilio.com" + path}]},
        {"message": {"account_sid": OTHER, "message_sid": str(photo.ref.message)}},
        # Nor does it learn whether an account is configured.
        {"media": [{**foreign, "account_sid": "AC" + "0c" * 16}]},
        {"media": [{"url": sandbox.api_url + path.replace(OTHER, "AC" + "0c" * 16)}]},
        {"media": [{"url": "https://evil.example" + path}]},
    ]
    names = ["media[1]", "media[1]", "media[0]", "message", "media[0]", "media[0]", "media[0]"]
    for document, name in zip(documents, names, strict=True):
        assert forbidden_fields(await bound.mint(document, client=client)) == [name], document
    kind = "application/x-www-form-urlencoded"
    for account in (OTHER, "AC" + "0c" * 16):
        form = urlencode({"NumMedia": "1", "MediaUrl0": sandbox.api_url + path.replace(OTHER, account)})
        refused = await post(bound, form.encode(), kind, Authorization=encode_basic_auth(*client))
        assert forbidden_fields(refused) == ["MediaUrl0"]
    assert not sandbox.requests
    # A client of every account may.
    assert [(await bound.mint(document)).status for document in documents] == [201, 201, 201, 502, 400, 400, 400]


async def test_a_webhook_without_media_is_403_for_another_account(
    bound: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    kind, own = "application/x-www-form-urlencoded", encode_basic_auth("own", "o" * 40)
    assert links(await post(bound, webhook(sandbox, []), kind, Authorization=own)) == []
    assert links(await post(bound, b"NumMedia=0", kind, Authorization=own)) == []
    for account in (OTHER, "AC" + "0c" * 16):
        refused = await post(bound, webhook(sandbox, [], AccountSid=account), kind, Authorization=own)
        assert forbidden_fields(refused) == ["AccountSid"]
    # A client of every account has those that are configured.
    assert links(await post(bound, webhook(sandbox, [], AccountSid=OTHER), kind)) == []
    unknown = await post(bound, webhook(sandbox, [], AccountSid="AC" + "0c" * 16), kind)
    assert forbidden_fields(unknown) == ["AccountSid"]


async def test_every_reference_to_another_account_is_named(bound: RunningGateway, photo: Media) -> None:
    foreign = {**identifiers(photo.ref), "account_sid": OTHER}
    asked = {"media": [foreign, identifiers(photo.ref), foreign]}
    assert forbidden_fields(await bound.mint(asked, client=("own", "o" * 40))) == ["media[0]", "media[2]"]
    for call in ("/purge", "/revoke"):
        reader = {"Authorization": encode_basic_auth("few", "f" * 40)}
        refused = await bound.ask("POST", call, json=asked, headers=reader)
        assert forbidden_fields(refused) == ["media[0]", "media[2]"]


async def test_without_the_scope_it_is_403(bound: RunningGateway, photo: Media) -> None:
    reply = await bound.mint({"media": [identifiers(photo.ref)]}, client=("reader", "r" * 40))
    assert (reply.status, reply.headers["Content-Type"]) == (403, "application/problem+json")


@pytest.mark.parametrize(
    "authorization",
    [[], ["Basic x"], ["Bearer x"], [encode_basic_auth("backend", "wrong")], [BASIC, BASIC]],
)
async def test_rfc_9110_missing_or_wrong_credentials_are_401(gateway: RunningGateway, authorization: list[str]) -> None:
    fields = [("Content-Type", "application/json"), *(("Authorization", value) for value in authorization)]
    reply = await gateway.ask("POST", "/links", data=b"{}", headers=fields)
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == 'Basic realm="media-gateway", charset="UTF-8"'


async def test_many_wrong_credentials_are_429_and_never_stop_good_ones(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_BAD_SIGNATURES="3")
    document = {"media": [identifiers(photo.ref)]}
    # Without credentials nothing was guessed.
    unnamed = [(await gateway.ask("POST", "/links", json=document)).status for _ in range(5)]
    assert unnamed == [401] * 5
    replies = [await gateway.mint(document, client=("backend", "x" * 40)) for _ in range(5)]
    assert [reply.status for reply in replies] == [401, 401, 401, 429, 429]
    assert 1 <= int(replies[-1].headers["Retry-After"]) <= 61
    assert (await gateway.mint(document)).status == 201


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1"])
async def test_a_page_of_another_origin_may_not_mint(gateway: RunningGateway, photo: Media, origin: str) -> None:
    body = json.dumps({"media": [identifiers(photo.ref)]}).encode()
    assert (await post(gateway, body, Origin=origin)).status == 403
    assert (await post(gateway, body, Origin=gateway.url)).status == 201


async def test_only_post(gateway: RunningGateway) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        reply = await gateway.ask(method, "/links")
        assert (reply.status, reply.headers["Allow"]) == (405, "POST")


# --- bodies ---------------------------------------------------------------------------------------------------


async def test_a_body_beyond_the_limit_is_413(gateways: Gateways) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_REQUEST_BODY_BYTES="1000")
    announced = await post(gateway, b" " * 1_001)

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 100

    chunked = await gateway.ask(
        "POST", "/links", data=unannounced(), headers={"Content-Type": "application/json", "Authorization": BASIC}
    )
    assert [announced.status, chunked.status] == [413, 413]
    assert (await post(gateway, b"{}".ljust(1_000))).status == 400


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "multipart/form-data", "application/octet-stream", ""]
)
async def test_another_type_is_415(gateway: RunningGateway, kind: str) -> None:
    assert (await post(gateway, b"{}", kind)).status == 415


async def test_a_body_without_a_type_is_415(gateway: RunningGateway) -> None:
    head = (
        f"POST /links HTTP/1.1\r\nHost: x\r\nAuthorization: {BASIC}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    )
    assert bare(await converse(gateway, head.encode() + b"{}")).status == 415


async def test_rfc_9110_a_coded_body_is_415_and_never_unpacked(gateway: RunningGateway) -> None:
    for coding in ("gzip", "deflate", "br", "zstd"):
        assert (await post(gateway, b"no gzip", Content_Encoding=coding)).status == 415


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 50_000, b'{"a":NaN}', b"1" * 9_000, b'"\\ud800"'])
async def test_what_is_no_json_object_is_400(gateway: RunningGateway, body: bytes) -> None:
    assert (await post(gateway, body)).status == 400


async def test_rfc_9112_a_body_with_a_broken_framing_is_400(gateway: RunningGateway) -> None:
    head = (
        f"POST /links HTTP/1.1\r\nHost: x\r\nAuthorization: {BASIC}\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    assert bare(await converse(gateway, head.encode() + b"zz\r\n{}\r\n0\r\n\r\n")).status == 400


async def test_rfc_9112_a_framing_broken_within_the_body_is_400(gateway: RunningGateway) -> None:
    head = (
        f"POST /links HTTP/1.1\r\nHost: x\r\nAuthorization: {BASIC}\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    )
    url = URL(gateway.url)
    async with logged() as logs:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            writer.write(head.encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"1\r\n{\r\nzz\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        finally:
            writer.close()
            await writer.wait_closed()
    # A client that sends nonsense does not fill the log with tracebacks.
    assert logs.program.getvalue() == ""


async def test_a_body_that_does_not_come_is_given_up(gateways: Gateways) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_BODY_SECONDS="1")
    head = (
        f"POST /links HTTP/1.1\r\nHost: x\r\nAuthorization: {BASIC}\r\nContent-Type: application/json\r\n"
        "Content-Length: 100\r\n\r\n{"
    )
    url = URL(gateway.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"\r\nConnection: close\r\n" in answer
        # The rest of the body is not waited for: the connection ends.
        await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
