"""The Media resource of a SignalWire project: both prefixes, its own lists, its errors with four fields."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from proxy.model import Provider
from proxy.sandbox import Media, Sandbox, SandboxOptions
from tests.functional.harness import Gateways, RunningGateway
from tests.functional.media_api import LAML, PLAIN, ask, delete, get, list_path, not_found, path, said, start_signalwire

prefixes = pytest.mark.parametrize("prefix", [LAML, PLAIN])


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(profile=Provider.SIGNALWIRE)) as started:
        yield started


@pytest.fixture
async def gateway(gateways: Gateways, sandbox: Sandbox) -> RunningGateway:
    return await start_signalwire(gateways, sandbox)


@prefixes
async def test_a_media_is_read_listed_and_deleted_under_both_prefixes(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, prefix: str
) -> None:
    whole = await get(gateway, path(photo, prefix=prefix))
    assert (whole.status, whole.body) == (200, photo.read())
    properties = await get(gateway, path(photo, ".json", prefix=prefix))
    assert properties.json["sid"] == str(photo.ref.media)
    xml = await get(gateway, path(photo, ".xml", prefix=prefix))
    assert (xml.status, xml.headers["Content-Type"]) == (200, "application/xml")
    listed = await get(gateway, list_path(photo.ref, prefix=prefix))
    assert "start" not in listed.json
    # Without a suffix this provider's lists are JSON, and its page URIs have none.
    plain = await get(gateway, list_path(photo.ref, "", prefix=prefix) + "?Page=0&PageSize=50")
    assert plain.json["media_list"] == listed.json["media_list"]
    assert [request.path for request in sandbox.requests[1:]] == [
        path(photo, ".json", prefix=prefix),
        path(photo, ".xml", prefix=prefix),
        list_path(photo.ref, prefix=prefix),
        list_path(photo.ref, "", prefix=prefix),
    ]
    assert (await delete(gateway, path(photo, ".json", prefix=prefix))).status == 204
    target = path(photo, ".json", prefix=prefix)
    assert said(await get(gateway, target)) == not_found(target)


@prefixes
async def test_errors_have_the_four_fields_alone(gateway: RunningGateway, photo: Media, prefix: str) -> None:
    reply = await get(gateway, path(photo, ".json", prefix=prefix), None)
    assert reply.status == 401
    assert reply.json == {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")
    other = await ask(gateway, "PUT", path(photo, ".json", prefix=prefix))
    assert said(other) == (405, 20004, "Method not allowed")


async def test_under_its_own_prefix_even_404s_have_its_shape(gateway: RunningGateway) -> None:
    reply = await get(gateway, f"{LAML}/nothing.json", None)
    assert "detail" not in json.loads(reply.body)
    assert said(await get(gateway, f"{LAML}/nothing.json")) == not_found(f"{LAML}/nothing.json")
