"""The shipped nginx site that is a cache: one copy for all links to a media, each link verified each time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.links import LinkMinter
from proxy.sandbox import Headers, Media, Sandbox, Status
from tests.functional.edges import (
    Edge,
    Edges,
    get_from,
    max_age,
    operator_file,
    past,
    rendered,
    revoke,
    seconds_left,
    shipped,
    spoofs,
    tampered,
    target,
)
from tests.functional.harness import Gateways, Reply
from tests.functional.media_api import delete, path
from tests.functional.nginx import substituted
from tests.ports import free_port

pytestmark = pytest.mark.system("nginx")

HIT, MISS, VALIDATED = "nginx; hit", "nginx; fwd=uri-miss", "nginx; fwd=stale; fwd-status=304"


@pytest.fixture
def site(tmp_path: Path) -> str:
    return substituted(
        shipped("media-gateway-edge.conf"), {"/var/cache/nginx-media-gateway": str(tmp_path / "edge-cache")}
    )


@pytest.fixture
async def edge(edges: Edges, site: str, tmp_path: Path) -> Edge:
    return await edges.start(site, config=operator_file(tmp_path), GATEWAY_CDN="1")


def minted(edge: Edge, media: Media, ttl: int, **claims: str) -> str:
    """Return one of many links to the same media: no two of different `ttl` are alike."""
    return edge.link(media, ttl=ttl, **claims)


def outcome(reply: Reply) -> str:
    return reply.headers["Cache-Status"]


async def refused(edge: Edge, link: str, status: int, kind: str, **headers: str) -> None:
    """Check the refusal as the gateway's own problem, and for HEAD as well."""
    reply = await edge.get(link, **headers)
    assert (reply.status, reply.json["type"]) == (status, f"urn:media-gateway:problem:{kind}")
    assert reply.headers["Cache-Control"] == "no-store"
    assert (await edge.gateway.head(link)).status == status


async def test_later_links_hit_what_the_first_has_left(edge: Edge, photo: Media, sandbox: Sandbox) -> None:
    first = await edge.get(minted(edge, photo, 600))
    assert (first.status, first.body, outcome(first)) == (200, photo.read(), MISS)
    for ttl in (1200, 1800, 60):
        reply = await edge.get(minted(edge, photo, ttl))
        assert (reply.status, reply.body, outcome(reply)) == (200, photo.read(), HIT)
        assert reply.headers["ETag"] == first.headers["ETag"]


async def test_each_client_may_keep_it_for_its_link_s_life(edge: Edge, photo: Media) -> None:
    """Whether the link lives shorter or longer than that of the one who had it stored."""
    for ttl, expected in ((600, MISS), (60, HIT), (3600, HIT)):
        link = minted(edge, photo, ttl)
        for headers in ({}, {"Range": "bytes=0-1"}, {"If_None_Match": "*"}):
            reply = await edge.get(link, **headers)
            assert seconds_left(link) - 2 <= max_age(reply) <= seconds_left(link) + 1
            assert outcome(reply) in {expected, HIT}
            assert "Age" not in reply.headers


async def test_name_and_disposition_are_part_of_the_key(edge: Edge, photo: Media) -> None:
    shown: dict[str, tuple[str, ...]] = {}
    for claims in (
        {}, {"disposition": "attachment"}, {"disposition": "inline"}, {"filename": "a b.jpg"}, {"filename": "ä.jpg"},
        {"filename": "ä.jpg", "disposition": "attachment"}, {"filename": "attachment"},
    ):  # fmt: skip
        replies = [await edge.get(minted(edge, photo, ttl, **claims)) for ttl in (600, 1200)]
        assert [outcome(reply) for reply in replies] == [MISS, HIT]
        direct = await edge.get(minted(edge, photo, 600, **claims).replace(edge.gateway.url, edge.direct))
        shown[str(claims)] = tuple(reply.headers["Content-Disposition"] for reply in (*replies, direct))
    assert all(len(set(said)) == 1 for said in shown.values()), shown


async def test_a_link_of_a_whole_message_hits_too(edge: Edge, sandbox: Sandbox) -> None:
    message = next(message for message in sandbox.messages if len(message.media) == 3)
    first, second, _ = message.media
    wide = edge.link(first, scope="message")
    assert outcome(await edge.get(wide)) == MISS
    narrow = await edge.get(edge.link(first))
    assert (narrow.body, outcome(narrow)) == (first.read(), HIT)
    other = await edge.get(wide.replace(first.sid, second.sid))
    assert (other.body, outcome(other)) == (second.read(), MISS)


