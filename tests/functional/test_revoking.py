"""`POST /revoke`: links to a media or a message answer 403 in every gateway of the folder, and none is minted."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest
from aiohttp import encode_basic_auth
from aiohttp.test_utils import TestClient, TestServer

from proxy.app import create_app, open_gateway
from proxy.cache.disk.invalidations import FolderInvalidations
from proxy.cache.invalidation.block_table import BlockTable
from proxy.cache.invalidation.policy import Blocks
from proxy.cache.redis.keys import CHECKPOINT
from proxy.erasure import BlockKind, Reach
from proxy.errors import StoreError
from proxy.links import LinkMinter
from proxy.model import MediaRef
from proxy.sandbox import Media, Sandbox
from proxy.sandbox.targets import media_path
from proxy.settings import load
from proxy.telemetry.metrics import Metrics
from tests.functional import media_api
from tests.functional.configuring import (
    OTHER,
    account_table,
    client_table,
    conversation,
    identifiers,
    message_of,
    write_config,
)
from tests.functional.harness import CLIENT, KEY, Gateways, Reply, RunningGateway, environment, logged
from tests.functional.test_errors import assert_problem

REVOKER, OWN, MINTER = ("revoker", "r" * 40), ("own", "o" * 40), ("minter", "m" * 40)
PROBLEM = "application/problem+json"
Document = Mapping[str, object]
OPENS, SHUT = "opens", "link-revoked"


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> Path:
    """Write three clients: for revoking everything, for revoking in their own account, for everything but revoking."""
    return write_config(
        tmp_path,
        account_table(sandbox.api_url),
        client_table(REVOKER, "revoke purge"),
        client_table(OWN, "revoke", sandbox.account_sid),
        client_table(MINTER, "mint read delete purge observe"),
    )


@pytest.fixture
async def gateway(gateways: Gateways, config: Path) -> RunningGateway:
    return await gateways.start(config=config)


async def revoke(
    gateway: RunningGateway, document: object, client: tuple[str, str] | None = REVOKER, **headers: str
) -> Reply:
    return await gateway.post("/revoke", document, client, **headers)


async def kind(gateway: RunningGateway, link: str) -> str:
    """Return the slug of the problem that a link answers, `opens` if it is whole and right."""
    reply = await gateway.get(link)
    if reply.status == 200:
        return "opens"
    assert reply.headers["Content-Type"] == PROBLEM
    assert reply.headers["Cache-Control"] == "no-store"
    found = str(reply.json["type"]).rpartition(":")[2]
    assert found != SHUT or reply.status == 403
    return found


async def kinds(gateway: RunningGateway, *media: Media) -> list[str]:
    return [await kind(gateway, gateway.link(one.ref)) for one in media]


# --- what is shut -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["identifiers", "url"])
async def test_a_revoked_media_s_links_are_403_until_lifted(
    gateway: RunningGateway, sandbox: Sandbox, form: str
) -> None:
    media = await conversation(sandbox)
    assert await kinds(gateway, *media) == [OPENS] * 3
    reference = {"url": sandbox.media_url(media[0])} if form == "url" else identifiers(media[0].ref)
    reply = await revoke(gateway, {"media": [reference]})
    assert (reply.status, reply.body, reply.headers["Cache-Control"]) == (204, b"", "no-store")
    assert await kinds(gateway, *media) == [SHUT, OPENS, OPENS]
    assert (await revoke(gateway, {"media": [reference], "lift": True})).status == 204
    assert await kinds(gateway, *media) == [OPENS] * 3


async def test_a_revoked_message_covers_all_media_of_any_scope(gateway: RunningGateway, sandbox: Sandbox) -> None:
    first, second, other = await conversation(sandbox)
    assert (await revoke(gateway, {"message": message_of(first.ref), "lift": False})).status == 204
    assert await kinds(gateway, first, second, other) == [SHUT, SHUT, OPENS]
    assert await kind(gateway, gateway.link(second.ref, scope="message")) == SHUT
    assert (await revoke(gateway, {"media": [identifiers(first.ref)], "lift": True})).status == 204
    assert await kinds(gateway, first, second, other) == [SHUT, SHUT, OPENS]
    assert (await revoke(gateway, {"message": message_of(first.ref), "lift": True})).status == 204
    assert await kinds(gateway, first, second, other) == [OPENS] * 3


async def test_form_signature_and_time_are_refused_before_revocation(gateway: RunningGateway, photo: Media) -> None:
    assert (await revoke(gateway, {"media": [identifiers(photo.ref)]})).status == 204
    past = LinkMinter(gateway.url, KEY, clock=lambda: time.time() - 10_000)
    good = gateway.link(photo.ref)
    assert await kind(gateway, good) == SHUT
    assert await kind(gateway, past.url(photo.ref)) == "link-expired"
    assert await kind(gateway, gateway.link(photo.ref, ip="192.0.2.1/32")) == "link-claim-unmet"
    assert await kind(gateway, good[:-43] + "A" * 43) == "link-signature-invalid"


async def test_a_revocation_is_told_before_account_and_erasure(
    gateways: Gateways, gateway: RunningGateway, photo: Media
) -> None:
    theirs = MediaRef.parse(OTHER, str(photo.ref.message), str(photo.ref.media))
    assert (await revoke(gateway, {"media": [identifiers(theirs), identifiers(photo.ref)]})).status == 204
    without_it = await gateways.start()
    assert await kind(without_it, without_it.link(theirs)) == SHUT
    async with open_gateway(gateway.settings, Metrics()) as parts:
        await parts.media.engine.mark_gone(photo.ref, 60)
    assert await kind(gateway, gateway.link(photo.ref)) == SHUT
    lifted = {"media": [identifiers(theirs), identifiers(photo.ref)], "lift": True}
    assert (await revoke(gateway, lifted)).status == 204
    assert await kind(without_it, without_it.link(theirs)) == "media-not-found"
    assert await kind(gateway, gateway.link(photo.ref)) == "media-not-found"


async def test_a_revoked_media_is_not_fetched_and_its_copy_dropped(
    gateway: RunningGateway, gateways: Gateways, sandbox: Sandbox, film: Media
) -> None:
    # The second one comes from what the first one left.
    assert await kinds(gateway, film, film) == [OPENS] * 2
    assert (await revoke(gateway, {"media": [identifiers(film.ref)]})).status == 204
    before = len(sandbox.requests)
    for _ in range(3):
        assert await kinds(gateway, film) == [SHUT]
    assert (await gateway.head(gateway.link(film.ref))).status == 403
    assert (await gateway.get(gateway.link(film.ref), Range="bytes=0-9")).status == 403
    assert len(sandbox.requests) == before
    assert [path for path in (gateways.folder / "bodies").rglob("*") if path.is_file()] == []


async def test_a_hot_link_is_refused_though_credentials_still_read(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref)
    for _ in range(5):
        assert await kind(gateway, link) == OPENS
    assert (await revoke(gateway, {"media": [identifiers(photo.ref)]})).status == 204
    ref = photo.ref
    path = f"/2010-04-01/Accounts/{ref.account}/Messages/{ref.message}/Media/{ref.media}"
    for _ in range(3):
        reply = await gateway.ask("GET", path, headers={"Authorization": encode_basic_auth(*MINTER)})
        assert (reply.status, reply.body) == (200, photo.read())
        assert await kind(gateway, link) == SHUT


async def test_a_revocation_holds_in_the_folder_s_other_gateway(
    gateways: Gateways, gateway: RunningGateway, photo: Media
) -> None:
    other = await gateways.start()
    for lift in (False, True, False):
        assert (await revoke(gateway, {"media": [identifiers(photo.ref)], "lift": lift})).status == 204
        assert await kinds(other, photo) == [OPENS if lift else SHUT]
    async with gateways.running() as late:
        assert await kinds(late, photo) == [SHUT]


# --- minting ----------------------------------------------------------------------------------------------------


async def minted(gateway: RunningGateway, document: object) -> list[tuple[str, str]] | int:
    """Return the errors of a 409, by field; the number of links of a 201."""
    reply = await gateway.mint(document, client=MINTER)
    if reply.status == 201:
        links = reply.json["links"]
        assert isinstance(links, list)
        return len(links)
    assert (reply.status, reply.headers["Content-Type"]) == (409, PROBLEM)
    assert reply.json["type"] == "urn:media-gateway:problem:revoked"
    assert "links" not in reply.json
    errors: list[dict[str, str]] = json.loads(reply.body)["errors"]
    return [(error["field"], error["message"]) for error in errors]


async def test_a_mint_with_revoked_media_is_refused_and_names_them(gateway: RunningGateway, sandbox: Sandbox) -> None:
    media = await conversation(sandbox)
    wanted = {"media": [identifiers(one.ref) for one in media]}
    assert (await revoke(gateway, {"media": [identifiers(media[1].ref), identifiers(media[2].ref)]})).status == 204
    assert await minted(gateway, wanted) == [
        ("media[1]", f"{media[1].ref} is revoked"),
        ("media[2]", f"{media[2].ref} is revoked"),
    ]
    assert await minted(gateway, {"media": [identifiers(media[0].ref)]}) == 1
    assert (await revoke(gateway, {"message": message_of(media[1].ref), "lift": True})).status == 204
    assert await minted(gateway, wanted) == [("media[2]", f"{media[2].ref} is revoked")]


async def test_a_revoked_message_s_mint_does_not_ask_its_list(gateway: RunningGateway, sandbox: Sandbox) -> None:
    first, _, _ = await conversation(sandbox)
    message = message_of(first.ref)
    assert await minted(gateway, {"message": message}) == 2
    assert (await revoke(gateway, {"message": message})).status == 204
    before = len(sandbox.requests)
    assert await minted(gateway, {"message": message}) == [("message", f"{first.ref.parent} is revoked")]
    assert await minted(gateway, {"media": [identifiers(first.ref)]}) == [("media[0]", f"{first.ref} is revoked")]
    assert len(sandbox.requests) == before


async def test_a_message_with_one_revoked_media_is_not_minted(gateway: RunningGateway, sandbox: Sandbox) -> None:
    _, second, _ = await conversation(sandbox)
    assert (await revoke(gateway, {"media": [identifiers(second.ref)]})).status == 204
    assert await minted(gateway, {"message": message_of(second.ref)}) == [("message", f"{second.ref} is revoked")]


async def test_a_webhook_s_revoked_media_is_named_by_its_field(gateway: RunningGateway, sandbox: Sandbox) -> None:
    first, second, _ = await conversation(sandbox)
    assert (await revoke(gateway, {"media": [identifiers(second.ref)]})).status == 204
    form = {"NumMedia": "2", "MediaUrl0": sandbox.media_url(first), "MediaUrl1": sandbox.media_url(second)}
    credentials = {"Authorization": encode_basic_auth(*MINTER)}
    reply = await gateway.ask("POST", "/links", data=form, headers=credentials)
    assert reply.status == 409
    assert reply.json["errors"] == [{"field": "MediaUrl1", "message": f"{second.ref} is revoked"}]


# --- how long ---------------------------------------------------------------------------------------------------


async def test_a_revocation_outlives_every_earlier_link_and_then_ends(
    gateways: Gateways, sandbox: Sandbox, config: Path, photo: Media
) -> None:
    # Before the time of any file, for a file that is being placed is not old.
    now = [1_620_000_000.0]
    environ = environment(sandbox, gateways.folder, GATEWAY_LINK_MAX_TTL="1000")
    settings = await asyncio.to_thread(load, environ, config)
    async with (
        open_gateway(settings, Metrics(), lambda: now[0]) as parts,
        TestClient(TestServer(create_app(parts))) as client,
    ):
        minter = LinkMinter("http://gateway", parts.links.minter.keys, parts.links.minter.policy, lambda: now[0])

        async def status(link: str) -> int:
            async with client.get(link.removeprefix("http://gateway")) as response:
                return response.status

        async def say(document: Document) -> None:
            credentials = {"Authorization": encode_basic_auth(*REVOKER)}
            async with client.post("/revoke", json=document, headers=credentials) as response:
                assert response.status == 204

        revocation_seconds = parts.erasing.revocation_seconds
        longest = minter.url(photo.ref, ttl=1_000)
        await say({"media": [identifiers(photo.ref)]})
        for _ in range(11):
            assert await status(longest) == 403
            now[0] += 100
        assert await status(longest) == 410
        assert await status(minter.url(photo.ref)) == 403
        # Another revocation begins that time again.
        await say({"media": [identifiers(photo.ref)]})
        began = now[0]
        now[0] = began + revocation_seconds - 1
        assert await status(minter.url(photo.ref)) == 403
        now[0] = began + revocation_seconds
        assert await status(minter.url(photo.ref)) == 200
        assert parts.erasing.deletions.gone_seconds > revocation_seconds + settings.limits.total_seconds
        # Nor does it end before the longest link that a clock within the leeway could have minted.
        policy = parts.links.minter.policy
        assert revocation_seconds > policy.longest_life == 1_000 + policy.window + 60


# --- what is refused --------------------------------------------------------------------------------------------


async def test_without_credentials_it_is_401(gateway: RunningGateway, photo: Media) -> None:
    for client in (None, ("revoker", "x" * 40)):
        reply = await revoke(gateway, {"media": [identifiers(photo.ref)]}, client)
        assert (reply.status, reply.headers["Content-Type"]) == (401, PROBLEM)
        assert "WWW-Authenticate" in reply.headers


async def test_without_scope_or_account_it_is_403_and_nothing_revoked(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    own, foreign = identifiers(photo.ref), {**identifiers(photo.ref), "account_sid": OTHER}
    theirs = sandbox.media_url(photo).replace(sandbox.account_sid, OTHER)
    refused: list[tuple[tuple[str, str], Document]] = [
        (MINTER, {"media": [own]}),
        (OWN, {"media": [own, foreign]}),
        (OWN, {"media": [own, {"url": theirs}]}),
        (OWN, {"message": message_of(photo.ref) | {"account_sid": OTHER}}),
    ]
    for client, document in refused:
        reply = await revoke(gateway, document, client)
        assert (reply.status, reply.headers["Content-Type"]) == (403, PROBLEM), document
    assert await kinds(gateway, photo) == [OPENS]
    assert (await revoke(gateway, {"media": [own]}, OWN)).status == 204
    for client, document in refused:
        assert (await revoke(gateway, {**document, "lift": True}, client)).status == 403
    assert await kinds(gateway, photo) == [SHUT]


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({}, ["media"]),
        ({"lift": True}, ["media"]),
        ({"all": True}, ["all", "media"]),
        ({"media": [], "lift": 1}, ["media", "lift"]),
        ({"message": {}, "lift": None}, ["message.account_sid", "message.message_sid", "lift"]),
        ({"media": [{"url": "https://evil.example/x"}], "lift": "true"}, ["media[0].url", "lift"]),
    ],
)
async def test_a_bad_request_is_400_and_names_its_fields(
    gateway: RunningGateway, document: Document, fields: list[str]
) -> None:
    reply = await revoke(gateway, document)
    assert (reply.status, reply.headers["Content-Type"]) == (400, PROBLEM)
    errors: list[dict[str, str]] = json.loads(reply.body)["errors"]
    assert [error["field"] for error in errors] == fields


async def test_what_is_no_json_is_415(gateway: RunningGateway, photo: Media) -> None:
    document = {"media": [identifiers(photo.ref)]}
    assert (await revoke(gateway, document, Content_Type="application/x-www-form-urlencoded")).status == 415


async def test_a_page_of_another_origin_may_not_revoke(gateway: RunningGateway, photo: Media) -> None:
    document = {"media": [identifiers(photo.ref)]}
    for origin in ("https://evil.example", "null"):
        assert (await revoke(gateway, document, Origin=origin)).status == 403
    assert await kinds(gateway, photo) == [OPENS]
    assert (await revoke(gateway, document, Origin=gateway.url)).status == 204


async def test_another_method_is_405(gateway: RunningGateway) -> None:
    reply = await gateway.get("/revoke")
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


async def test_below_a_mount_it_is_found_with_and_without_it(gateways: Gateways, config: Path, photo: Media) -> None:
    gateway = await gateways.start(config=config, GATEWAY_PUBLIC_URL="https://media.example.com/mms")
    where = f"http://{gateway.settings.listen}"
    for path, lift, expected in (("/mms/revoke", False, 403), ("/revoke", True, 200)):
        reply = await gateway.ask(
            "POST",
            where + path,
            json={"media": [identifiers(photo.ref)], "lift": lift},
            headers={"Authorization": encode_basic_auth(*REVOKER)},
        )
        assert reply.status == 204
        link = gateway.link(photo.ref).removeprefix("https://media.example.com")
        assert (await gateway.get(where + link)).status == expected


# --- a folder that fails ----------------------------------------------------------------------------------------


async def test_what_cannot_be_written_down_is_503_and_changes_nothing(
    gateway: RunningGateway, photo: Media, film: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await revoke(gateway, {"media": [identifiers(film.ref)]})).status == 204

    def fail(*_: object) -> NoReturn:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("proxy.cache.disk.invalidations_table.record", fail)
        for document in ({"media": [identifiers(photo.ref)]}, {"media": [identifiers(film.ref)], "lift": True}):
            reply = await revoke(gateway, document)
            assert (reply.status, reply.headers["Content-Type"]) == (503, PROBLEM)
            assert "Retry-After" in reply.headers
            assert b"disk" not in reply.body
    assert await kinds(gateway, photo, film) == [OPENS, SHUT]


async def test_one_revocation_too_many_is_503_and_changes_nothing(
    gateways: Gateways, config: Path, sandbox: Sandbox
) -> None:
    gateway = await gateways.start(config=config, GATEWAY_LIMIT_REVOCATIONS="2")
    one, two, three = await conversation(sandbox)
    reply = await revoke(gateway, {"media": [identifiers(media.ref) for media in (one, two, three)]})
    assert_problem(reply, 503, "revocations-full")
    assert b"2 revocations and deletions are remembered at once (GATEWAY_LIMIT_REVOCATIONS)" in reply.body
    assert reply.headers["Retry-After"] == "60"
    assert await kinds(gateway, one, two, three) == [OPENS, OPENS, OPENS]
    assert (await revoke(gateway, {"media": [identifiers(one.ref), identifiers(two.ref)]})).status == 204
    assert_problem(await revoke(gateway, {"media": [identifiers(three.ref)]}), 503, "revocations-full")
    assert await kinds(gateway, one, two, three) == [SHUT, SHUT, OPENS]
    # What holds is prolonged, and what is lifted makes room.
    assert (await revoke(gateway, {"media": [identifiers(one.ref), identifiers(two.ref)]})).status == 204
    assert (await revoke(gateway, {"media": [identifiers(one.ref)], "lift": True})).status == 204
    assert (await revoke(gateway, {"media": [identifiers(three.ref)]})).status == 204
    assert await kinds(gateway, one, two, three) == [OPENS, SHUT, SHUT]


async def test_one_deletion_too_many_is_503_before_asking_the_provider(
    gateways: Gateways, config: Path, sandbox: Sandbox
) -> None:
    gateway = await gateways.start(config=config, GATEWAY_LIMIT_REVOCATIONS="2")
    one, two, three = await conversation(sandbox)
    assert (await revoke(gateway, {"media": [identifiers(one.ref), identifiers(two.ref)]})).status == 204
    path = f"{media_path(three.ref)}.json"
    reply = await gateway.ask("DELETE", path, headers={"Authorization": encode_basic_auth(*MINTER)})
    assert (reply.status, reply.json["code"], reply.headers["Retry-After"]) == (503, 20503, "60")
    assert "GATEWAY_LIMIT_REVOCATIONS" in str(reply.json["message"])
    assert not any(record.method == "DELETE" for record in sandbox.requests)
    assert await kinds(gateway, three) == [OPENS]


async def test_if_revocations_cannot_be_read_links_are_403(
    gateways: Gateways, gateway: RunningGateway, photo: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await kinds(gateway, photo) == [OPENS]
    async with open_gateway(gateway.settings, Metrics()) as parts:
        await parts.media.engine.erase(Reach.of(None))

    async def fail(*_: object) -> Blocks:
        raise StoreError(note="locked by another")

    with monkeypatch.context() as patch:
        patch.setattr(FolderInvalidations, "blocks", fail)
        assert await kinds(gateway, photo) == [SHUT]
        reply = await gateway.mint({"media": [identifiers(photo.ref)]}, client=MINTER)
        assert (reply.status, reply.headers["Content-Type"]) == (503, PROBLEM)
        assert "Retry-After" in reply.headers
        assert b"locked" not in reply.body
    assert await kinds(gateway, photo) == [OPENS]


# --- the audit log ----------------------------------------------------------------------------------------------


def audited(text: str) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line["logger"] == "media_gateway.audit"]


async def test_every_revocation_purge_and_lift_is_one_audit_line(
    gateways: Gateways, config: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = await conversation(sandbox)
    message = {"message": message_of(first.ref)}

    def fail(*_: object) -> NoReturn:
        raise sqlite3.OperationalError("disk I/O error")

    async with logged(level="error") as logs:
        gateway = await gateways.start(config=config)
        both = {"media": [identifiers(first.ref), identifiers(second.ref)]}
        replies = [await revoke(gateway, both), await revoke(gateway, {**message, "lift": True})]
        credentials = {"Authorization": encode_basic_auth(*REVOKER)}
        replies += [
            await gateway.ask("POST", "/purge", json=document, headers=credentials)
            for document in (message, {"all": True})
        ]
        refused = await revoke(gateway, both, MINTER)
        with monkeypatch.context() as patch:
            patch.setattr("proxy.cache.disk.invalidations_table.record", fail)
            replies.append(await revoke(gateway, both))
    assert refused.status == 403
    ids = [reply.headers["X-Request-Id"] for reply in replies]
    told = [
        ("revoke", str(first.ref), "done", ids[0]),
        ("revoke", str(second.ref), "done", ids[0]),
        ("lift", str(first.ref.parent), "done", ids[1]),
        ("purge", str(first.ref.parent), "done", ids[2]),
        ("purge", "*", "done", ids[3]),
        ("revoke", str(first.ref), "store-error", ids[4]),
    ]
    names = ("event", "subject", "outcome", "request_id")
    lines = audited(logs.program.getvalue())
    assert [tuple(line[name] for name in names) for line in lines] == told
    assert {line["client_id"] for line in lines} == {"revoker"}
    assert all(set(line) == {"time", "level", "logger", "message", "client_id", *names} for line in lines)


# --- how often it is asked for ----------------------------------------------------------------------------------


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the keys whose blocks are looked up from now on, in turn."""
    looks: list[str] = []
    look = BlockTable.kinds

    def counted(table: BlockTable, key: str, now: float) -> BlockKind:
        looks.append(key)
        return look(table, key, now)

    monkeypatch.setattr(BlockTable, "kinds", counted)
    return looks


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("way", ["link", "resource"])
async def test_a_request_for_stored_media_looks_up_blocks_once(
    gateways: Gateways, photo: Media, monkeypatch: pytest.MonkeyPatch, method: str, way: str
) -> None:
    gateway = await gateways.start(GATEWAY_EXPRESS="0")
    assert (await gateway.get(gateway.link(photo.ref))).status == 200
    url = gateway.link(photo.ref) if way == "link" else media_api.path(photo)
    headers = {} if way == "link" else {"Authorization": encode_basic_auth(*CLIENT)}
    looks = count_looks(monkeypatch)
    reply = await gateway.ask(method, url, headers=headers)
    assert (reply.status, reply.headers["Cache-Status"].partition(";")[0]) == (200, "media-gateway")
    assert "hit" in reply.headers["Cache-Status"]
    assert looks == [str(photo.ref)]


async def test_without_a_shared_tier_the_folder_s_checkpoint_is_forgotten(sandbox: Sandbox, tmp_path: Path) -> None:
    settings = load(environment(sandbox, tmp_path / "cache"))
    for _ in range(2):
        async with open_gateway(settings, Metrics()):
            assert not (settings.cache_dir / CHECKPOINT).exists()
        (settings.cache_dir / CHECKPOINT).write_bytes(b"{}")
