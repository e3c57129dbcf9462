"""`/console` over HTTP: who may look, what is served, and what another site's page gets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TypedDict

import pytest
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestServer
from yarl import URL

from proxy.sandbox import Disconnect, Media, Point, Sandbox, StallHeaders, Status
from tests.functional.configuring import OTHER, client_table, identifiers, message_of, write_config
from tests.functional.harness import CLIENT, KEY, Gateways, Reply, RunningGateway

FILES = ("console.css", "console.js", "console.svg", "elements.js", "gateway.js", "media.js")
OBSERVER = ("observer", "o" * 40)
BOTH = ("both", "b" * 40)
STRANGER = ("stranger", "s" * 40)
REVOKER = ("revoker", "r" * 40)


class Shown(TypedDict):
    sid: str
    account_sid: str
    body: str
    date: str
    direction: str
    media: list[dict[str, str]]


@pytest.fixture
async def console(gateways: Gateways) -> RunningGateway:
    """Start the demo's console: open to this machine."""
    return await gateways.start(open_console=True)


@pytest.fixture
async def guarded(gateways: Gateways, tmp_path: Path) -> RunningGateway:
    """Start with `GATEWAY_CONSOLE=1`: for clients alone."""
    config = write_config(
        tmp_path,
        client_table(OBSERVER, "observe"),
        client_table(BOTH, "observe mint"),
        client_table(STRANGER, "observe mint", OTHER),
    )
    return await gateways.start(config=config, GATEWAY_CONSOLE="1")


def messages(reply: Reply) -> list[Shown]:
    assert reply.status == 200, reply.body
    document: dict[str, list[Shown]] = json.loads(reply.body)
    return document["messages"]


async def post(gateway: RunningGateway, media: Media, path: str = "/console/links", **headers: str) -> Reply:
    return await gateway.ask("POST", path, json={"media": [identifiers(media.ref)]}, headers=headers)


async def test_the_page_and_its_files_are_served(console: RunningGateway) -> None:
    page = await console.get("/console")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    kinds = [(await console.get(f"/console/{name}")).headers["Content-Type"] for name in FILES]
    assert (
        kinds
        == ["text/css; charset=utf-8", "text/javascript; charset=utf-8", "image/svg+xml"]
        + ["text/javascript; charset=utf-8"] * 3
    )
    for name in ("console.py", "..%2fconsole.html", "%2e%2e/console.html", ""):
        assert (await console.get(f"/console/{name}")).status == 404


async def test_the_page_loads_nothing_from_elsewhere_and_is_never_framed(console: RunningGateway) -> None:
    for path in ("/console", *(f"/console/{name}" for name in FILES)):
        headers = (await console.get(path)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


async def test_no_secret_is_in_what_is_served(console: RunningGateway, sandbox: Sandbox) -> None:
    secrets = (CLIENT[1], KEY.partition(":")[2], sandbox.auth_token, sandbox.api_url, sandbox.cdn_url)
    for path in ("/console", "/console/messages.json", *(f"/console/{name}" for name in FILES)):
        reply = await console.get(path)
        assert reply.status == 200
        for secret in secrets:
            assert secret.encode() not in reply.body


async def test_messages_are_the_latest_first_with_links_that_open(console: RunningGateway, sandbox: Sandbox) -> None:
    reply = await console.get("/console/messages.json")
    shown = messages(reply)
    assert reply.headers["Cache-Control"] == "no-store"
    newest_first = list(reversed(sandbox.messages))
    assert [message["sid"] for message in shown] == [str(message.ref.message) for message in newest_first]
    assert set(shown[0]) == {"sid", "account_sid", "from", "to", "body", "direction", "date", "media"}
    for message, held in zip(shown, newest_first, strict=True):
        assert message["account_sid"] == sandbox.account_sid
        assert [one["media_sid"] for one in message["media"]] == [str(media.ref.media) for media in held.media]
        assert [one["content_type"] for one in message["media"]] == [media.content_type for media in held.media]
    (first,) = shown[0]["media"]
    assert set(first) >= {"url", "expires_at", "refresh_at", "account_sid", "message_sid", "media_sid", "content_type"}
    assert (await console.get(first["url"])).status == 200


async def test_the_newest_20_messages_are_shown(console: RunningGateway, sandbox: Sandbox) -> None:
    for number in range(25):
        await sandbox.add_message(body=f"number {number}")
    assert [message["body"] for message in messages(await console.get("/console/messages.json"))] == [
        f"number {number}" for number in range(24, 4, -1)
    ]


async def test_a_bounded_number_of_accounts_is_asked_for_messages(gateways: Gateways, tmp_path: Path) -> None:
    asked: list[str] = []

    async def list_none(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"messages": []})

    app = web.Application()
    app.router.add_get("/{tail:.*}", list_none)
    async with TestServer(app) as origin:
        config = tmp_path / "gateway.toml"
        config.write_text(
            "".join(
                f'[[accounts]]\nprovider = "twilio"\naccount_sid = "AC{number:032x}"\npassword = "token"\n'
                f'origin = "{str(origin.make_url("")).rstrip("/")}"\n'
                for number in range(30)
            )
        )
        console = await gateways.start(
            open_console=True, config=config, TWILIO_ACCOUNT_SID="", TWILIO_AUTH_TOKEN="", GATEWAY_UPSTREAM_URL=""
        )
        assert messages(await console.get("/console/messages.json")) == []
    assert asked == [f"/2010-04-01/Accounts/AC{number:032x}/Messages.json" for number in range(20)]


