"""Creating messages as an application does: forms, uploads, limits, and the provider's errors."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from collections.abc import Awaitable, Callable
from xml.etree import ElementTree as ET

import pytest
from aiohttp import ClientResponse, ClientSession, FormData

from proxy.model import Provider
from proxy.sandbox import Direction, Point, Sandbox, SandboxOptions, StallHeaders, Status

Ask = Callable[..., Awaitable[ClientResponse]]
Post = Callable[..., Awaitable[ClientResponse]]

TO = ("To", "+15555550142")
FROM = ("From", "+15555550100")
MEGABYTE = 1024 * 1024
FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'


@pytest.fixture
def post(sandbox: Sandbox, session: ClientSession) -> Post:
    """Post a form to the messages of the account."""

    async def post(
        form: object, suffix: str = ".json", *, prefix: str = "", headers: dict[str, str] | None = None
    ) -> ClientResponse:
        url = f"{sandbox.api_url}{prefix}/2010-04-01/Accounts/{sandbox.account_sid}/Messages{suffix}"
        fields = {"Authorization": sandbox.authorization, **(headers or {})}
        response = await session.post(url, data=form, headers=fields)
        await response.read()
        return response

    return post


def upload(*files: tuple[str, bytes]) -> FormData:
    form = FormData([TO, FROM], default_to_multipart=True)
    for place, (kind, octets) in enumerate(files):
        form.add_field("Media", io.BytesIO(octets), filename=f"file-{place}", content_type=kind)
    return form


async def error_of(response: ClientResponse) -> tuple[int, int]:
    document = json.loads(await response.read())
    assert set(document) == {"code", "message", "more_info", "status"}
    assert document["status"] == response.status
    assert document["more_info"].endswith(f"/{document['code']}")
    return response.status, document["code"]


async def test_a_message_is_201_queued_and_then_found_delivered(sandbox: Sandbox, post: Post, api: Ask) -> None:
    response = await post([TO, FROM, ("Body", "Hello, Zoë")])
    assert (response.status, response.content_type) == (201, "application/json")
    created = await response.json()
    (message,) = [message for message in sandbox.messages if message.sid == created["sid"]]
    assert (message.from_, message.to, message.body, message.direction) == (
        FROM[1], TO[1], "Hello, Zoë", Direction.OUTBOUND_API,
    )  # fmt: skip
    assert (created["status"], created["direction"], created["num_media"], created["date_sent"]) == (
        "queued", "outbound-api", "0", None,
    )  # fmt: skip
    assert (created["from"], created["to"], created["body"]) == (FROM[1], TO[1], "Hello, Zoë")
    assert created["messaging_service_sid"] is None
    found = await (await api(f"/Messages/{created['sid']}.json")).json()
    assert found == {**created, "status": "delivered", "date_sent": created["date_created"]}


async def test_a_created_message_has_every_property_of_a_listed_one(post: Post, api: Ask) -> None:
    created = await (await post([TO, FROM, ("Body", "x")])).json()
    listed = await (await api("/Messages.json?PageSize=1")).json()
    assert listed["messages"][0]["sid"] == created["sid"]
    assert set(listed["messages"][0]) == set(created)
    assert created["subresource_uris"] == {"media": created["uri"].replace(".json", "/Media.json")}


@pytest.mark.parametrize("suffix", ["", ".xml"])
async def test_without_a_json_suffix_the_answer_is_xml(post: Post, sandbox: Sandbox, suffix: str) -> None:
    response = await post([TO, FROM, ("Body", "a < b")], suffix)
    assert (response.status, response.content_type) == (201, "application/xml")
    message = ET.fromstring(await response.text()).find("Message")
    assert message is not None
    assert (message.findtext("Sid"), message.findtext("Body")) == (sandbox.messages[-1].sid, "a < b")
    refused = await post([FROM, ("Body", "x")], suffix)
    exception = ET.fromstring(await refused.text()).find("RestException")
    assert exception is not None
    assert {child.tag: child.text for child in exception}["Code"] == "21604"


async def test_a_messaging_service_stands_for_the_sender(post: Post) -> None:
    service = f"MG{'a' * 32}"
    created = await (await post([TO, ("MessagingServiceSid", service), ("Body", "x")])).json()
    assert (created["messaging_service_sid"], created["from"]) == (service, None)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ([], 21604),
        ([FROM, ("Body", "x")], 21604),
        ([("To", " "), FROM, ("Body", "x")], 21604),
        ([TO, ("Body", "x")], 21603),
        ([TO, FROM], 21619),
        ([TO, FROM, ("Body", "")], 21619),
        ([TO, FROM, ("Body", "x" * 1601)], 21617),
        ([TO, FROM, *[("MediaUrl", "http://127.0.0.1:1/x")] * 11], 21623),
        ([TO, FROM, ("MediaUrl", "ftp://files.example/x")], 21620),
        ([TO, FROM, ("MediaUrl", "/picture.png")], 21620),
        ([TO, FROM, ("MediaUrl", "http://[")], 21620),
        ([TO, FROM, ("MediaUrl", "http://files.example/" + "x" * 4000)], 21620),
        ([TO, FROM, ("MediaUrl", "http://127.0.0.1:1/x")], 11200),
        ([(f"Field{number}", "x") for number in range(101)], 20001),
    ],
)
async def test_a_refused_creation_is_400_with_its_code_and_unkept(
    post: Post, sandbox: Sandbox, form: list[tuple[str, str]], code: int
) -> None:
    before = sandbox.messages
    assert await error_of(await post(form)) == (400, code)
    assert sandbox.messages == before


async def test_a_text_of_1600_characters_is_taken(post: Post) -> None:
    assert (await post([TO, FROM, ("Body", "ë" * 1600)])).status == 201


async def test_a_body_that_is_no_form_has_no_fields(post: Post) -> None:
    assert await error_of(await post(b'{"To": "x"}', headers={"Content-Type": "application/json"})) == (400, 21604)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--"),
        ("multipart/form-data; boundary=x", FIELD * 101 + b"--x--\r\n"),
    ],
)  # fmt: skip
async def test_a_broken_form_is_400(post: Post, sandbox: Sandbox, kind: str, body: bytes) -> None:
    before = sandbox.messages
    assert await error_of(await post(body, headers={"Content-Type": kind})) == (400, 20001)
    assert sandbox.messages == before


async def test_uploaded_files_become_media_in_their_order(post: Post, sandbox: Sandbox, fetch: Ask, api: Ask) -> None:
    response = await post(upload(("image/png", b"one"), ("audio/ogg; codecs=opus", b"two")))
    created = await response.json()
    assert (response.status, created["num_media"], created["body"]) == (201, "2", "")
    media = sandbox.messages[-1].media
    assert [(one.content_type, one.name, one.read()) for one in media] == [
        ("image/png", "file-0", b"one"),
        ("audio/ogg; codecs=opus", "file-1", b"two"),
    ]
    answer = await fetch(media[1])
    assert (answer.headers["Content-Type"], await answer.read()) == ("audio/ogg; codecs=opus", b"two")
    listed = await (await api(created["subresource_uris"]["media"].partition(sandbox.account_sid)[2])).json()
    assert [one["sid"] for one in listed["media_list"]] == [one.sid for one in media]


async def test_an_uploaded_file_without_a_type_is_octets(post: Post, sandbox: Sandbox) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="To"\r\n\r\n+1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="From"\r\n\r\n+2\r\n'
        b'--x\r\nContent-Disposition: form-data; name="Media"\r\n\r\nabc\r\n--x--\r\n'
    )
    assert (await post(body, headers={"Content-Type": "multipart/form-data; boundary=x"})).status == 201
    (media,) = sandbox.messages[-1].media
    assert (media.content_type, media.name, media.read()) == ("application/octet-stream", "media", b"abc")


async def test_an_upload_of_no_type_at_all_is_400(post: Post) -> None:
    assert await error_of(await post(upload(("nonsense", b"x")))) == (400, 12300)


async def test_at_most_ten_files_and_5_megabytes_are_taken(post: Post, sandbox: Sandbox) -> None:
    tenth = bytes(MEGABYTE // 2)
    assert (await post(upload(*[("image/png", tenth)] * 10))).status == 201
    before = sandbox.messages
    assert [media.length for media in before[-1].media] == [MEGABYTE // 2] * 10
    assert await error_of(await post(upload(*[("image/png", b"x")] * 11))) == (400, 21623)
    assert await error_of(await post(upload(*[("image/png", tenth)] * 9, ("image/png", tenth + b"!")))) == (400, 11751)
    assert await error_of(await post(upload(("image/png", bytes(40 * MEGABYTE))))) == (400, 11751)
    assert sandbox.messages == before


async def test_an_eleventh_file_is_not_read(post: Post) -> None:
    form = FormData(default_to_multipart=True)
    for _ in range(11):
        form.add_field("Media", b"", filename="file", content_type="image/png")
    assert await error_of(await post(form)) == (400, 21623)


async def test_a_form_is_bounded(post: Post) -> None:
    form = io.BytesIO(b"To=1&From=2&Body=" + b"x" * MEGABYTE)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert await error_of(await post(form, headers=headers)) == (400, 20001)


async def test_a_form_that_does_not_come_in_is_400(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.sandbox.creation._FORM_SECONDS", 0.05)
    monkeypatch.setattr("proxy.sandbox.state._DISCARD_SECONDS", 0.05)
    before = sandbox.messages
    host, _, port = sandbox.api_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /2010-04-01/Accounts/{sandbox.account_sid}/Messages.json HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: {sandbox.authorization}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        "Content-Length: 100\r\n\r\nTo=1&From=2&Body=a".encode()
    )
    # The connection is of no more use, and ends.
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code": 20001' in answer
    assert sandbox.messages == before


@pytest.mark.parametrize(("path", "status"), [("/2010-04-01/Messages.json", b"401"), ("/_sandbox/messages", b"413")])
async def test_a_client_that_sends_all_first_sees_its_refusal(sandbox: Sandbox, path: str, status: bytes) -> None:
    host, _, port = sandbox.api_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    size = 40 * MEGABYTE
    fields = f"Host: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\nConnection: close"
    writer.write(f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode())
    for _ in range(40):
        writer.write(bytes(MEGABYTE))
        await writer.drain()
    assert (await reader.read()).startswith(b"HTTP/1.1 " + status)
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_goes_away_within_its_form_creates_nothing(sandbox: Sandbox, api: Ask) -> None:
    before = sandbox.messages
    host, _, port = sandbox.api_url.removeprefix("http://").partition(":")
    for kind, begun in (
        ("application/x-www-form-urlencoded", "To=1&From=2&Body=a"),
        ("multipart/form-data; boundary=x", '--x\r\nContent-Disposition: form-data; name="Media"\r\n\r\nabc'),
    ):
        rule = sandbox.fault(StallHeaders(), point=Point.CREATE, times=1)
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /2010-04-01/Accounts/{sandbox.account_sid}/Messages.json HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Authorization: {sandbox.authorization}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: 1000\r\n\r\n{begun}".encode()
        )
        await rule.reached()
        writer.close()
        await writer.wait_closed()
        rule.release()
    assert (await api("/Messages.json")).status == 200
    assert sandbox.messages == before


async def test_a_field_of_an_upload_is_bounded(post: Post) -> None:
    form = upload(("image/png", b"x"))
    form.add_field("Body", io.BytesIO(bytes(MEGABYTE + 1)), filename="long")
    assert await error_of(await post(form)) == (400, 20001)


@pytest.mark.parametrize("authorization", ["", "Basic QTpC"])
async def test_creation_needs_the_credentials_and_reads_no_form_without_them(
    post: Post, sandbox: Sandbox, authorization: str
) -> None:
    before = sandbox.messages
    refused = await post([TO, FROM, ("Body", "x")], headers={"Authorization": authorization})
    assert (refused.status, len(await refused.read())) == (401, 171)
    assert sandbox.messages == before


async def test_creation_in_another_account_is_404(sandbox: Sandbox, session: ClientSession) -> None:
    url = f"{sandbox.api_url}/2010-04-01/Accounts/AC{'0' * 32}/Messages.json"
    headers = {"Authorization": sandbox.authorization}
    async with session.post(url, data=[TO, FROM, ("Body", "x")], headers=headers) as response:
        assert await error_of(response) == (404, 20404)


async def test_a_fault_at_the_creation_keeps_nothing(post: Post, sandbox: Sandbox, api: Ask) -> None:
    before = sandbox.messages
    sandbox.fault(Status(429, "1"), point=Point.CREATE, times=1)
    refused = await post([TO, FROM, ("Body", "x")])
    assert (refused.status, refused.headers["Retry-After"], sandbox.messages) == (429, "1", before)
    sandbox.fault(Status(500), point=Point.CREATE)
    assert (await api("/Messages.json")).status == 200


async def test_creations_at_once_each_get_their_own_identifiers(post: Post, sandbox: Sandbox) -> None:
    before = len(sandbox.messages)
    answers = await asyncio.gather(*(post(upload(("text/plain", b"%d" % number))) for number in range(20)))
    assert {answer.status for answer in answers} == {201}
    created = sandbox.messages[before:]
    assert len({message.sid for message in created} | {message.media[0].sid for message in created}) == 40
    assert {message.media[0].read() for message in created} == {b"%d" % number for number in range(20)}


class TestDeletingAMessage:
    @pytest.mark.parametrize("suffix", ["", ".json", ".xml"])
    async def test_it_is_204_and_its_media_are_gone_too(
        self, sandbox: Sandbox, api: Ask, ask: Ask, suffix: str
    ) -> None:
        message = sandbox.messages[0]
        location = (await api(sandbox.media_url(message.media[0]))).headers["Location"]
        deleted = await api(f"/Messages/{message.sid}{suffix}", "DELETE")
        assert (deleted.status, await deleted.read()) == (204, b"")
        assert message not in sandbox.messages
        assert (await api(f"/Messages/{message.sid}{suffix}", "DELETE")).status == 404
        assert (await api(f"/Messages/{message.sid}.json")).status == 404
        assert (await api(sandbox.media_url(message.media[0]))).status == 404
        assert (await ask("GET", location)).status == 404

    async def test_its_fault_is_that_of_a_deletion(self, sandbox: Sandbox, api: Ask) -> None:
        message = sandbox.messages[0]
        sandbox.fault(Status(503), point=Point.DELETE, times=1)
        assert (await api(f"/Messages/{message.sid}.json", "DELETE")).status == 503
        assert message in sandbox.messages


class TestSignalWire:
    @pytest.fixture
    def options(self, options: SandboxOptions) -> SandboxOptions:
        return dataclasses.replace(options, profile=Provider.SIGNALWIRE)

    @pytest.mark.parametrize("prefix", ["", "/api/laml"])
    @pytest.mark.parametrize("suffix", ["", ".json"])
    async def test_both_prefixes_and_no_suffix_answer_in_json(
        self, post: Post, sandbox: Sandbox, prefix: str, suffix: str
    ) -> None:
        response = await post([TO, FROM, ("Body", "x")], suffix, prefix=prefix)
        assert (response.status, response.content_type) == (201, "application/json")
        created = await response.json()
        assert created["sid"] == sandbox.messages[-1].sid
        assert await error_of(await post([FROM], suffix, prefix=prefix)) == (422, 21604)

    async def test_its_properties(self, post: Post, sandbox: Sandbox) -> None:
        created = await (await post([TO, FROM, ("Body", "x")])).json()
        path = f"/api/laml/2010-04-01/Accounts/{sandbox.account_sid}/Messages/{created['sid']}"
        assert (created["num_media"], created["num_segments"], created["price_unit"]) == (0, 1, "USD")
        assert (created["uri"], created["subresource_uris"]) == (path, {"media": f"{path}/Media"})
        assert (created["status"], created["date_sent"]) == ("queued", None)
