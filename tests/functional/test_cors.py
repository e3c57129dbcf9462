"""CORS (the Fetch standard): which origins may read a media, on errors too, and what a preflight is told."""

from __future__ import annotations

import pytest

from proxy.sandbox import Media
from tests.functional.harness import Gateways, Reply, RunningGateway

ONE, OTHER, STRANGER = "https://app.example", "https://admin.example:8443", "https://evil.example"
PREFLIGHT = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "range,if-none-match"}


def cors_of(reply: Reply) -> dict[str, str]:
    return {name.lower(): value for name, value in reply.headers.items() if name.lower().startswith("access-control")}


def listed(reply: Reply, name: str) -> set[str]:
    return {member.strip() for member in reply.headers.get(name, "").split(",")} - {""}


async def preflight(gateway: RunningGateway, url: str, origin: str) -> Reply:
    headers = {"Origin": origin, **{name.replace("_", "-"): value for name, value in PREFLIGHT.items()}}
    return await gateway.ask("OPTIONS", url, headers=headers)


async def test_without_the_setting_no_other_origin_may_read(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref)
    for reply in (await gateway.get(link, Origin=ONE), await preflight(gateway, link, ONE)):
        assert cors_of(reply) == {}
        assert "Vary" not in reply.headers


async def test_with_a_star_every_origin_may_read(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS="*")
    link = gateway.link(photo.ref)
    for reply in (await gateway.get(link, Origin=STRANGER), await gateway.get(link), await gateway.head(link)):
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert "Vary" not in reply.headers
        assert "Access-Control-Allow-Credentials" not in reply.headers


async def test_listed_origins_may_read_and_caches_are_told(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS=f"{ONE},{OTHER}")
    link = gateway.link(photo.ref)
    for origin in (ONE, OTHER):
        for reply in (
            await gateway.get(link, Origin=origin),
            await gateway.get(link, Origin=origin, Range="bytes=0-0"),
            await gateway.get(link, Origin=origin, If_None_Match=photo.etag),
        ):
            assert reply.headers["Access-Control-Allow-Origin"] == origin
            assert listed(reply, "Vary") == {"Origin"}


@pytest.mark.parametrize("origin", [STRANGER, "null", "https://app.example.evil.example", "http://app.example", ""])
async def test_with_a_list_another_origin_may_not(gateways: Gateways, photo: Media, origin: str) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS=f"{ONE},{OTHER}")
    link = gateway.link(photo.ref)
    for reply in (await gateway.get(link, Origin=origin), await preflight(gateway, link, origin)):
        assert cors_of(reply) == {}
        assert listed(reply, "Vary") == {"Origin"}


async def test_a_script_may_read_what_a_player_needs(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS=ONE)
    reply = await gateway.get(gateway.link(photo.ref), Origin=ONE)
    needed = {"Accept-Ranges", "Content-Length", "Content-Range", "ETag", "Content-Disposition", "X-Request-Id"}
    assert needed <= listed(reply, "Access-Control-Expose-Headers")


async def test_a_preflight_allows_ranges_and_conditions(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS=ONE)
    reply = await preflight(gateway, gateway.link(photo.ref), ONE)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Access-Control-Allow-Origin"] == ONE
    assert listed(reply, "Access-Control-Allow-Methods") == {"GET", "HEAD", "OPTIONS"}
    allowed = {name.lower() for name in listed(reply, "Access-Control-Allow-Headers")}
    assert {"range", "if-none-match", "if-range", "if-modified-since"} <= allowed
    assert int(reply.headers["Access-Control-Max-Age"]) > 0


async def test_a_script_may_read_why_it_is_refused(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS=ONE)
    link = gateway.link(photo.ref)
    for reply, status in (
        (await gateway.get(link + "x", Origin=ONE), 403),
        (await gateway.get(link, Origin=ONE, Range="bytes=99999999-"), 416),
        (await gateway.get(link, Origin=ONE, If_Match='"x"'), 412),
        (await gateway.ask("POST", link, headers={"Origin": ONE}), 405),
        (await gateway.get("/media/", Origin=ONE), 403),
    ):
        assert reply.status == status
        assert reply.headers["Access-Control-Allow-Origin"] == ONE
        # Besides, an error is a page to a person.
        assert listed(reply, "Vary") == {"Origin", "Accept", "Sec-Fetch-Dest"}


async def test_links_under_a_mount_path_are_media_too(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS=ONE, GATEWAY_PUBLIC_URL="https://media.example/a")
    target = gateway.link(photo.ref).removeprefix("https://media.example")
    at = f"http://{gateway.settings.listen}"
    for path in (target, target.removeprefix("/a")):
        reply = await gateway.get(at + path, Origin=ONE)
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, ONE)


async def test_what_is_no_media_is_for_no_other_origin(gateways: Gateways) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS="*")
    for method, path in (("GET", "/healthz"), ("POST", "/links"), ("OPTIONS", "/links"), ("GET", "/nothing")):
        assert cors_of(await gateway.ask(method, path, headers={"Origin": ONE})) == {}
