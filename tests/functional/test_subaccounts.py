"""`subaccounts = true`: accounts that are not configured are reached through one that is, and harm no other."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth

from proxy.model import AccountSid, MediaRef, Provider
from proxy.sandbox import Media, Point, Sandbox, SandboxOptions, Status
from tests.functional.configuring import client_table, identifiers
from tests.functional.harness import KEY, Gateways, Reply, RunningGateway, logged
from tests.functional.media_api import LAML, PLAIN, delete, get, list_path, not_found, path, said
from tests.functional.scraping import Scrape
from tests.functional.test_cli import run

PARENT, LISTED, INVENTED = "AC" + "1a" * 16, "AC" + "2b" * 16, "AC" + "3c" * 16
PROJECT = "11111111-2222-4333-8444-555555555555"
FAMILY, ALONE, NAMED = ("family", "f" * 40), ("alone", "a" * 40), ("named", "n" * 40)
"""Clients: of the parent and its subaccounts, of the parent alone, of the sandbox's account by its name."""
REFUSALS = [401, 403, 404]


def config_of(sandbox: Sandbox, folder: Path, parent: str = PARENT, provider: str = "twilio") -> Path:
    """Write a parent whose credentials are those of an API key, which the sandbox takes for its own account."""
    shared = f"""
        username = "{sandbox.api_key[0]}"
        password = "{sandbox.api_key[1]}"
        origin = "{sandbox.api_url}"
        redirect_hosts = ["{sandbox.cdn_host}"]
    """
    clients = "".join(
        client_table(credentials, "mint read delete purge revoke observe", account)
        for credentials, account in ((FAMILY, f"{parent}/*"), (ALONE, parent), (NAMED, sandbox.account_sid))
    )
    listed = f'[[accounts]]\nprovider = "twilio"\naccount_sid = "{LISTED}"\n{shared}'
    path = folder / "gateway.toml"
    path.write_text(
        f'[[accounts]]\nprovider = "{provider}"\naccount_sid = "{parent}"\nsubaccounts = true\n{shared}\n'
        f"{listed}\n{clients}"
    )
    return path


@pytest.fixture
async def gateway(gateways: Gateways, sandbox: Sandbox, tmp_path: Path) -> RunningGateway:
    return await start(gateways, config_of(sandbox, tmp_path))


async def start(gateways: Gateways, config: Path) -> RunningGateway:
    return await gateways.start(config=config, TWILIO_ACCOUNT_SID="", TWILIO_AUTH_TOKEN="", GATEWAY_UPSTREAM_URL="")


async def post(gateway: RunningGateway, target: str, client: tuple[str, str], document: object) -> Reply:
    headers = {"Authorization": encode_basic_auth(*client)}
    return await gateway.ask("POST", target, json=document, headers=headers)


async def scraped(gateway: RunningGateway) -> Scrape:
    return Scrape.of((await get(gateway, "/metrics", FAMILY)).body.decode())


def of_account(ref: MediaRef, account: str) -> MediaRef:
    return MediaRef(AccountSid.parse(account), ref.message, ref.media)


# --- what they are served ------------------------------------------------------------------------------------


