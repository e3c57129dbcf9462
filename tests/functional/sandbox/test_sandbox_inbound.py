"""Messages that come in by order, to rehearse an application's webhook."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientResponse, ClientSession

from proxy.model import Provider
from proxy.sandbox import Direction, Mode, Sandbox, SandboxOptions
from tests.functional.sandbox.web_server import serving

Ask = Callable[..., Awaitable[ClientResponse]]
Order = Callable[[object], Awaitable[ClientResponse]]

MEGABYTE = 1024 * 1024


@pytest.fixture
def order(sandbox: Sandbox, session: ClientSession) -> Order:
    async def order(wanted: object) -> ClientResponse:
        response = await session.post(
            f"{sandbox.api_url}/_sandbox/messages",
            data=io.BytesIO(json.dumps(wanted).encode()),
            headers={"Content-Type": "application/json"},
        )
        await response.read()
        return response

    return order


def in_base64(kind: str, octets: bytes) -> dict[str, str]:
    return {"content_type": kind, "base64": base64.b64encode(octets).decode()}


@pytest.mark.parametrize("profile", list(Provider))
async def test_an_inbound_message_s_webhook_form_leads_to_its_media(
    options: SandboxOptions, session: ClientSession, profile: Provider
) -> None:
    options = dataclasses.replace(options, profile=profile, mode=Mode.DIRECT)
    async with Sandbox(options) as sandbox, serving() as web_server:
        url = web_server.put("/b.vcf", b"BEGIN:VCARD", Content_Type="text/vcard")
        media = [in_base64("image/png", b"abc"), {"url": url}]
        wanted = {"from": "+15555550190", "to": "+15555550100", "body": "Look!", "media": media}
        response = await session.post(f"{sandbox.api_url}/_sandbox/messages", json=wanted)
        answer = await response.json()
        message = sandbox.messages[-1]
        assert (response.status, message.direction) == (201, Direction.INBOUND)
        assert answer["message"]["sid"] == message.sid
        assert [one["sha256"] for one in answer["message"]["media"]] == [one.sha256 for one in message.media]
        form = answer["webhook"]
        assert form == sandbox.webhook_fields(message)
        assert form == {
            "MessageSid": message.sid,
            "SmsSid": message.sid,
            "SmsMessageSid": message.sid,
            "AccountSid": sandbox.account_sid,
            "From": "+15555550190",
            "To": "+15555550100",
            "Body": "Look!",
            "NumMedia": "2",
            "NumSegments": "1",
            "SmsStatus": "received",
            "ApiVersion": "2010-04-01",
            "MediaContentType0": "image/png",
            "MediaUrl0": sandbox.media_url(message.media[0]),
            "MediaContentType1": "text/vcard",
            "MediaUrl1": sandbox.media_url(message.media[1]),
        }
        for place, octets in enumerate((b"abc", b"BEGIN:VCARD")):
            headers = {"Authorization": sandbox.authorization}
            async with session.get(form[f"MediaUrl{place}"], headers=headers) as found:
                assert await found.read() == octets


async def test_everything_may_be_left_out(order: Order, sandbox: Sandbox) -> None:
    answer = await (await order({})).json()
    assert answer["webhook"]["NumMedia"] == "0"
    assert answer["webhook"]["From"] == sandbox.messages[0].from_


@pytest.mark.parametrize(
    "wanted",
    [
        {"sender": "x"},
        {"media": [{}]},
        {"media": [{"content_type": "image/png"}]},
        {"media": [{"base64": "YQ=="}]},
        {"media": [{"url": "http://a.example/", "base64": "YQ=="}]},
        {"media": [{"url": "http://a.example/", "content_type": "image/png"}]},
        {"media": [{"content_type": "image/png", "base64": "?"}]},
        {"media": [{"content_type": "picture", "base64": "YQ=="}]},
        {"media": [{"url": "ftp://a.example/"}]},
        {"media": [{"url": "http://127.0.0.1:1/"}]},
        {"media": [{"content_type": "image/png", "base64": "YQ=="}] * 11},
        {"body": "x" * 1601},
        [],
    ],
)
async def test_a_bad_order_is_400_and_nothing_comes_in(order: Order, sandbox: Sandbox, wanted: object) -> None:
    before = sandbox.messages
    response = await order(wanted)
    assert response.status == 400
    assert (await response.json())["error"]
    assert sandbox.messages == before


async def test_5_megabytes_come_in_and_not_one_octet_more(order: Order, sandbox: Sandbox) -> None:
    assert (await order({"media": [in_base64("image/png", bytes(5 * MEGABYTE))]})).status == 201
    refused = await order({"media": [in_base64("image/png", bytes(5 * MEGABYTE)), in_base64("image/png", b"x")]})
    assert (refused.status, (await refused.json())["code"]) == (400, 11751)
    assert sandbox.messages[-1].media[0].length == 5 * MEGABYTE


async def test_an_order_is_bounded(session: ClientSession, sandbox: Sandbox) -> None:
    class Endless:
        def __aiter__(self) -> Endless:
            self.left = 21
            return self

        async def __anext__(self) -> bytes:
            await asyncio.sleep(0)
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return b" " * MEGABYTE

    headers = {"Content-Type": "application/json"}
    response = await session.post(f"{sandbox.api_url}/_sandbox/messages", data=Endless(), headers=headers)
    assert response.status == 413
    await response.read()


async def test_a_form_of_another_origin_brings_nothing_in(session: ClientSession, sandbox: Sandbox) -> None:
    before = sandbox.messages
    response = await session.post(f"{sandbox.api_url}/_sandbox/messages", data="{}")
    assert response.status == 400
    await response.read()
    assert sandbox.messages == before
