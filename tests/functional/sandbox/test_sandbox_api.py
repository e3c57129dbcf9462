"""The API's origin: authentication, resources, lists and errors, as a plain client sees them."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from aiohttp import ClientResponse, encode_basic_auth

from proxy.model import Provider
from proxy.sandbox import Media, Mode, Sandbox, SandboxOptions

Ask = Callable[..., Awaitable[ClientResponse]]

NINE = {
    "end", "first_page_uri", "media_list", "next_page_uri", "page", "page_size", "previous_page_uri", "start", "uri",
}  # fmt: skip
SEVEN = {"sid", "account_sid", "parent_sid", "content_type", "date_created", "date_updated", "uri"}


async def test_only_the_api_s_record_shows_credentials(sandbox: Sandbox, fetch: Ask, photo: Media) -> None:
    answer = await fetch(photo)
    assert await answer.read() == photo.read()
    first, second = sandbox.requests
    assert (first.origin, first.status, first.fields.get("authorization")) == ("api", 307, sandbox.authorization)
    assert (second.origin, second.status, second.fields.get("authorization")) == ("cdn", 200, None)
    assert (first.method, first.path, first.query) == ("GET", sandbox.media_url(photo)[len(sandbox.api_url) :], "")
    assert re.fullmatch(f"/{sandbox.account_sid}/[0-9a-f]{{32}}", second.path)
    assert second.query.startswith("Expires=")
    assert ("Host", sandbox.cdn_host) in second.headers
    sandbox.clear_requests()
    assert sandbox.requests == ()


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Bearer token",
        encode_basic_auth("AC5a4db0c57e9f4c3d8b21e6f0a97c13d4", "wrong"),
        encode_basic_auth(SandboxOptions().api_key_sid, SandboxOptions().auth_token),
        encode_basic_auth(SandboxOptions().account.value, f"{SandboxOptions().auth_token} "),
        encode_basic_auth(SandboxOptions().account.value, SandboxOptions().auth_token).replace("Basic", "Digest"),
    ],
)
async def test_wrong_credentials_are_401_in_the_recorded_words(
    sandbox: Sandbox, ask: Ask, photo: Media, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    in_json = await ask("GET", sandbox.media_url(photo) + ".json", headers)
    assert in_json.status == 401
    assert in_json.headers["WWW-Authenticate"] == 'Basic realm="Twilio API"'
    assert in_json.content_type == "application/json"
    assert len(await in_json.read()) == 171
    assert await in_json.json() == {
        "code": 20003,
        "detail": "Your AccountSid or AuthToken was incorrect.",
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }
    in_xml = await ask("GET", sandbox.media_url(photo), headers)
    assert (in_xml.status, in_xml.content_type, len(await in_xml.read())) == (401, "application/xml", 293)
    assert (await in_xml.text()).startswith(
        "<?xml version='1.0' encoding='UTF-8'?>\n<TwilioResponse><RestException><Code>20003</Code><Detail>"
    )


async def test_an_api_key_with_its_own_secret_opens_the_account(sandbox: Sandbox, ask: Ask, photo: Media) -> None:
    answer = await ask("GET", sandbox.media_url(photo), {"Authorization": encode_basic_auth(*sandbox.api_key)})
    assert answer.status == 307


async def test_the_scheme_of_the_credentials_has_no_case(sandbox: Sandbox, ask: Ask, photo: Media) -> None:
    answer = await ask(
        "GET", sandbox.media_url(photo), {"Authorization": sandbox.authorization.replace("Basic", "bASIC")}
    )
    assert answer.status == 307


async def test_what_is_not_there_is_404_20404_without_detail(sandbox: Sandbox, api: Ask, photo: Media) -> None:
    path = f"/2010-04-01/Accounts/{sandbox.account_sid}/Messages/{photo.ref.message}/Media/ME{'0' * 32}"
    for suffix in (".json", "", ".xml"):
        answer = await api(f"{sandbox.api_url}{path}{suffix}")
        assert answer.status == 404
        if suffix == ".json":
            assert await answer.json() == {
                "code": 20404,
                "message": f"The requested resource {path}.json was not found",
                "more_info": "https://www.twilio.com/docs/errors/20404",
                "status": 404,
            }
        else:
            exception = ET.fromstring(await answer.text()).find("RestException")
            assert exception is not None
            assert [child.tag for child in exception] == ["Code", "Message", "MoreInfo", "Status"]


@pytest.mark.parametrize(
    "path",
    [
        "/Messages/MM{0}.json",
        "/Messages/MM{0}/Media.json",
        "/Messages/MM{0}/Media/ME{0}.json",
        "/Calls.json",
        "/Messages/x/Media.json",
    ],
)
async def test_a_message_or_path_that_is_not_there_is_404(api: Ask, path: str) -> None:
    assert (await api(path.format("0" * 32))).status == 404


async def test_another_account_is_404(sandbox: Sandbox, api: Ask) -> None:
    url = f"{sandbox.api_url}/2010-04-01/Accounts/AC{'0' * 32}/Messages.json"
    assert (await api(url)).status == 404


async def test_every_answer_has_the_headers_of_the_provider(api: Ask, sandbox: Sandbox, photo: Media) -> None:
    for url in (sandbox.media_url(photo), sandbox.media_url(photo) + ".json", sandbox.api_url + "/nothing"):
        headers = (await api(url)).headers
        assert re.fullmatch("RQ[0-9a-f]{32}", headers["Twilio-Request-Id"])
        assert headers["Access-Control-Expose-Headers"] == "ETag"
        assert {"Twilio-Request-Duration", "Twilio-Concurrent-Requests", "X-Home-Region", "X-API-Domain"} <= set(
            headers
        )


@pytest.mark.parametrize("noun", ["Messages", "Message"])
async def test_the_seven_properties_in_json_and_xml(api: Ask, photo: Media, noun: str) -> None:
    path = f"/{noun}/{photo.ref.message}/Media/{photo.sid}"
    answer = await api(path + ".json")
    properties = await answer.json()
    assert set(properties) == SEVEN
    assert properties["content_type"] == "image/jpeg"
    created = datetime.strptime(properties["date_created"], "%a, %d %b %Y %H:%M:%S +0000").replace(tzinfo=UTC)
    assert created.timestamp() == photo.date_created
    tree = ET.fromstring(await (await api(path + ".xml")).text()).find("Media")
    assert tree is not None
    assert tree.findtext("Sid") == photo.sid
    assert tree.findtext("Uri") == properties["uri"].replace(".json", ".xml")
    assert tree.findtext("DateUpdated") == properties["date_updated"]
    assert len(tree) == 7


async def test_the_media_list_has_exactly_nine_keys(api: Ask, sandbox: Sandbox) -> None:
    message = sandbox.messages[2]
    listed = await (await api(f"/Messages/{message.sid}/Media.json")).json()
    assert set(listed) == NINE
    assert [media["sid"] for media in listed["media_list"]] == [media.sid for media in message.media]
    assert (listed["start"], listed["end"], listed["page"], listed["page_size"]) == (0, 2, 0, 50)
    assert listed["uri"] == listed["first_page_uri"]
    assert listed["next_page_uri"] is listed["previous_page_uri"] is None


async def test_an_empty_list(api: Ask, sandbox: Sandbox) -> None:
    message = sandbox.messages[1]
    listed = await (await api(f"/Messages/{message.sid}/Media.json")).json()
    assert (listed["media_list"], listed["start"], listed["end"]) == ([], 0, 0)


@pytest.mark.parametrize("suffix", ["", ".xml"])
async def test_a_list_without_a_suffix_is_xml(api: Ask, sandbox: Sandbox, suffix: str) -> None:
    answer = await api(f"/Messages/{sandbox.messages[2].sid}/Media{suffix}?PageSize=2")
    assert answer.content_type == "application/xml"
    tree = ET.fromstring(await answer.text()).find("MediaList")
    assert tree is not None
    assert (tree.get("start"), tree.get("end"), tree.get("pagesize"), tree.get("previouspageuri")) == (
        "0",
        "1",
        "2",
        "",
    )
    assert "Media.xml?PageSize=2&Page=1&PageToken=PA" in (tree.get("nextpageuri") or "")
    assert [child.tag for child in tree] == ["Media", "Media"]


async def test_paging_walks_the_whole_list_by_next_page_uri_alone(api: Ask, sandbox: Sandbox) -> None:
    message = await sandbox.add_message([("image/png", bytes([n])) for n in range(10)], date_created=1_790_000_000)
    day = "2026-09-21"
    for query in (
        "PageSize=3",
        f"PageSize=3&DateCreated={day}",
        f"PageSize=4&DateCreated%3E={day}",
        "PageSize=7&DateCreated%3C=2026-09-22",
        f"PageSize=3&DateCreated%3E={day}&DateCreated%3C=2026-09-22",
    ):
        seen: list[str] = []
        path: str | None = f"/2010-04-01/Accounts/{sandbox.account_sid}/Messages/{message.sid}/Media.json?{query}"
        while path is not None:
            page = await (await api(sandbox.api_url + path)).json()
            assert page["start"] == len(seen)
            seen += [media["sid"] for media in page["media_list"]]
            assert page["end"] == len(seen) - 1
            path = page["next_page_uri"]
            assert path is None or all(part in path for part in query.split("&"))
        assert seen == [media.sid for media in message.media]


@pytest.mark.parametrize("query", ["DateCreated=2026-09-20", "DateCreated%3E=2026-09-22", "DateCreated%3C=2026-09-21"])
async def test_filters_leave_out(api: Ask, sandbox: Sandbox, query: str) -> None:
    message = await sandbox.add_message([("image/png", b"x")], date_created=1_790_000_000)
    listed = await (await api(f"/Messages/{message.sid}/Media.json?{query}")).json()
    assert listed["media_list"] == []
    assert query in listed["uri"]


@pytest.mark.parametrize(
    ("query", "message"),
    [("DateCreated=soon", "Invalid date value."), ("Page=1", "PageToken is required for paging.")],
)
async def test_a_bad_query_is_400_20001(api: Ask, sandbox: Sandbox, query: str, message: str) -> None:
    answer = await api(f"/Messages/{sandbox.messages[0].sid}/Media.json?{query}")
    assert answer.status == 400
    error = await answer.json()
    assert (error["code"], error["message"], error["status"]) == (20001, message, 400)


async def test_messages_are_listed_newest_first_in_pages(api: Ask, sandbox: Sandbox) -> None:
    seen: list[str] = []
    answer = await api("/Messages.json?PageSize=4")
    page = await answer.json()
    seen += [message["sid"] for message in page["messages"]]
    assert page["next_page_uri"].startswith(f"/2010-04-01/Accounts/{sandbox.account_sid}/Messages.json?PageSize=4&")
    page = await (await api(sandbox.api_url + page["next_page_uri"])).json()
    seen += [message["sid"] for message in page["messages"]]
    assert seen == [message.sid for message in reversed(sandbox.messages)]
    assert page["next_page_uri"] is None


async def test_a_message_tells_how_many_media_it_has_and_where(api: Ask, sandbox: Sandbox) -> None:
    message = sandbox.messages[2]
    properties = await (await api(f"/Messages/{message.sid}.json")).json()
    assert (properties["num_media"], properties["status"], properties["direction"]) == ("3", "received", "inbound")
    assert (properties["from"], properties["to"], properties["body"]) == (message.from_, message.to, message.body)
    media = properties["subresource_uris"]["media"]
    assert len((await (await api(sandbox.api_url + media)).json())["media_list"]) == 3
    in_xml = ET.fromstring(await (await api(f"/Messages/{message.sid}.xml")).text()).find("Message")
    assert in_xml is not None
    assert in_xml.findtext("SubresourceUris/Media") == media.replace(".json", ".xml")
    assert in_xml.findtext("Price") == ""


@pytest.mark.parametrize("suffix", ["", ".json"])
async def test_deleting_is_204_with_no_body_and_then_404(
    sandbox: Sandbox, api: Ask, ask: Ask, photo: Media, suffix: str
) -> None:
    location = (await api(sandbox.media_url(photo))).headers["Location"]
    deleted = await api(sandbox.media_url(photo) + suffix, "DELETE", {"Content-Length": "0"})
    assert (deleted.status, await deleted.read()) == (204, b"")
    assert (await api(sandbox.media_url(photo) + suffix, "DELETE")).status == 404
    assert (await api(sandbox.media_url(photo))).status == 404
    assert (await ask("GET", location)).status == 404
    assert [media.sid for media in sandbox.messages[0].media] == [sandbox.messages[0].media[0].sid]
    assert photo.sid != sandbox.messages[0].media[0].sid


async def test_head_answers_as_get_without_a_body(api: Ask, sandbox: Sandbox, photo: Media) -> None:
    get, head = [await api(sandbox.media_url(photo) + ".json", method) for method in ("GET", "HEAD")]
    assert (head.status, await head.read()) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]
    assert (await api(sandbox.media_url(photo), "HEAD")).status == 307


@pytest.mark.parametrize(("path", "allowed"), [("", "GET, HEAD, DELETE"), (".json", "GET, HEAD, DELETE")])
async def test_another_method_is_405(api: Ask, sandbox: Sandbox, photo: Media, path: str, allowed: str) -> None:
    answer = await api(sandbox.media_url(photo) + path, "PUT")
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
    assert (await api("/Messages.json", "DELETE")).headers["Allow"] == "GET, HEAD, POST"
    message = f"/Messages/{photo.ref.message}"
    assert (await api(f"{message}.json", "POST")).headers["Allow"] == "GET, HEAD, DELETE"
    assert (await api(f"{message}/Media.json", "OPTIONS")).headers["Allow"] == "GET, HEAD"


async def test_an_odd_content_type_on_a_list_is_taken(api: Ask) -> None:
    answer = await api("/Messages.json", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status == 200


async def test_connection_close_is_echoed(api: Ask) -> None:
    answer = await api("/Messages.json", headers={"Connection": "close"})
    assert answer.headers["Connection"] == "close"


async def test_the_direct_mode_gives_the_bytes_from_the_api(sandbox: Sandbox, api: Ask, photo: Media) -> None:
    sandbox.mode = Mode.DIRECT
    answer = await api(sandbox.media_url(photo))
    assert (answer.status, answer.content_type) == (200, "image/jpeg")
    assert await answer.read() == photo.read()
    part = await api(sandbox.media_url(photo), headers={"Range": "bytes=5-9"})
    assert (part.status, await part.read()) == (206, photo.read()[5:10])


async def test_unprotected_bytes_need_no_credentials_and_all_else_does(ask: Ask) -> None:
    async with Sandbox(SandboxOptions(protected=False, mode=Mode.DIRECT)) as sandbox:
        media = sandbox.messages[0].media[0]
        assert await (await ask("GET", sandbox.media_url(media))).read() == media.read()
        assert (await ask("GET", sandbox.media_url(media) + ".json")).status == 401
        assert (await ask("DELETE", sandbox.media_url(media))).status == 401
        wrong = {"Authorization": "Basic " + base64.b64encode(b"a:b").decode()}
        assert (await ask("GET", sandbox.media_url(media), wrong)).status == 401


class TestSignalWire:
    @pytest.fixture
    def options(self, options: SandboxOptions) -> SandboxOptions:
        return dataclasses.replace(options, profile=Provider.SIGNALWIRE)

    async def test_both_prefixes_lead_to_the_bytes(self, sandbox: Sandbox, api: Ask, photo: Media) -> None:
        assert sandbox.mode is Mode.DIRECT
        assert "/api/laml/" in sandbox.media_url(photo)
        assert await (await api(sandbox.media_url(photo))).read() == photo.read()
        assert await (await api(sandbox.media_url(photo).replace("/api/laml", ""))).read() == photo.read()

    async def test_identifiers_are_uuids(self, api: Ask, photo: Media) -> None:
        properties = await (await api(f"/Messages/{photo.ref.message}/Media/{photo.sid}.json")).json()
        for name in ("sid", "account_sid", "parent_sid"):
            assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", properties[name])
        assert properties["uri"].startswith("/api/laml/2010-04-01/Accounts/")

    async def test_its_list_form(self, sandbox: Sandbox, api: Ask) -> None:
        message = sandbox.messages[2]
        listed = await (await api(f"/Messages/{message.sid}/Media.json?PageSize=2")).json()
        assert set(listed) == NINE - {"start", "end"}
        assert listed["uri"].endswith("/Media?Page=0&PageSize=2")
        following = await (await api(sandbox.api_url + listed["next_page_uri"])).json()
        assert [media["sid"] for media in following["media_list"]] == [message.media[2].sid]

    async def test_the_four_fields_of_an_error(self, sandbox: Sandbox, ask: Ask, photo: Media) -> None:
        answer = await ask("GET", sandbox.media_url(photo) + ".json")
        assert answer.status == 401
        assert set(json.loads(await answer.read())) == {"code", "message", "more_info", "status"}
        assert "Twilio-Request-Id" not in answer.headers

    async def test_redirects_lead_to_its_own_public_place(
        self, sandbox: Sandbox, fetch: Ask, api: Ask, photo: Media
    ) -> None:
        sandbox.mode = Mode.REDIRECT_PUBLIC
        location = (await api(sandbox.media_url(photo))).headers["Location"]
        assert location.startswith(f"{sandbox.cdn_url}/files.signalwire.com/{sandbox.account_sid}/")
        assert await (await fetch(photo)).read() == photo.read()
