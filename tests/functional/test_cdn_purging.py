"""Purges of the CDN in front: it drops what is deleted, purged or revoked through the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.sandbox import Media, Point, Sandbox, Status
from tests.functional.configuring import client_table, identifiers, write_config
from tests.functional.harness import Gateways, RunningGateway
from tests.functional.media_api import delete, path

OPERATOR = ("operator", "o" * 40)
SECRET = "the-purge-token"


class Cdn:
    """A CDN that keeps the bodies and keys of the calls it gets."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: asyncio.Queue[tuple[object, str | None, str | None]] = asyncio.Queue()

    async def handle(self, request: web.Request) -> web.Response:
        said = await request.json()
        await self.calls.put((said, request.headers.get("Surrogate-Key"), request.headers.get("X-Key")))
        return web.Response(status=204)


@pytest.fixture
async def cdn() -> AsyncIterator[Cdn]:
    cdn = Cdn()
    app = web.Application()
    app.router.add_post("/purge", cdn.handle)
    async with TestServer(app) as server:
        cdn.url = str(server.make_url("/purge"))
        yield cdn


@pytest.fixture
async def gateway(gateways: Gateways, cdn: Cdn, tmp_path: Path) -> RunningGateway:
    return await gateways.start(
        config=write_config(tmp_path, client_table(OPERATOR, "purge revoke")),
        GATEWAY_CDN="1",
        GATEWAY_CDN_PURGE_URL=cdn.url,
        GATEWAY_CDN_PURGE_HEADER=f"X-Key: {SECRET}",
    )


async def operate(gateway: RunningGateway, call: str, document: object) -> int:
    return (await gateway.post(call, document, OPERATOR)).status


async def test_a_deletion_purges_the_tag_that_the_answers_carried(
    gateway: RunningGateway, cdn: Cdn, photo: Media
) -> None:
    reply = await gateway.get(gateway.link(photo.ref))
    assert (await delete(gateway, path(photo, ".json"))).status == 204
    said, key, secret = await cdn.calls.get()
    assert said == {"tags": [f"media-{photo.ref.media}"]}
    assert key == f"media-{photo.ref.media}"
    assert key in reply.headers["Cache-Tag"].split(",")
    assert secret == SECRET


async def test_an_uncertain_deletion_is_told_but_not_a_refused_one(
    gateway: RunningGateway, cdn: Cdn, sandbox: Sandbox, photo: Media, film: Media
) -> None:
    for media, status in ((photo, 401), (film, 500), (photo, 404)):
        sandbox.fault(Status(status), point=Point.DELETE, media_sid=media.sid, times=1)
        assert (await delete(gateway, path(media, ".json"))).status == {401: 502, 500: 502, 404: 404}[status]
    told = [(await cdn.calls.get())[1] for _ in range(2)]
    assert told == [f"media-{film.ref.media}", f"media-{photo.ref.media}"]
    assert cdn.calls.empty()


@pytest.mark.parametrize("call", ["/purge", "/revoke"])
async def test_a_purge_and_a_revocation_are_told(
    gateway: RunningGateway, cdn: Cdn, photo: Media, film: Media, call: str
) -> None:
    assert await operate(gateway, call, {"media": [identifiers(photo.ref), identifiers(film.ref)]}) == 204
    tags = [f"media-{media.ref.media}" for media in (photo, film)]
    assert (await cdn.calls.get())[:2] == ({"tags": tags}, " ".join(tags))
    message = {name: sid for name, sid in identifiers(photo.ref).items() if name != "media_sid"}
    assert await operate(gateway, call, {"message": message}) == 204
    assert (await cdn.calls.get())[1] == f"message-{photo.ref.message}"
    assert cdn.calls.empty()


async def test_a_purge_of_everything_is_told_and_a_lift_not(gateway: RunningGateway, cdn: Cdn, photo: Media) -> None:
    assert await operate(gateway, "/revoke", {"media": [identifiers(photo.ref)], "lift": True}) == 204
    assert await operate(gateway, "/purge", {"all": True}) == 204
    assert (await cdn.calls.get())[:2] == ({"purge_everything": True}, None)
    assert cdn.calls.empty()