async def test_a_link_to_an_unlisted_account_opens_through_its_parent(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    first, again = [await gateway.get(gateway.link(photo.ref)) for _ in range(2)]
    assert (first.status, again.status) == (200, 200)
    assert first.body == again.body
    assert "; hit" in again.headers["Cache-Status"]
    assert len([request for request in sandbox.requests if request.path == path(photo)]) == 1


@pytest.mark.parametrize("client", [FAMILY, NAMED])
async def test_the_media_resource_serves_subaccounts(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, client: tuple[str, str]
) -> None:
    assert (await get(gateway, path(photo), client)).status == 200
    assert (await get(gateway, path(photo, ".json"), client)).json["account_sid"] == sandbox.account_sid
    listed = (await get(gateway, list_path(photo.ref), client)).json
    assert str(photo.ref.media) in json.dumps(listed["media_list"])
    assert (await delete(gateway, path(photo, ".json"), client)).status == 204
    assert (await gateway.get(gateway.link(photo.ref))).status == 404


async def test_a_redirect_leads_to_a_link_of_a_subaccount(
    gateways: Gateways, sandbox: Sandbox, photo: Media, tmp_path: Path
) -> None:
    gateway = await gateways.start(
        config=config_of(sandbox, tmp_path),
        TWILIO_ACCOUNT_SID="",
        TWILIO_AUTH_TOKEN="",
        GATEWAY_UPSTREAM_URL="",
        GATEWAY_CONTENT_MODE="redirect",
    )
    reply = await get(gateway, path(photo), FAMILY)
    assert reply.status == 307
    assert (await gateway.get(reply.headers["Location"])).status == 200


async def test_the_client_of_the_parent_alone_sees_no_subaccount(gateway: RunningGateway, photo: Media) -> None:
    for target in (path(photo), path(photo, ".json"), list_path(photo.ref)):
        assert (await get(gateway, target, ALONE)).status == 404
    assert (await delete(gateway, path(photo), ALONE)).status == 404


async def test_a_listed_account_is_nobodys_subaccount(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    ref = of_account(photo.ref, LISTED)
    assert (await get(gateway, path(ref), FAMILY)).status == 404
    assert sandbox.requests == ()
    reply = await post(gateway, "/links", FAMILY, {"media": [identifiers(ref)]})
    assert reply.status == 403


def _forms(sandbox: Sandbox, ref: MediaRef) -> dict[str, object]:
    message = {"account_sid": str(ref.account), "message_sid": str(ref.message)}
    return {
        "identifiers": {"media": [identifiers(ref)]},
        "url": {"media": [{"url": f"{sandbox.api_url}{path(ref)}"}]},
        "api": {"media": [{"url": f"https://api.twilio.com{path(ref)}"}]},
        "uri": {"media": [{"url": path(ref, ".json")}]},
        "message": {"message": message},
    }


@pytest.mark.parametrize("form", ["identifiers", "url", "api", "uri", "message"])
async def test_every_form_of_reference_names_a_subaccount(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, form: str
) -> None:
    document = _forms(sandbox, photo.ref)[form]
    for client, status in ((FAMILY, 201), (NAMED, 201), (ALONE, 403)):
        reply = await post(gateway, "/links", client, document)
        assert (client[0], reply.status) == (client[0], status)
    links = (await post(gateway, "/links", FAMILY, document)).json["links"]
    assert isinstance(links, list)
    assert (await gateway.get(links[0]["url"])).status == 200


@pytest.mark.parametrize("form", ["identifiers", "url", "uri", "message"])
@pytest.mark.parametrize("call", ["/purge", "/revoke"])
async def test_purge_and_revoke_reach_subaccounts(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, form: str, call: str
) -> None:
    document = _forms(sandbox, photo.ref)[form]
    assert (await post(gateway, call, ALONE, document)).status == 403
    assert (await gateway.get(gateway.link(photo.ref))).status == 200
    assert (await post(gateway, call, FAMILY, document)).status == 204
    sandbox.clear_requests()
    assert (await gateway.get(gateway.link(photo.ref))).status == (403 if call == "/revoke" else 200)
    assert bool(sandbox.requests) == (call == "/purge")


async def test_a_family_is_not_all_accounts(gateway: RunningGateway) -> None:
    assert (await post(gateway, "/purge", FAMILY, {"all": True})).status == 403


@pytest.mark.parametrize("media", [0, 1])
async def test_a_webhook_form_names_a_subaccount(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, media: int
) -> None:
    form = {"AccountSid": sandbox.account_sid, "NumMedia": str(media)}
    if media:
        form["MediaUrl0"] = f"https://api.twilio.com{path(photo)}"
    for client, status in ((FAMILY, 201), (ALONE, 403)):
        headers = {"Authorization": encode_basic_auth(*client)}
        reply = await gateway.ask("POST", "/links", data=form, headers=headers)
        assert (client[0], reply.status) == (client[0], status)


async def test_the_single_account_may_have_subaccounts(gateways: Gateways, sandbox: Sandbox, photo: Media) -> None:
    start_single = partial(
        gateways.start,
        TWILIO_ACCOUNT_SID=PARENT,
        TWILIO_AUTH_TOKEN="",
        TWILIO_API_KEY=sandbox.api_key[0],
        TWILIO_API_SECRET=sandbox.api_key[1],
    )
    without = await start_single()
    assert (await without.get(without.link(photo.ref))).status == 404
    assert sandbox.requests == ()
    gateway = await start_single(GATEWAY_SUBACCOUNTS="1")
    assert (await gateway.get(gateway.link(photo.ref))).status == 200


async def test_a_project_of_signalwire_may_have_subaccounts(gateways: Gateways, tmp_path: Path) -> None:
    async with Sandbox(SandboxOptions(profile=Provider.SIGNALWIRE)) as sandbox:
        gateway = await start(gateways, config_of(sandbox, tmp_path, PROJECT, "signalwire"))
        media = next(message.media[0] for message in sandbox.messages if message.media)
        assert (await gateway.get(gateway.link(media.ref))).status == 200
        for prefix in (LAML, PLAIN):
            assert (await get(gateway, path(media, ".json", prefix=prefix), FAMILY)).status == 200
            assert (await get(gateway, path(media, ".json", prefix=prefix), ALONE)).status == 404
        assert (await post(gateway, "/links", FAMILY, {"media": [identifiers(media.ref)]})).status == 201
        # An account of the other provider has no parent.
        twilio = of_account(MediaRef.parse(PARENT, "MM" + "0" * 32, "ME" + "0" * 32), INVENTED)
        sandbox.clear_requests()
        assert (await gateway.get(gateway.link(twilio))).status == 404
        assert sandbox.requests == ()


# --- what the provider refuses --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refused_subaccount_is_404_without_an_alarm(
    gateways: Gateways, sandbox: Sandbox, photo: Media, tmp_path: Path, status: int
) -> None:
    async with logged() as logs:
        gateway = await start(gateways, config_of(sandbox, tmp_path))
        for point in (Point.CONTENT, Point.PROPERTIES, Point.LIST, Point.DELETE):
            sandbox.fault(Status(status), point=point)
        link = gateway.link(photo.ref)
        reply = await gateway.get(link)
        assert (reply.status, reply.json["type"]) == (404, "urn:media-gateway:problem:media-not-found")
        for target in (path(photo, ".json"), list_path(photo.ref)):
            assert said(await get(gateway, target, FAMILY)) == not_found(target)
        assert said(await delete(gateway, path(photo, ".json"), FAMILY)) == not_found(path(photo, ".json"))
        scrape = await scraped(gateway)
    assert scrape.get("upstream_credentials_refused_total", provider="twilio") == 0
    assert scrape.total("upstream_calls_total", outcome="media-not-found") >= 4
    levels = {json.loads(line)["level"] for line in logs.program.getvalue().splitlines()}
    assert not levels & {"ERROR", "error", "WARNING", "warning", "CRITICAL", "critical"}


async def test_refused_subaccounts_leave_the_others_alone(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, film: Media
) -> None:
    sandbox.fault(Status(401), media_sid=str(photo.ref.media))
    assert (await gateway.get(gateway.link(photo.ref))).status == 404
    # More than the failures in a row that open the breaker.
    for number in range(12):
        ref = of_account(photo.ref, f"AC{number:032x}")
        assert (await gateway.get(gateway.link(ref))).status == 404
    assert (await gateway.get(gateway.link(film.ref))).status == 200


async def test_a_refusal_is_remembered_as_a_404_is(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    sandbox.fault(Status(403), point=Point.CONTENT)
    for _ in range(3):
        assert (await gateway.get(gateway.link(photo.ref))).status == 404
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_deletion_marks_nothing_as_gone(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, status: int
) -> None:
    sandbox.fault(Status(status), point=Point.DELETE)
    assert (await delete(gateway, path(photo), FAMILY)).status == 404
    sandbox.clear_faults()
    assert (await gateway.get(gateway.link(photo.ref))).status == 200


async def test_the_parents_own_refusal_stays_an_alarm(
    gateways: Gateways, sandbox: Sandbox, photo: Media, tmp_path: Path
) -> None:
    config = config_of(sandbox, tmp_path)
    config.write_text(config.read_text().replace(sandbox.api_key[1], "wrong"))
    gateway = await start(gateways, config)
    assert (await gateway.get(gateway.link(photo.ref))).status == 404
    assert (await scraped(gateway)).get("upstream_credentials_refused_total", provider="twilio") == 0
    assert (await gateway.get(gateway.link(of_account(photo.ref, PARENT)))).status == 502
    assert (await scraped(gateway)).get("upstream_credentials_refused_total", provider="twilio") == 1


# --- the commands --------------------------------------------------------------------------------------------


def _environ(**more: str) -> dict[str, str]:
    return {"GATEWAY_SIGNING_KEYS": KEY, "GATEWAY_LISTEN": "127.0.0.1:8080", **more}


async def test_check_says_what_subaccounts_are_served(sandbox: Sandbox, tmp_path: Path) -> None:
    config = config_of(sandbox, tmp_path, sandbox.account_sid)
    with config.open("a") as file:
        file.write(client_table(("idle", "i" * 40), "mint", f"{LISTED}/*"))
    result = await asyncio.to_thread(run, "check", "--config", str(config), environ=_environ())
    lines = result.stdout.splitlines()
    assert (
        lines[1] == f"WARN client idle: {LISTED}/* is {LISTED} alone, since no account {LISTED} says subaccounts = true"
    )
    assert lines[2] == (
        f"ok   {sandbox.account_sid}: {sandbox.api_url} takes its credentials; "
        "they serve as well every account of twilio that is not configured (subaccounts)"
    )
    assert "does not know the account" in lines[3]


def test_link_and_explain_know_subaccounts(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[[accounts]]\nprovider = "twilio"\naccount_sid = "{PARENT}"\npassword = "{"w" * 32}"\nsubaccounts = true\n'
        f'[[accounts]]\nprovider = "twilio"\naccount_sid = "{LISTED}"\npassword = "{"w" * 32}"\n'
    )
    told = {
        INVENTED: f"By these settings {INVENTED} is asked for as a subaccount, with the credentials of {PARENT}.",
        LISTED: f"By these settings {LISTED} is configured.",
        PROJECT: f"By these settings {PROJECT} is not configured.",
    }
    for account, sentence in told.items():
        message, media = ("MM" + "0" * 32, "ME" + "0" * 32) if account != PROJECT else (PROJECT, PROJECT)
        named = f"{account}/{message}/{media}"
        if account != PROJECT:
            named = f"https://api.twilio.com/2010-04-01/Accounts/{account}/Messages/{message}/Media/{media}"
        minted = run("link", "--config", str(config), named, environ=_environ())
        assert minted.exit_code == 0, minted.stderr
        explained = run("explain", "--config", str(config), minted.stdout.strip(), environ=_environ())
        assert explained.exit_code == 0
        assert sentence in explained.stdout
