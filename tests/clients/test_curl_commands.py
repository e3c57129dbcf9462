"""The `curl` lines and bare requests of Twilio's documents, and what else one asks of media with `curl`.

The documents' lines are as they are written but for the host, and for identifiers that only their example has.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest
from yarl import URL

from proxy.sandbox import Point, Status
from tests.clients.node_programs import HERE, MOMENT, Ended, Side, Target, run, serving
from tests.clients.systems import System, unknown_media
from tests.functional.harness import Reply, bare

pytestmark = [pytest.mark.system("curl"), pytest.mark.system("bash")]

Curl = Callable[..., Awaitable[Reply]]
Shell = Callable[[str], Awaitable[Ended]]

SAMPLES: Final = HERE / "curl" / "samples"
_MESSAGE: Final = re.compile(r"\b(?:SM|MM)\w{32}\b")
_MEDIA: Final = re.compile(r"\bME\w{32}\b")
_SID: Final = re.compile(r"(?:\"sid\": ?\"|<Sid>)([\w-]+)")
_PLACES: Final = [(side, system) for side in Side for system in System]


@pytest.fixture(params=_PLACES, ids="-".join)
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Target]:
    side, system = request.param
    async with serving(side, system, tmp_path) as started:
        yield started


@pytest.fixture(params=[place for place in _PLACES if place[1] is not System.SIGNALWIRE], ids="-".join)
async def twilio(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Target]:
    side, system = request.param
    async with serving(side, system, tmp_path) as started:
        yield started


@pytest.fixture
def curl(program_path: Callable[[str], str], tmp_path: Path) -> Curl:
    """Run `curl` with the credentials of a place; return the last answer, redirects left out."""

    async def curl(target: Target, url: str, *options: str, anonymous: bool = False) -> Reply:
        body = tmp_path / "body"
        user = () if anonymous else ("-u", f"{target.place.username}:{target.place.password}")
        command = (program_path("curl"), "-sS", *user, "-D", "-", "-o", str(body), *options, url)
        ended = await run(command, {})
        assert (ended.code, ended.complaints) == (0, "")
        *_, head = ended.output.removesuffix(b"\r\n\r\n").split(b"\r\n\r\n")
        octets = await asyncio.to_thread(body.read_bytes) if body.exists() else b""
        return bare(head + b"\r\n\r\n" + octets)

    return curl


@pytest.fixture
def shell(twilio: Target, program_path: Callable[[str], str]) -> Shell:
    """Run a command of the documents."""

    async def shell(name: str) -> Ended:
        text, hosts = re.subn(r"https://api\.twilio\.com", twilio.place.base, (SAMPLES / name).read_text())
        text, messages = _MESSAGE.subn(twilio.message.sid, text)
        text, _ = _MEDIA.subn(twilio.first.sid, text)
        assert (hosts, messages) == (1, 1)
        environ = {"TWILIO_ACCOUNT_SID": twilio.place.username, "TWILIO_AUTH_TOKEN": twilio.place.password}
        # The documents' lines are not silent, and what is not a terminal gets a meter.
        return await run((program_path("bash"), "-c", f'curl() {{ command curl -sS "$@"; }}\n{text}'), environ)

    return shell


def listed(target: Target) -> list[str]:
    (message,) = target.sandbox.messages
    return [media.sid for media in message.media]


def properties(target: Target, suffix: str) -> Mapping[str, str]:
    """Return the first media's, under the names of JSON."""
    moment = MOMENT.strftime("%a, %d %b %Y %H:%M:%S +0000")
    return {
        "sid": target.first.sid,
        "account_sid": target.place.account,
        "parent_sid": target.message.sid,
        "content_type": "image/jpeg",
        "date_created": moment,
        "date_updated": moment,
        "uri": target.place.path(target.message, target.first, suffix),
    }


def in_json_names(element: ET.Element) -> dict[str, str | None]:
    return {re.sub(r"\B([A-Z])", r"_\1", child.tag).lower(): child.text for child in element}


# --- the documents' own ---------------------------------------------------------------------------------------


async def test_a_medium_is_fetched_as_documented(twilio: Target, shell: Shell) -> None:
    ended = await shell("fetch_medium.sh")
    assert (ended.code, ended.complaints) == (0, "")
    assert json.loads(ended.output) == properties(twilio, ".json")


async def test_media_are_listed_as_documented(twilio: Target, shell: Shell) -> None:
    ended = await shell("list_media.sh")
    assert (ended.code, ended.complaints) == (0, "")
    document = json.loads(ended.output)
    assert [media["sid"] for media in document["media_list"]] == twilio.sids
    uri = f"{twilio.place.path(twilio.message, suffix='.json')}?PageSize=20&Page=0"
    assert {name: value for name, value in document.items() if name != "media_list"} == {
        "end": 4,
        "first_page_uri": uri,
        "next_page_uri": None,
        "page": 0,
        "page_size": 20,
        "previous_page_uri": None,
        "start": 0,
        "uri": uri,
    }


