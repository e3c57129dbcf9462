"""`POST /purge`: what is stored is gone, in every gateway of the folder at once; it is fetched again."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import NoReturn

import pytest
from yarl import URL

from proxy.sandbox import Media, Sandbox, StallBody
from tests.functional.configuring import (
    OTHER,
    account_table,
    client_table,
    conversation,
    identifiers,
    message_of,
    write_config,
)
from tests.functional.harness import Gateways, Reply, RunningGateway

MISS = "media-gateway; fwd=uri-miss; fwd-status=200; stored"
PURGER, OWN, MINTER = ("purger", "p" * 40), ("own", "o" * 40), ("minter", "m" * 40)


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> Path:
    """Write three clients: for purging everything, for purging their own account, for everything but purging."""
    return write_config(
        tmp_path,
        account_table(sandbox.api_url),
        client_table(PURGER, "purge"),
        client_table(OWN, "purge", sandbox.account_sid),
        client_table(MINTER, "mint read delete revoke observe"),
    )


@pytest.fixture
async def gateway(gateways: Gateways, config: Path) -> RunningGateway:
    return await gateways.start(config=config)


async def purge(
    gateway: RunningGateway, document: object, client: tuple[str, str] | None = PURGER, **headers: str
) -> Reply:
    return await gateway.post("/purge", document, client, **headers)


async def status(gateway: RunningGateway, media: Media) -> str:
    """Return `Cache-Status` of a whole, right answer."""
    reply = await gateway.get(gateway.link(media.ref))
    assert (reply.status, reply.body) == (200, media.read())
    return reply.headers["Cache-Status"]


async def is_hit(gateway: RunningGateway, media: Media) -> bool:
    said = await status(gateway, media)
    assert said.startswith("media-gateway; hit; ttl=") or said == MISS
    return said != MISS


# --- what is gone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["identifiers", "url"])
async def test_only_a_purged_media_is_fetched_again(gateway: RunningGateway, sandbox: Sandbox, form: str) -> None:
    media = await conversation(sandbox)
    for one in media:
        assert not await is_hit(gateway, one)
    reference = {"url": sandbox.media_url(media[0])} if form == "url" else identifiers(media[0].ref)
    reply = await purge(gateway, {"media": [reference]})
    assert (reply.status, reply.body, reply.headers["Cache-Control"]) == (204, b"", "no-store")
    assert [await is_hit(gateway, one) for one in media] == [False, True, True]
    assert [await is_hit(gateway, one) for one in media] == [True, True, True]


async def test_only_a_purged_message_is_fetched_again(gateway: RunningGateway, sandbox: Sandbox) -> None:
    media = await conversation(sandbox)
    for one in media:
        assert not await is_hit(gateway, one)
    assert (await purge(gateway, {"message": message_of(media[0].ref)})).status == 204
    assert [await is_hit(gateway, one) for one in media] == [False, False, True]


async def test_all_is_everything(gateway: RunningGateway, sandbox: Sandbox, film: Media) -> None:
    media = [*await conversation(sandbox), film]
    for one in media:
        assert not await is_hit(gateway, one)
    assert (await purge(gateway, {"all": True})).status == 204
    assert [await is_hit(gateway, one) for one in media] == [False] * 4


async def test_what_is_not_stored_is_purged_without_asking_the_upstream(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    assert (await purge(gateway, {"media": [identifiers(photo.ref)]})).status == 204
    assert (await purge(gateway, {"message": message_of(photo.ref)})).status == 204
    assert not sandbox.requests


async def test_the_bodies_are_gone_from_the_disk(gateway: RunningGateway, gateways: Gateways, film: Media) -> None:
    def bodies() -> list[Path]:
        return [path for path in (gateways.folder / "bodies").rglob("*") if path.is_file()]

    assert [await is_hit(gateway, film), await is_hit(gateway, film)] == [False, True]
    assert len(bodies()) == 1
    assert (await purge(gateway, {"media": [identifiers(film.ref)]})).status == 204
    assert bodies() == []


async def test_another_gateway_of_the_folder_serves_it_no_more(
    gateways: Gateways, gateway: RunningGateway, sandbox: Sandbox, film: Media
) -> None:
    other = await gateways.start()
    small, *_ = await conversation(sandbox)
    for one in (small, film):
        # The first hit brings the small one's bytes, and the metadata of both, into the other's RAM.
        while not await is_hit(other, one):
            pass
        assert await is_hit(other, one)
    assert (await purge(gateway, {"media": [identifiers(small.ref), identifiers(film.ref)]})).status == 204
    assert [await is_hit(other, one) for one in (small, film)] == [False, False]


@pytest.mark.parametrize("by", ["the same gateway", "another one"])
async def test_a_fetch_under_way_is_answered_and_not_stored(
    gateways: Gateways, gateway: RunningGateway, config: Path, sandbox: Sandbox, film: Media, by: str
) -> None:
    purging = gateway if by == "the same gateway" else await gateways.start(config=config)
    sandbox.fault(StallBody(1_500_000), times=1)
    async with gateway.session.get(URL(gateway.link(film.ref), encoded=True)) as response:
        got = await response.content.readexactly(1_000)
        assert (await purge(purging, {"message": message_of(film.ref)})).status == 204
        sandbox.clear_faults()
        got += await response.read()
    assert got == film.read()
    assert not await is_hit(gateway, film)


# --- what is refused ------------------------------------------------------------------------------------------


async def test_without_credentials_it_is_401(gateway: RunningGateway, photo: Media) -> None:
    for client in (None, ("purger", "x" * 40)):
        reply = await purge(gateway, {"media": [identifiers(photo.ref)]}, client)
        assert (reply.status, reply.headers["Content-Type"]) == (401, "application/problem+json")
        assert "WWW-Authenticate" in reply.headers


async def test_without_scope_or_account_it_is_403_and_nothing_purged(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    assert not await is_hit(gateway, photo)
    foreign = {**identifiers(photo.ref), "account_sid": OTHER}
    own = identifiers(photo.ref)
    theirs = sandbox.media_url(photo).replace(sandbox.account_sid, OTHER)
    for client, document in (
        (MINTER, {"media": [own]}),
        (MINTER, {"all": True}),
        (OWN, {"all": True}),
        (OWN, {"media": [own, foreign]}),
        (OWN, {"media": [own, {"url": theirs}]}),
        (OWN, {"message": message_of(photo.ref) | {"account_sid": OTHER}}),
    ):
        reply = await purge(gateway, document, client)
        assert (reply.status, reply.headers["Content-Type"]) == (403, "application/problem+json"), document
    assert await is_hit(gateway, photo)
    assert (await purge(gateway, {"media": [own]}, OWN)).status == 204
    assert not await is_hit(gateway, photo)


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({}, ["media"]),
        ({"all": False}, ["all"]),
        ({"all": 1}, ["all"]),
        ({"all": None}, ["all"]),
        ({"all": True, "message": {}}, ["all"]),
        ({"everything": True}, ["everything", "media"]),
        ({"media": [], "message": {}}, ["media", "media", "message.account_sid", "message.message_sid"]),
        ({"media": "ME"}, ["media"]),
        ({"media": [{"url": "https://evil.example/x"}]}, ["media[0].url"]),
        ({"media": [{"account_sid": "ACx", "message_sid": 1, "media_sid": "MEx"}]}, ["media[0].message_sid"]),
        (
            {"message": {"account_sid": "AC" + "0c" * 16, "message_sid": "MMx"}},
            ["message.account_sid", "message.message_sid"],
        ),
    ],
)
async def test_a_bad_request_is_400_and_names_its_fields(
    gateway: RunningGateway, document: dict[str, object], fields: list[str]
) -> None:
    reply = await purge(gateway, document)
    assert (reply.status, reply.headers["Content-Type"]) == (400, "application/problem+json")
    errors: list[dict[str, str]] = json.loads(reply.body)["errors"]
    assert [error["field"] for error in errors] == fields


async def test_a_bad_request_purges_nothing(gateway: RunningGateway, photo: Media) -> None:
    assert not await is_hit(gateway, photo)
    reply = await purge(gateway, {"media": [identifiers(photo.ref), {"url": "https://evil.example/x"}]})
    assert reply.status == 400
    assert await is_hit(gateway, photo)


async def test_what_is_no_json_is_415(gateway: RunningGateway, photo: Media) -> None:
    document = {"media": [identifiers(photo.ref)]}
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/octet-stream"):
        assert (await purge(gateway, document, Content_Type=kind)).status == 415


async def test_a_page_of_another_origin_may_not_purge(gateway: RunningGateway, photo: Media) -> None:
    document = {"media": [identifiers(photo.ref)]}
    for origin in ("https://evil.example", "null", gateway.url.replace("http:", "https:")):
        assert (await purge(gateway, document, Origin=origin)).status == 403
    assert (await purge(gateway, document, Origin=gateway.url)).status == 204


async def test_another_method_is_405(gateway: RunningGateway) -> None:
    reply = await gateway.get("/purge")
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


async def test_an_erasure_that_cannot_be_written_is_503(
    gateway: RunningGateway, photo: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not await is_hit(gateway, photo)

    def fail(*_: object) -> NoReturn:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("proxy.cache.disk.invalidations_table.record", fail)
        for document in ({"all": True}, {"media": [identifiers(photo.ref)]}):
            reply = await purge(gateway, document)
            assert (reply.status, reply.headers["Content-Type"]) == (503, "application/problem+json")
            assert b"disk" not in reply.body
    assert await is_hit(gateway, photo)
    assert (await purge(gateway, {"all": True})).status == 204
    assert not await is_hit(gateway, photo)