async def test_ranges_validation_and_head_are_answered_from_the_store(edge: Edge, photo: Media) -> None:
    link = edge.link(photo)
    part = await edge.get(link, Range="bytes=100-199")
    assert (part.status, part.body, outcome(part)) == (206, photo.read()[100:200], MISS)
    etag = (await edge.get(link)).headers["ETag"]
    assert etag.startswith('"')
    again = await edge.get(link, Range="bytes=-10", If_Range=etag)
    assert (again.status, again.body, outcome(again)) == (206, photo.read()[-10:], HIT)
    assert (await edge.get(link, Range="bytes=9-", If_Range='"other"')).status == 200
    beyond = await edge.get(link, Range=f"bytes={photo.length}-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{photo.length}")
    unchanged = await edge.get(link, If_None_Match=etag)
    assert (unchanged.status, unchanged.body, outcome(unchanged)) == (304, b"", HIT)
    head = await edge.gateway.head(link)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(photo.length))
    assert outcome(head) == HIT


async def test_many_at_once_are_one_fetch_of_the_whole_media(edge: Edge, film: Media, sandbox: Sandbox) -> None:
    replies = await asyncio.gather(*(edge.get(minted(edge, film, 60 * number)) for number in range(1, 9)))
    assert {(reply.status, reply.body) for reply in replies} == {(200, film.read())}
    asked = [request.path for request in sandbox.requests]
    assert asked
    assert len(set(asked)) == len(asked)


async def test_each_refusal_is_the_gateway_s_though_media_is_stored(edge: Edge, photo: Media, film: Media) -> None:
    good = edge.link(photo)
    assert (await edge.get(good)).status == 200
    await refused(edge, tampered(good), 403, "link-signature-invalid")
    await refused(edge, good.partition("?")[0], 403, "link-malformed")
    await refused(edge, good.replace("/media/", "/media//"), 403, "link-malformed")
    await refused(edge, edge.link(film).replace(film.sid, photo.sid), 403, "link-signature-invalid")
    await refused(edge, edge.link(photo, not_before=int(time.time()) + 100), 403, "link-claim-unmet")
    for headers in ({}, {"Range": "bytes=0-1"}, {"If_None_Match": "*"}):
        await refused(edge, past(edge.gateway, photo), 410, "link-expired", **headers)
    assert outcome(await edge.get(good)) == HIT


async def test_a_revocation_and_a_deletion_hold_at_once(edge: Edge, photo: Media, film: Media) -> None:
    for media in (photo, film):
        assert outcome(await edge.get(edge.link(media))) == MISS
        assert outcome(await edge.get(edge.link(media))) == HIT
    await revoke(edge.gateway, photo)
    await refused(edge, edge.link(photo), 403, "link-revoked")
    await revoke(edge.gateway, photo, lift=True)
    assert (await edge.get(edge.link(photo))).status == 200
    assert (await delete(edge.gateway, path(film, ".json"))).status == 204
    await refused(edge, edge.link(film), 404, "media-not-found")
    await refused(edge, minted(edge, film, 1200), 404, "media-not-found", Range="bytes=0-1")


async def test_a_client_s_own_word_opens_nothing(edge: Edge, photo: Media, film: Media) -> None:
    good, wanted = edge.link(photo), edge.link(film)
    for media in (photo, film):
        await edge.get(edge.link(media))
    for headers in spoofs(good):
        for url in (tampered(wanted), wanted.partition("?")[0], past(edge.gateway, film)):
            reply = await edge.gateway.ask("GET", url, headers=headers)
            assert reply.status in {403, 410}
            assert len(reply.body) < 1000
        reply = await edge.gateway.ask("GET", good, headers=headers)
        assert (reply.status, reply.body) == (200, photo.read())
        assert max_age(reply) <= seconds_left(good) + 1


async def test_the_question_itself_is_not_for_clients(edge: Edge, photo: Media) -> None:
    named = {"X-Original-URI": target(edge.link(photo))}
    for asked, status in (("/media-gateway-auth", 404), ("/auth", 403)):
        assert (await edge.gateway.ask("GET", asked, headers=named)).status == status


