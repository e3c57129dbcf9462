"""Names as upstreams really write them: what a media is saved under is the same from every tier and at every path."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import encode_basic_auth

from tests.faults.conftest import Start, Within
from tests.faults.origin import LARGE, REF, SMALL, FaultyOrigin, Script, head
from tests.faults.serving import gateway_over, until_stored
from tests.functional.harness import RunningGateway
from tests.redis_server import RedisServer

READER = ("reader", "r" * 40)
PLAIN = {"Jörg.vcf": "Jorg.vcf", "日本語.jpg": "___.jpg", "my photo 1.jpg": "my photo 1.jpg", "日.jpg": "_.jpg"}


def named(field: bytes, body: bytes = SMALL, content_type: str = "image/jpeg") -> Script:
    """Return an answer with that Content-Disposition, octet for octet; none if it is empty."""
    line = b"Content-Disposition: %b\r\n" % field if field else b""
    lines = (f"Content-Type: {content_type}", 'ETag: "one"', f"Content-Length: {len(body)}")
    return (head(*lines)[:-2] + line + b"\r\n", body)


def saved_as(name: str) -> str:
    """Return the end of the answer's field (RFC 6266): plain ASCII, and the name itself if that loses something."""
    plain = PLAIN.get(name, name)
    return f'filename="{plain}"' + ("" if plain == name else f"; filename*=UTF-8''{quote(name)}")


FIELDS = {
    'attachment; filename="Jörg.vcf"'.encode(): "Jörg.vcf",
    'attachment; filename="Jörg.vcf"'.encode("latin-1"): "Jörg.vcf",
    'attachment; filename="日本語.jpg"'.encode(): "日本語.jpg",
    b"attachment; filename=my photo 1.jpg": "my photo 1.jpg",
    b"attachment; filename*=iso-8859-1''J%F6rg.vcf": "Jörg.vcf",
    b'attachment; filename="%E6%97%A5.jpg"': "日.jpg",
    b'attachment; filename="=?UTF-8?B?5pel5pys6KqeLmpwZw==?="': "日本語.jpg",
    b"attachment; filename=photo": "photo.jpg",
    b"attachment": f"{REF.media}.jpg",
    b"": f"{REF.media}.jpg",
}


@pytest.mark.parametrize(("field", "name"), FIELDS.items(), ids=range(len(FIELDS)))
async def test_an_upstreams_name_is_the_answers(
    gateway: RunningGateway, origin: FaultyOrigin, field: bytes, name: str
) -> None:
    origin.play(named(field))
    fetched, hit = await gateway.get(gateway.link(REF)), await gateway.head(gateway.link(REF))
    assert fetched.headers["Content-Disposition"] == f"inline; {saved_as(name)}"
    assert hit.headers["Content-Disposition"] == fetched.headers["Content-Disposition"]


async def test_a_claim_stays_as_it_was_signed(gateway: RunningGateway, origin: FaultyOrigin) -> None:
    origin.play(named('attachment; filename="Jörg.vcf"'.encode()))
    for claim in ("plain", "%41.jpg"):
        reply = await gateway.get(gateway.link(REF, filename=claim))
        ending = reply.headers["Content-Disposition"].removeprefix("inline; ")
        assert ending in (f'filename="{claim}"', "filename=\"_41.jpg\"; filename*=UTF-8''%2541.jpg")


@pytest.mark.parametrize(
    ("content_type", "disposition"),
    [
        ("text/x-vcard", f'inline; filename="{REF.media}.vcf"'),
        ("audio/ogg; codecs=opus", f'inline; filename="{REF.media}.ogg"'),
        ("application/vnd.apple.pkpass", f'attachment; filename="{REF.media}.pkpass"'),
        ("application/octet-stream", "attachment"),
        ("no/such-type", "attachment"),
    ],
)
async def test_a_media_without_a_name_is_saved_by_its_type(
    gateway: RunningGateway, origin: FaultyOrigin, content_type: str, disposition: str
) -> None:
    origin.play(named(b"", content_type=content_type))
    reply = await gateway.get(gateway.link(REF))
    assert reply.headers["Content-Disposition"] == disposition


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_a_name_outlives_a_restart(within: Within, origin: FaultyOrigin, folder: Path, body: bytes) -> None:
    origin.play(named('attachment; filename="日本語.jpg"'.encode(), body))
    async with within() as gateway:
        await gateway.get(gateway.link(REF))
        await until_stored(folder, 1)
    async with within() as gateway:
        for _ in range(3):
            reply = await gateway.get(gateway.link(REF))
            assert reply.headers["Content-Disposition"] == f"inline; {saved_as('日本語.jpg')}"
    assert origin.asked == 1


@pytest.mark.system("redis-server")
@pytest.mark.parametrize("field", ['attachment; filename="日本語.jpg"'.encode(), b'attachment; filename="J\xf6rg.vcf"'])
async def test_a_name_comes_through_the_shared_tier(
    origin: FaultyOrigin, redis_server: RedisServer, folder: Path, field: bytes
) -> None:
    origin.play(named(field))
    replies = []
    for number in range(2):
        shared = {"GATEWAY_SHARED_CACHE": redis_server.url}
        async with gateway_over(origin, folder.with_name(f"node-{number}"), **shared) as gateway:
            replies.append(await gateway.get(gateway.link(REF)))
    assert origin.asked == 1
    fetched, shared_hit = (reply.headers["Content-Disposition"] for reply in replies)
    assert fetched == shared_hit
    assert fetched in (f"inline; {saved_as('日本語.jpg')}", f"inline; {saved_as('Jörg.vcf')}")


async def test_the_media_resource_gives_the_same_name(start: Start, origin: FaultyOrigin) -> None:
    origin.play(named('attachment; filename="Jörg.vcf"'.encode()))
    gateway = await start(GATEWAY_CLIENTS=":".join(READER))
    resource = f"/2010-04-01/Accounts/{REF.account}/Messages/{REF.message}/Media/{REF.media}"
    reply = await gateway.ask("GET", resource, headers={"Authorization": encode_basic_auth(*READER)})
    assert (reply.status, reply.headers["Content-Disposition"]) == (200, f"inline; {saved_as('Jörg.vcf')}")


async def test_the_express_lane_gives_the_same_name(gateway: RunningGateway, origin: FaultyOrigin) -> None:
    origin.play(named('attachment; filename="Jörg.vcf"'.encode(), SMALL[:20_000]))
    link = gateway.link(REF)
    fields = {(await gateway.get(link)).headers["Content-Disposition"] for _ in range(5)}
    assert fields == {f"inline; {saved_as('Jörg.vcf')}"}
    assert origin.asked == 1