async def test_a_message_deleted_while_listed_has_no_media(console: RunningGateway, sandbox: Sandbox) -> None:
    sandbox.fault(Status(404), point=Point.LIST, times=1)
    shown = messages(await console.get("/console/messages.json"))
    with_media = [message for message in sandbox.messages if message.media]
    assert sum(bool(message["media"]) for message in shown) == len(with_media) - 1


@pytest.mark.parametrize("point", [Point.MESSAGES, Point.LIST])
async def test_a_failing_upstream_is_a_problem_document(
    console: RunningGateway, sandbox: Sandbox, point: Point
) -> None:
    sandbox.fault(Status(401), point=point)
    reply = await console.get("/console/messages.json")
    assert (reply.status, reply.headers["Content-Type"]) == (502, "application/problem+json")
    assert sandbox.api_url.encode() not in reply.body


async def test_one_failed_list_ends_the_others(console: RunningGateway, sandbox: Sandbox) -> None:
    sandbox.fault(StallHeaders(), point=Point.LIST, times=2)
    sandbox.fault(Status(401), point=Point.LIST)
    before = asyncio.all_tasks()
    assert (await console.get("/console/messages.json")).status == 502
    # What is new is the connection; the lists that stall would be tasks that nobody owns.
    assert not [task for task in asyncio.all_tasks() - before if "described" in repr(task.get_coro())]


async def test_an_upstream_that_hangs_up_is_a_problem_document(console: RunningGateway, sandbox: Sandbox) -> None:
    sandbox.fault(Disconnect(), point=Point.MESSAGES)
    assert (await console.get("/console/messages.json")).status == 502


# --- the open console: this machine's own pages alone ---------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil"])
async def test_a_name_that_is_rebound_to_this_machine_is_403(console: RunningGateway, photo: Media, host: str) -> None:
    named = {"Host": host.format(port=URL(console.url).port)}
    for path in ("/console", "/console/console.js", "/console/messages.json"):
        assert (await console.get(path, **named)).status == 403, path
    assert (await post(console, photo, Origin=console.url, **named)).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
async def test_every_name_of_this_machine_is_its_own(console: RunningGateway, photo: Media, host: str) -> None:
    authority = f"{host}:{URL(console.url).port}"
    assert (await console.get("/console", Host=authority)).status == 200
    assert (await post(console, photo, Host=authority, Origin=f"http://{authority.lower()}")).status == 201


async def test_rfc_6454_a_default_port_is_not_written(gateways: Gateways) -> None:
    gateway = await gateways.start(open_console=True, GATEWAY_PUBLIC_URL="http://localhost")
    port = URL(f"http://{gateway.settings.listen}").port
    assert (await gateway.get(f"http://127.0.0.1:{port}/console", Host="localhost")).status == 200
    assert (await gateway.get(f"http://127.0.0.1:{port}/console", Host="localhost:8080")).status == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", ""])
async def test_a_page_of_another_origin_may_not_mint(console: RunningGateway, photo: Media, origin: str) -> None:
    assert (await post(console, photo, Origin=origin)).status == 403


async def test_minting_by_the_page_wants_an_origin(console: RunningGateway, photo: Media) -> None:
    assert (await post(console, photo)).status == 403
    assert (await post(console, photo, Origin=console.url)).status == 201


async def test_an_open_console_opens_nothing_but_itself(console: RunningGateway, photo: Media) -> None:
    assert (await post(console, photo, "/links", Origin=console.url)).status == 401