async def test_a_link_bound_to_an_address_opens_there_alone(edge: Edge, photo: Media) -> None:
    link = edge.link(photo, ip="127.0.0.2/32")
    for _ in range(2):
        reply = await get_from("127.0.0.2", link)
        assert (reply.status, reply.body, outcome(reply)) == (200, photo.read(), MISS)
        assert max_age(reply) <= seconds_left(link) + 1
    part = await get_from("127.0.0.2", link, {"Range": "bytes=5-9"})
    assert (part.status, part.body) == (206, photo.read()[5:10])
    assert outcome(await edge.get(edge.link(photo))) == MISS
    stored = await get_from("127.0.0.2", link)
    assert (stored.body, outcome(stored)) == (photo.read(), HIT)
    assert (await get_from("127.0.0.3", link)).status == 403
    for address in ("127.0.0.1", "127.0.0.3"):
        assert (await get_from(address, link, {"X-Forwarded-For": "127.0.0.2"})).status == 403


async def test_without_the_gateway_s_leave_nothing_is_stored(edges: Edges, site: str, photo: Media) -> None:
    edge = await edges.start(site)
    for _ in range(2):
        reply = await edge.get(edge.link(photo))
        assert (reply.status, reply.body, outcome(reply)) == (200, photo.read(), MISS)


@pytest.mark.parametrize(("directive", "told"), [("no-store", "no-store"), ("no-cache", "private, no-cache")])
async def test_what_the_provider_lets_nobody_reuse_is_not_reused(
    edge: Edge, photo: Media, sandbox: Sandbox, directive: str, told: str
) -> None:
    sandbox.fault(Headers(put=(("Cache-Control", directive), ("Age", "7"))))
    for _ in range(2):
        reply = await edge.get(edge.link(photo))
        assert (reply.status, reply.body, outcome(reply)) == (200, photo.read(), MISS)
        assert reply.headers["Cache-Control"] == told


async def test_what_belongs_to_one_exchange_is_not_repeated(edges: Edges, site: str, photo: Media) -> None:
    edge = await edges.start(site, GATEWAY_CDN="1", GATEWAY_SERVER_TIMING="1")
    own = {"CDN-Cache-Control", "Cache-Tag", "Surrogate-Key", "Server-Timing"}
    replies = [await edge.get(edge.link(photo)) for _ in range(2)]
    assert len({reply.headers["X-Request-Id"] for reply in replies}) == 2
    for reply in replies:
        assert not own & reply.headers.keys()


async def test_an_upstream_s_error_is_passed_on_and_not_kept(edge: Edge, photo: Media, sandbox: Sandbox) -> None:
    sandbox.fault(Status(403), media_sid=photo.sid, times=1)
    reply = await edge.get(edge.link(photo))
    assert (reply.status, reply.json["status"], reply.headers["Cache-Control"]) == (502, 502, "no-store")
    assert (await edge.get(edge.link(photo))).body == photo.read()


async def test_a_stale_entry_is_validated_with_the_asking_link(edges: Edges, site: str) -> None:
    """Whatever `max-age` it had."""
    asked: list[tuple[str, str | None]] = []
    used_up = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/auth":
            return web.Response(status=204, headers={"X-Media-Path": "/media/a", "X-Link-Max-Age": "77"})
        asked.append((request.query_string, request.headers.get("If-None-Match")))
        headers = {"ETag": '"e"', "Cache-Control": "public, max-age=9000", "Age": "8999"}
        if len(asked) > 1:
            used_up.set()
        if "If-None-Match" in request.headers:
            return web.Response(status=304, headers=headers)
        return web.Response(body=b"bytes", headers=headers)

    app = web.Application()
    app.router.add_route("GET", "/{rest:.*}", answer)
    port = free_port()
    async with TestServer(app) as upstream, aiohttp.ClientSession() as session, asyncio.timeout(30):
        short = substituted(site, {"proxy_cache_valid      200 5m;": "proxy_cache_valid 200 1s;"})
        await edges.serve(rendered(short, port, f"127.0.0.1:{upstream.port}", edges.folder))
        outcomes: list[str] = []
        while not used_up.is_set():
            number = len(outcomes)
            async with session.get(f"http://127.0.0.1:{port}/media/a?signature={number}") as response:
                assert (response.status, await response.read()) == (200, b"bytes")
                assert response.headers["Cache-Control"] == "private, max-age=77"
                outcomes.append(response.headers["Cache-Status"])
    assert asked == [("signature=0", None), (f"signature={len(outcomes) - 1}", '"e"')]
    assert outcomes == [MISS, *[HIT] * (len(outcomes) - 2), VALIDATED]


