"""Octets and property sets as they are recorded or documented."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientResponse

from proxy.model import Provider
from proxy.sandbox import Media, Sandbox, SandboxOptions

Ask = Callable[..., Awaitable[ClientResponse]]

JSON_401 = (
    b'{"code": 20003, "detail": "Your AccountSid or AuthToken was incorrect.", "message": "Authenticate", '
    b'"more_info": "https://www.twilio.com/docs/errors/20003", "status": 401}'
)
XML_401 = (
    b"<?xml version='1.0' encoding='UTF-8'?>\n<TwilioResponse><RestException><Code>20003</Code>"
    b"<Detail>Your AccountSid or AuthToken was incorrect.</Detail><Message>Authenticate</Message>"
    b"<MoreInfo>https://www.twilio.com/docs/errors/20003</MoreInfo><Status>401</Status></RestException>"
    b"</TwilioResponse>"
)
MESSAGE = {
    "account_sid", "api_version", "body", "date_created", "date_sent", "date_updated", "direction", "error_code",
    "error_message", "from", "messaging_service_sid", "num_media", "num_segments", "price", "price_unit", "sid",
    "status", "subresource_uris", "to", "uri",
}  # fmt: skip
MEDIA = {"sid", "account_sid", "parent_sid", "content_type", "date_created", "date_updated", "uri"}


async def test_the_octets_of_a_401_are_the_recorded_ones(sandbox: Sandbox, ask: Ask, photo: Media) -> None:
    assert (len(JSON_401), len(XML_401)) == (171, 293)
    root = f"{sandbox.api_url}/2010-04-01/Accounts/{sandbox.account_sid}"
    for method in ("GET", "DELETE", "POST"):
        for url in (sandbox.media_url(photo), f"{root}/Messages", f"{root}/Messages/{photo.ref.message}/Media"):
            in_json, in_xml = await ask(method, f"{url}.json"), await ask(method, url)
            assert (in_json.status, await in_json.read()) == (401, JSON_401)
            assert (in_xml.status, await in_xml.read(), in_xml.content_type) == (401, XML_401, "application/xml")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PATCH"])
async def test_every_answer_names_its_request(api: Ask, sandbox: Sandbox, method: str) -> None:
    path = f"/Messages/{sandbox.messages[1].sid}.json"
    answers = [await api(path, method) for _ in range(2)]
    ids = {answer.headers["Twilio-Request-Id"] for answer in answers}
    assert all(re.fullmatch("RQ[0-9a-f]{32}", one) for one in ids)
    assert len(ids) == 2


@pytest.mark.parametrize("suffix", ["", ".json", ".xml"])
async def test_head_is_wherever_get_is(api: Ask, sandbox: Sandbox, photo: Media, suffix: str) -> None:
    message = f"/Messages/{photo.ref.message}"
    for path in ("/Messages", message, f"{message}/Media", f"{message}/Media/{photo.sid}"):
        get, head = await api(path + suffix), await api(path + suffix, "HEAD")
        assert (head.status, await head.read()) == (get.status, b"")
        # A redirect has no body, and HEAD need not say so (RFC 9110 §8.6).
        assert head.headers.get("Content-Length", "0") == get.headers["Content-Length"]
        assert head.headers.get("Content-Type") == get.headers.get("Content-Type")


async def test_the_properties_of_a_message_are_the_documented_ones(api: Ask, sandbox: Sandbox) -> None:
    for message in sandbox.messages[:2]:
        assert set(await (await api(f"/Messages/{message.sid}.json")).json()) == MESSAGE


async def test_connection_close_is_echoed_and_the_connection_closes(api: Ask, sandbox: Sandbox, photo: Media) -> None:
    for path, method in (("/Messages.json", "GET"), ("/Messages.json", "POST"), (sandbox.media_url(photo), "DELETE")):
        answer = await api(path, method, {"Connection": "close"})
        assert answer.headers["Connection"] == "close"


async def test_what_xml_cannot_say_is_replaced(api: Ask, sandbox: Sandbox) -> None:
    message = await sandbox.add_message(body="a\x00b\x1f\ufffe\tc\N{GRINNING FACE}")
    answer = await api(f"/Messages/{message.sid}.xml")
    assert "<Body>a\ufffdb\ufffd\ufffd\tc\N{GRINNING FACE}</Body>" in await answer.text()


class TestSignalWire:
    @pytest.fixture
    def options(self, options: SandboxOptions) -> SandboxOptions:
        return dataclasses.replace(options, profile=Provider.SIGNALWIRE)

    async def test_the_property_sets_are_the_documented_ones(self, api: Ask, sandbox: Sandbox, photo: Media) -> None:
        path = f"/Messages/{photo.ref.message}"
        message = await (await api(path)).json()
        assert set(message) == MESSAGE
        assert (message["num_media"], message["num_segments"]) == (2, 1)
        assert message["uri"].endswith(f"/Messages/{photo.ref.message}")
        media = await (await api(f"{path}/Media/{photo.sid}.json")).json()
        assert set(media) == MEDIA
        assert media["uri"].endswith(f"/Media/{photo.sid}.json")
        listed = await (await api(message["subresource_uris"]["media"].partition(sandbox.account_sid)[2])).json()
        assert listed["media_list"][0]["sid"] == photo.sid

    async def test_errors_without_a_suffix_are_json(self, ask: Ask, api: Ask, sandbox: Sandbox, photo: Media) -> None:
        for url in (sandbox.media_url(photo), sandbox.api_url + "/nothing"):
            answer = await ask("GET", url, {"Authorization": "Basic QTpC"})
            assert (answer.status, answer.content_type) == (401, "application/json")
        assert (
            await api(f"/Messages/{photo.ref.message}/Media/{photo.ref.message}.xml")
        ).content_type == "application/xml"

    @pytest.mark.parametrize("protected", [True, False])
    async def test_media_are_protected_or_public(self, options: SandboxOptions, ask: Ask, protected: bool) -> None:
        async with Sandbox(dataclasses.replace(options, protected=protected)) as sandbox:
            photo = sandbox.messages[0].media[0]
            assert (await ask("GET", sandbox.media_url(photo))).status == (401 if protected else 200)
            assert (await ask("GET", sandbox.media_url(photo) + ".json")).status == 401