async def test_a_medium_is_deleted_as_documented(twilio: Target, shell: Shell) -> None:
    assert await shell("delete_media.sh") == Ended(0, b"", "")
    assert listed(twilio) == twilio.sids[1:]


@pytest.mark.parametrize("suffix", ["", ".xml", ".json"])
async def test_bare_requests_have_the_representations_that_are_documented(
    twilio: Target, curl: Curl, suffix: str
) -> None:
    name = {"": "content", ".xml": "xml", ".json": "json"}[suffix]
    method, path = (SAMPLES / f"{name}.http").read_text().split()
    assert path.startswith("/2010-04-01/Accounts/AC.../Message/MM.../Media/")
    path = path.replace("AC...", twilio.place.account).replace("MM...", twilio.message.sid)
    reply = await curl(twilio, twilio.place.base + _MEDIA.sub(twilio.first.sid, path), "-L", "-X", method)
    assert reply.status == 200
    match suffix:
        case "":
            assert (reply.headers["Content-Type"], reply.body) == ("image/jpeg", b"\0" * 40_000)
        case ".json":
            assert reply.headers["Content-Type"].startswith("application/json")
            assert reply.json == properties(twilio, ".json")
        case _:
            assert reply.headers["Content-Type"].startswith("application/xml")
            (media,) = ET.fromstring(reply.body)
            assert media.tag == "Media"
            assert in_json_names(media) == properties(twilio, ".xml")


def test_every_command_of_the_documents_is_run() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {
        "fetch_medium.sh",
        "list_media.sh",
        "delete_media.sh",
        "content.http",
        "xml.http",
        "json.http",
    }


# --- bytes ----------------------------------------------------------------------------------------------------


async def test_bytes_come_at_the_end_of_redirects(target: Target, curl: Curl) -> None:
    for media in target.message.media[:2]:
        url = target.place.url(target.message, media)
        for _ in range(2):
            reply = await curl(target, url, "-L")
            assert (reply.status, reply.headers["Content-Type"]) == (200, "image/jpeg")
            assert reply.headers["Content-Length"] == "40000"
            assert reply.body == bytes([target.message.media.index(media)]) * 40_000


