"""Access to the Media resource: clients, paths, methods, scopes, accounts, in that order."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import encode_basic_auth

from proxy.sandbox import Media, Sandbox
from tests.functional.configuring import OTHER
from tests.functional.harness import CLIENT, Gateways, RunningGateway, bare, converse, logged
from tests.functional.media_api import (
    ERASER,
    LAML,
    MINTER,
    READER,
    STRANGER,
    UNKNOWN,
    ask,
    delete,
    get,
    list_path,
    not_found,
    path,
    said,
    write_clients,
)

UNAUTHENTICATED = (
    b'{"code": 20003, "detail": "Your AccountSid or AuthToken was incorrect.", "message": "Authenticate", '
    b'"more_info": "https://www.twilio.com/docs/errors/20003", "status": 401}'
)


@pytest.fixture
async def gateway(gateways: Gateways, sandbox: Sandbox, tmp_path: Path) -> RunningGateway:
    return await gateways.start(config=write_clients(tmp_path, sandbox))


# --- the client -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [None, ("nobody", "n" * 40), (READER[0], "wrong" * 8)])
async def test_a_bad_client_is_401_as_the_provider_says_it(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, client: tuple[str, str] | None
) -> None:
    reply = await get(gateway, path(photo, ".json"), client)
    assert (reply.status, reply.body) == (401, UNAUTHENTICATED)
    assert len(reply.body) == 171
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["WWW-Authenticate"] == 'Basic realm="Twilio API"'
    for suffix in ("", ".xml"):
        xml = await get(gateway, path(photo, suffix), client)
        assert (xml.status, len(xml.body), xml.headers["Content-Type"]) == (401, 293, "application/xml")
    assert sandbox.requests == ()


async def test_the_account_s_own_credentials_are_no_client_s(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    assert (await get(gateway, path(photo, ".json"), (sandbox.account_sid, sandbox.auth_token))).status == 401


async def test_the_client_is_checked_before_the_path(gateway: RunningGateway, photo: Media) -> None:
    for method, target in (("GET", "/2010-04-01/nothing.json"), ("PUT", path(photo)), ("DELETE", path(photo))):
        assert (await ask(gateway, method, target, None)).status == 401


async def test_many_wrong_secrets_from_one_address_are_429(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_BAD_SIGNATURES="1")
    wrong = ("backend", "w" * 40)
    assert (await get(gateway, path(photo, ".json"), wrong)).status == 401
    reply = await get(gateway, path(photo, ".json"), wrong)
    assert said(reply) == (429, 20429, "Too Many Requests")
    assert 1 <= int(reply.headers["Retry-After"]) <= 61
    assert (await get(gateway, path(photo, ".json"))).status == 200


# --- the path -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole.replace("/Media/", "/Media%2f"),
        lambda whole: whole.replace(".json", "%2ejson"),
        lambda whole: whole.replace("/Accounts/", "//Accounts/"),
        lambda whole: whole.replace("/Messages/", "/./Messages/"),
        lambda whole: whole.replace("/Messages/", "/x/../Messages/"),
        lambda whole: whole.replace("/Messages/", "/Calls/"),
        lambda whole: whole.replace("/Media/", "/Media/%20"),
        lambda whole: whole.replace("/2010-04-01", "/2010-04-01/2010-04-01"),
        lambda whole: LAML + whole.removeprefix("/2010-04-01"),
        lambda whole: whole[:11] + "/nothing.json",
        lambda whole: whole[:11] + "/Accounts.json",
        lambda whole: whole.replace(".json", "/Feedback.json"),
    ],
)
async def test_any_other_path_is_404_as_the_client_wrote_it(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, change: object
) -> None:
    assert callable(change)
    target = change(path(photo, ".json"))
    for method in ("GET", "DELETE", "PATCH"):
        reply = await ask(gateway, method, target)
        assert reply.status == 404
        expected = f"The requested resource {target} was not found"
        if target.endswith(".json") and "%2ejson" not in target:
            assert said(reply) == not_found(target)
        else:
            assert f"<Message>{expected}</Message>".encode() in reply.body
    assert sandbox.requests == ()


async def test_a_trailing_dot_or_slash_is_not_found_in_xml(gateway: RunningGateway, photo: Media) -> None:
    for end in (".", "/", ".json/", ".json.", ".JSON"):
        reply = await get(gateway, path(photo, end))
        assert (reply.status, reply.headers["Content-Type"]) == (404, "application/xml")
        message = f"<Message>The requested resource {path(photo, end)} was not found</Message>"
        assert message.encode() in reply.body


async def test_under_a_mount_the_path_works_with_and_without_it(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_PUBLIC_URL="http://127.0.0.1/mms")
    here = f"http://127.0.0.1:{gateway.settings.listen.port}"  # type: ignore[union-attr]
    for mount in ("", "/mms"):
        target = mount + path(photo, ".json")
        reply = await get(gateway, here + target)
        assert reply.status == 200
        # What the provider says of its paths is said without the mount.
        assert reply.json["uri"] == path(photo, ".json")
        missing = target.replace("/Media/", "/Nothing/")
        assert said(await get(gateway, here + missing)) == not_found(missing)
    assert (await get(gateway, here + "/mms/mms" + path(photo, ".json"))).status == 404


async def test_a_target_in_absolute_form_is_the_same(gateway: RunningGateway, photo: Media) -> None:
    # RFC 9112 §3.2.2
    target, secret = path(photo, ".json"), encode_basic_auth(*CLIENT)
    octets = (
        f"GET http://any.example{target} HTTP/1.1\r\nHost: any.example\r\nAuthorization: {secret}\r\n"
        "Connection: close\r\n\r\n"
    )
    assert bare(await converse(gateway, octets.encode())).json["sid"] == str(photo.ref.media)


async def test_digits_in_upper_case_are_the_same_media(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    sids = (photo.ref.account, photo.ref.message, photo.ref.media)
    target = path(photo, ".json")
    for sid in sids:
        target = target.replace(str(sid), str(sid)[:2] + str(sid)[2:].upper())
    assert (await get(gateway, target)).json["sid"] == str(photo.ref.media)
    assert sandbox.requests[-1].path == path(photo, ".json")


# --- methods --------------------------------------------------------------------------------------------------


async def test_another_method_is_405_with_those_that_are_allowed(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    for method in ("POST", "PUT", "PATCH", "OPTIONS"):
        for suffix in ("", ".json", ".xml"):
            reply = await ask(gateway, method, path(photo, suffix))
            assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD, DELETE")
        reply = await ask(gateway, method, list_path(photo.ref))
        assert said(reply) == (405, 20004, "Method not allowed")
        assert reply.headers["Allow"] == "GET, HEAD"
    assert (await delete(gateway, list_path(photo.ref))).status == 405
    assert sandbox.requests == ()


# --- scopes and accounts --------------------------------------------------------------------------------------


async def test_without_the_scope_it_is_403(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    for target in (path(photo), path(photo, ".json"), list_path(photo.ref)):
        for client in (ERASER, MINTER):
            assert (await get(gateway, target, client)).status == 403
    for client in (READER, MINTER):
        reply = await delete(gateway, path(photo, ".json"), client)
        assert said(reply) == (403, 20403, "This client does not have the scope delete.")
    assert said(await get(gateway, path(photo, ".json"), ERASER))[:2] == (403, 20403)
    assert sandbox.requests == ()
    assert (await get(gateway, path(photo, ".json"), READER)).status == 200


@pytest.mark.parametrize("who", ["a stranger", "a reader of another account", "an account that is not configured"])
async def test_a_foreign_or_unconfigured_account_is_404(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, who: str
) -> None:
    sid, client = {
        "a stranger": (sandbox.account_sid, STRANGER),
        "a reader of another account": (OTHER, READER),
        "an account that is not configured": (UNKNOWN, CLIENT),
    }[who]
    for target in (path(photo), path(photo, ".json"), list_path(photo.ref), list_path(photo.ref, ".xml")):
        theirs = target.replace(sandbox.account_sid, sid)
        reply = await get(gateway, theirs, client)
        assert reply.status == 404
        if theirs.endswith(".json"):
            assert said(reply) == not_found(theirs)
    if client != READER:
        theirs = path(photo, ".json").replace(sandbox.account_sid, sid)
        assert said(await delete(gateway, theirs, client)) == not_found(theirs)
    assert sandbox.requests == ()


async def test_an_account_that_refuses_our_credentials_is_502(gateway: RunningGateway, photo: Media) -> None:
    target = path(photo, ".json").replace(str(photo.ref.account), OTHER)
    for reply in (
        await get(gateway, target, STRANGER),
        await get(gateway, target.replace(".json", ""), STRANGER),
        await delete(gateway, target, STRANGER),
    ):
        assert reply.status == 502
        assert "WWW-Authenticate" not in reply.headers
        assert b"20502" in reply.body


async def test_a_page_of_another_origin_may_not_delete(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    for origin in ("https://evil.example", "null", gateway.url.replace("http:", "https:")):
        reply = await delete(gateway, path(photo, ".json"), Origin=origin)
        assert said(reply) == (403, 20403, "This call is for the gateway's own pages.")
    assert sandbox.requests == ()
    assert (await delete(gateway, path(photo, ".json"), Origin=gateway.url)).status == 204


async def test_the_access_log_has_the_client(gateway: RunningGateway, photo: Media) -> None:
    async with logged() as logs:
        await get(gateway, path(photo, ".json"), READER)
    (entry,) = logs.entries
    assert (entry["client_id"], entry["status"]) == (READER[0], 200)