@pytest.mark.parametrize("whole_message", [False, True])
async def test_what_is_revoked_has_no_link_there(
    gateways: Gateways, sandbox: Sandbox, tmp_path: Path, whole_message: bool
) -> None:
    message = await sandbox.add_message([("image/png", b"one"), ("image/png", b"two")])
    shown, hidden = message.media
    config = write_config(tmp_path, client_table(REVOKER, "revoke"))
    console = await gateways.start(open_console=True, config=config)
    revoked = {"message": message_of(hidden.ref)} if whole_message else {"media": [identifiers(hidden.ref)]}
    credentials = {"Authorization": encode_basic_auth(*REVOKER)}
    assert (await console.ask("POST", "/revoke", json=revoked, headers=credentials)).status == 204
    (found,) = [one for one in messages(await console.get("/console/messages.json")) if one["sid"] == str(message.sid)]
    assert [media["media_sid"] for media in found["media"]] == ([] if whole_message else [str(shown.ref.media)])


# --- the guarded console --------------------------------------------------------------------------------------


async def test_without_the_setting_there_is_no_console(gateway: RunningGateway, photo: Media) -> None:
    for path in ("/console", "/console/console.js", "/console/messages.json"):
        assert (await gateway.get(path)).status == 404
    assert (await post(gateway, photo, Origin=gateway.url)).status == 404


async def test_it_is_for_clients_with_the_scope_observe(guarded: RunningGateway, photo: Media) -> None:
    for path in ("/console", "/console/console.js", "/console/messages.json"):
        anonymous = await guarded.get(path)
        assert (anonymous.status, "WWW-Authenticate" in anonymous.headers) == (401, True)
        assert (await guarded.get(path, Authorization=encode_basic_auth(*CLIENT))).status == 403
        assert (await guarded.get(path, Authorization=encode_basic_auth(*OBSERVER))).status == 200
    assert (await post(guarded, photo, Origin=guarded.url)).status == 401


async def test_minting_there_wants_the_scope_mint_and_an_own_origin(guarded: RunningGateway, photo: Media) -> None:
    own = {"Origin": guarded.url}
    assert (await post(guarded, photo, **own, Authorization=encode_basic_auth(*OBSERVER))).status == 403
    assert (await post(guarded, photo, **own, Authorization=encode_basic_auth(*STRANGER))).status == 403
    assert (await post(guarded, photo, **own, Authorization=encode_basic_auth(*BOTH))).status == 201
    assert (await post(guarded, photo, Authorization=encode_basic_auth(*BOTH))).status == 403
    foreign = {"Origin": "http://evil.example"}
    assert (await post(guarded, photo, **foreign, Authorization=encode_basic_auth(*BOTH))).status == 403


async def test_a_client_sees_the_messages_of_its_own_accounts(guarded: RunningGateway, sandbox: Sandbox) -> None:
    path = "/console/messages.json"
    assert messages(await guarded.get(path, Authorization=encode_basic_auth(*STRANGER))) == []
    assert not sandbox.requests
    assert messages(await guarded.get(path, Authorization=encode_basic_auth(*OBSERVER)))


# --- below a path ---------------------------------------------------------------------------------------------


async def test_a_mount_path_may_be_kept_or_taken_away(gateways: Gateways, sandbox: Sandbox, photo: Media) -> None:
    gateway = await gateways.start(open_console=True, GATEWAY_PUBLIC_URL="http://127.0.0.1/prefix")
    address = f"http://{gateway.settings.listen}"
    for mount in ("", "/prefix"):
        base = f"{address}{mount}/console"
        own = {"Host": "127.0.0.1", "Origin": "http://127.0.0.1"}
        for path in ("", *(f"/{name}" for name in FILES)):
            assert (await gateway.get(base + path, **own)).status == 200
        shown = messages(await gateway.get(f"{base}/messages.json", **own))
        assert shown[0]["media"][0]["url"].startswith("http://127.0.0.1/prefix/media/")
        reply = await post(gateway, photo, f"{base}/links", **own)
        assert reply.status == 201
        document: dict[str, list[dict[str, str]]] = json.loads(reply.body)
        target = document["links"][0]["url"].removeprefix("http://127.0.0.1")
        assert (await gateway.get(address + target)).status == 200
        assert (await gateway.get(address + target.removeprefix("/prefix"))).status == 200
    assert sandbox.requests


async def test_the_bare_address_leads_to_a_console_if_there(gateways: Gateways) -> None:
    shown = await gateways.start(open_console=True)
    reply = await shown.ask("GET", "/", allow_redirects=False)
    assert (reply.status, reply.headers["Location"]) == (303, "console")
    assert (await (await gateways.start()).get("/")).status == 404