async def test_rfc_9110_14_2_a_part_of_the_bytes(target: Target, curl: Curl) -> None:
    url = target.place.url(target.message, target.message.media[3])
    first = await curl(target, url, "-L", "-r", "0-99")
    last = await curl(target, url, "-L", "-r", "-50")
    assert (first.status, first.headers["Content-Range"], first.body) == (206, "bytes 0-99/40000", b"\3" * 100)
    assert (last.status, last.headers["Content-Range"], last.body) == (206, "bytes 39950-39999/40000", b"\3" * 50)
    beyond = await curl(target, url, "-L", "-r", "40000-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, "bytes */40000")


async def test_rfc_9110_9_3_2_head_has_get_s_fields(target: Target, curl: Curl) -> None:
    reply = await curl(target, target.place.url(target.message, target.first), "-I", "-L")
    assert reply.status == 200
    assert (reply.headers["Content-Type"], reply.headers["Content-Length"]) == ("image/jpeg", "40000")
    assert reply.headers["Accept-Ranges"] == "bytes"


async def test_rfc_9110_13_1_2_known_tag_is_304(target: Target, curl: Curl, tmp_path: Path) -> None:
    url = target.place.url(target.message, target.first)
    tag = (await curl(target, url, "-L")).headers["ETag"]
    (tmp_path / "body").unlink()
    reply = await curl(target, url, "-L", "-H", f"If-None-Match: {tag}")
    assert (reply.status, reply.body, reply.headers["ETag"]) == (304, b"", tag)


async def test_a_media_is_deleted_with_and_without_a_suffix(target: Target, curl: Curl) -> None:
    bare_one, json_one, xml_one, *rest = target.message.media
    for media, suffix in ((bare_one, ""), (json_one, ".json"), (xml_one, ".xml")):
        url = target.place.url(target.message, media, suffix)
        assert (await curl(target, target.place.url(target.message, media), "-L")).status == 200
        deleted = await curl(target, url, "-X", "DELETE")
        assert (deleted.status, deleted.body) == (204, b"")
        assert (await curl(target, url, "-X", "DELETE")).status == 404
        assert (await curl(target, target.place.url(target.message, media), "-L")).status == 404
    assert listed(target) == [media.sid for media in rest]


# --- documents ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".xml"])
async def test_both_notations_have_every_property(target: Target, curl: Curl, suffix: str) -> None:
    reply = await curl(target, target.place.url(target.message, target.first, suffix))
    assert reply.status == 200
    if suffix == ".json":
        assert reply.json == properties(target, suffix)
    else:
        (media,) = ET.fromstring(reply.body)
        assert in_json_names(media) == properties(target, suffix)


@pytest.mark.parametrize("suffix", [".json", ".xml"])
async def test_filters_choose_in_both_notations(target: Target, curl: Curl, suffix: str) -> None:
    # As they are written in an address bar, and as a program writes them (RFC 3986 §2.1).
    for query, found in (
        ("DateCreated=2026-03-04", 2),
        ("DateCreated=2026-03-05", 0),
        ("DateCreated>=2026-03-04", 2),
        ("DateCreated%3E=2026-03-05", 0),
        ("DateCreated<=2026-03-05", 2),
        ("DateCreated%3C=2026-03-04", 0),
        ("DateCreated%3E=2026-03-04&DateCreated%3C=2026-03-05T00%3A00%3A00Z", 2),
    ):
        reply = await curl(target, f"{target.place.url(target.message, suffix=suffix)}?{query}&PageSize=2")
        assert reply.status == 200
        assert _SID.findall(reply.body.decode()) == target.sids[:found], query


async def test_a_list_in_xml_has_every_media_and_its_pages(target: Target, curl: Curl) -> None:
    reply = await curl(target, target.place.url(target.message, suffix=".xml") + "?PageSize=2")
    assert reply.status == 200
    (pages,) = ET.fromstring(reply.body)
    assert pages.tag == "MediaList"
    assert [in_json_names(media)["sid"] for media in pages] == target.sids[:2]
    assert pages.attrib.items() >= {"page": "0", "pagesize": "2", "previouspageuri": ""}.items()
    following = await curl(target, target.place.base + pages.attrib["nextpageuri"])
    assert following.status == 200
    assert target.sids[2].encode() in following.body


@pytest.mark.parametrize("suffix", ["", ".json", ".xml"])
async def test_errors_have_the_provider_s_four_fields(target: Target, curl: Curl, suffix: str) -> None:
    twilio = target.place.account.startswith("AC")
    absent = target.place.url(target.message, unknown_media(target.first), suffix)
    path = absent.removeprefix(target.place.base)
    lost = await curl(target, absent)
    there = target.place.url(target.message, target.first, suffix)
    locked = await curl(target, there, "-u", f"{target.place.account}:{'w' * 40}")
    point = Point.PROPERTIES if suffix else Point.CONTENT
    target.sandbox.fault(Status(429, retry_after="0"), point=point)
    busy = await curl(target, there)
    expected = {
        401: {"code": "20003", "message": "Authenticate"},
        404: {"code": "20404", "message": f"The requested resource {path} was not found"},
        429: {"code": "20429", "message": "Too Many Requests"},
    }
    for reply, status in ((locked, 401), (lost, 404), (busy, 429)):
        assert reply.status == status
        # Without a suffix Twilio writes XML; of SignalWire it is not documented.
        if suffix == ".json" or (not suffix and "json" in reply.headers["Content-Type"] and not twilio):
            told = {name: str(value) for name, value in reply.json.items()}
        else:
            (exception,) = ET.fromstring(reply.body)
            assert exception.tag == "RestException"
            told = {name: text or "" for name, text in in_json_names(exception).items()}
        told.pop("detail", None)
        code = expected[status]["code"]
        more = {"more_info": f"https://www.twilio.com/docs/errors/{code}", "status": str(status)}
        assert told == {**expected[status], **more}
    assert locked.headers["WWW-Authenticate"].startswith("Basic ")


async def test_passing_over_the_gateway_s_own_link_needs_no_credentials(tmp_path: Path, curl: Curl) -> None:
    async with serving(Side.GATEWAY, System.SIGNED, tmp_path, GATEWAY_CONTENT_MODE="redirect") as target:
        url = target.place.url(target.message, target.first)
        before = int(time.time())
        led = await curl(target, url)
        assert led.status == 307
        assert led.headers["Location"].startswith(f"{target.place.base}/media/{target.first.ref}?expires=")
        # As long as the provider's own, and up to a window of links longer.
        assert int(URL(led.headers["Location"]).query["expires"]) - before >= 14_400
        for options, anonymous, status in (((), True, 200), (("-r", "0-99"), True, 206), (("-I",), True, 200)):
            assert (await curl(target, led.headers["Location"], *options, anonymous=anonymous)).status == status
        # `-u` goes along, as the link is on the same origin.
        followed = await curl(target, url, "-L")
        assert (followed.status, followed.body) == (200, b"\0" * 40_000)
        assert (await curl(target, url, "-L", "-r", "0-99")).status == 206
        assert (await curl(target, url, "-I", "-L")).headers["Content-Length"] == "40000"
        deleted = await curl(target, url, "-X", "DELETE")
        assert deleted.status == 204
        assert (await curl(target, led.headers["Location"], anonymous=True)).status == 404