async def test_nothing_stored_is_served_while_the_gateway_is_away(
    edges: Edges, gateways: Gateways, site: str, photo: Media, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with gateways.running(
        GATEWAY_PUBLIC_URL=url, GATEWAY_TRUSTED_PROXIES="127.0.0.1", GATEWAY_CDN="1"
    ) as gateway:
        served = await edges.serve(rendered(site, port, str(gateway.settings.listen), edges.folder))
        link = gateway.link(photo.ref)
        assert [outcome(await gateway.get(link)) for _ in range(2)] == [MISS, HIT]
    async with aiohttp.ClientSession() as session, session.get(link) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert response.headers["Content-Type"] == "application/problem+json"
    await served.stop()
    assert link.rpartition("=")[2] not in served.all_logs()


async def test_a_gateway_that_goes_away_in_between_is_503(edges: Edges, site: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path != "/auth":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=204, headers={"X-Media-Path": "/media/a", "X-Link-Max-Age": "77"})

    app = web.Application()
    app.router.add_route("GET", "/{rest:.*}", answer)
    port = free_port()
    async with TestServer(app) as upstream, aiohttp.ClientSession() as session:
        await edges.serve(rendered(site, port, f"127.0.0.1:{upstream.port}", edges.folder))
        async with session.get(f"http://127.0.0.1:{port}/media/a") as response:
            assert (response.status, response.headers["Cache-Control"]) == (503, "no-store")
            assert response.headers["Content-Type"] == "application/problem+json"


async def test_cors_goes_by_the_origin_that_asks(edges: Edges, site: str, photo: Media) -> None:
    origins = ("https://a.example", "https://b.example")
    edge = await edges.start(site, GATEWAY_CDN="1", GATEWAY_CORS_ORIGINS=",".join(origins))
    for expected in (MISS, HIT):
        for origin in origins:
            reply = await edge.get(edge.link(photo), Origin=origin)
            assert (reply.headers["Access-Control-Allow-Origin"], outcome(reply)) == (origin, expected)
    assert "Access-Control-Allow-Origin" not in (await edge.get(edge.link(photo), Origin="https://c.example")).headers


async def test_another_method_is_the_gateway_s_to_refuse(edge: Edge, photo: Media) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert (await edge.gateway.ask(method, edge.link(photo), data=b"x")).status == 405
    reply = await edge.gateway.ask("OPTIONS", edge.link(photo))
    assert (reply.status, reply.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")


async def test_no_log_and_no_key_holds_a_signature(edge: Edge, photo: Media, tmp_path: Path) -> None:
    links = [edge.link(photo, filename="secret-name.jpg"), past(edge.gateway, photo), tampered(edge.link(photo))]
    assert [(await edge.get(link, Referer=link)).status for link in links] == [200, 410, 403]
    await edge.nginx.stop()
    (entry,) = (file for file in (tmp_path / "edge-cache").rglob("*") if file.is_file())
    head = entry.read_bytes()[:2000]
    assert f"KEY: /media/{photo.ref} secret-name.jpg".encode() in head
    for link in links:
        signature = link.rpartition("=")[2]
        assert signature not in edge.nginx.all_logs()
        assert signature.encode() not in head
    assert 'cache="nginx; fwd=uri-miss"' in edge.nginx.access_log()


def test_a_link_is_minted_anew_by_its_end_alone(photo: Media) -> None:
    """What the tests above take for two links to one media."""
    minter = LinkMinter("http://a.example", f"k1:{'s' * 40}")
    assert minter.url(photo.ref, ttl=600) != minter.url(photo.ref, ttl=1200)


async def test_under_a_path_of_a_site(edges: Edges, site: str, photo: Media) -> None:
    moved = substituted(site, {"location /media/ {": "location /gw/media/ {", "location / {": "location /gw/ {"})
    edge = await edges.start(moved, mount="/gw", GATEWAY_CDN="1")
    for ttl, expected in ((600, MISS), (1200, HIT)):
        reply = await edge.get(minted(edge, photo, ttl))
        assert (reply.status, reply.body, outcome(reply)) == (200, photo.read(), expected)
    await refused(edge, tampered(edge.link(photo)), 403, "link-signature-invalid")
