"""Bad and ended links as a person's browser asks for them: a page; to everyone else problem details."""

from __future__ import annotations

import pytest
from yarl import URL

from proxy.model import MediaSid
from proxy.sandbox import Media, Sandbox, Status
from tests.functional.express import Start, request, warm
from tests.functional.harness import Gateways, Reply, RunningGateway

BROWSER = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
}
VARY = "Accept, Sec-Fetch-Dest"


def assert_page(reply: Reply, status: int) -> None:
    assert reply.status == status
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Vary"] == VARY
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy
    page = reply.body.decode()
    assert f"Error {status}." in page
    assert reply.headers["X-Request-Id"] in page


def assert_problem(reply: Reply, status: int) -> None:
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/problem+json")
    assert (reply.headers["Cache-Control"], reply.headers["Vary"]) == ("no-store", VARY)
    assert reply.json["status"] == status


async def ask(gateway: RunningGateway, url: str, method: str = "GET", **more: str) -> Reply:
    headers = {**BROWSER, **{name.replace("_", "-"): value for name, value in more.items()}}
    return await gateway.ask(method, url, headers=headers)


@pytest.fixture
async def ended(start: Start, photo: Media) -> bytes:
    """Return the answer to a person who opens a link that has ended."""
    at = await start()
    octets = at.get(photo.ref, *(f"{name}: {value}" for name, value in BROWSER.items()), ttl=60)
    async with at.connection() as connection:
        await connection.ask(octets)
        at.clock.now += 200
        reply = await connection.ask(octets)
    assert_page(reply, 410)
    return reply.body


async def test_a_person_with_an_ended_link_is_told_so(ended: bytes) -> None:
    assert b"This link has expired" in ended
    assert b"ask for a new link" in ended


async def test_a_person_s_bad_link_gets_a_page_repeating_nothing(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref, filename="zebra.jpg")
    reply = await ask(gateway, link[:-1], Referer="https://zebra.example/", User_Agent="zebra")
    assert_page(reply, 403)
    page = reply.body.decode()
    for part in ("zebra", photo.sid, photo.ref.account.value, link.partition("signature=")[2][:10], gateway.url):
        assert part not in page


async def test_every_error_of_a_link_has_a_page(gateways: Gateways, sandbox: Sandbox, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_CACHE_NEGATIVE_TTL="0", GATEWAY_LIMIT_RETRY_SECONDS="1")
    link = gateway.link(photo.ref)
    assert (await ask(gateway, link)).status == 200
    assert_page(await ask(gateway, link, Range="bytes=99999999-"), 416)
    assert_page(await ask(gateway, link, If_Match='"other"'), 412)
    assert_page(await ask(gateway, link, method="POST"), 405)
    for status, shown in ((410, 404), (401, 502), (500, 502), (429, 503)):
        sandbox.fault(Status(status, retry_after="77"))
        missing = photo.ref.parent.media(MediaSid.parse(f"ME{status:032x}"))
        reply = await ask(gateway, gateway.link(missing))
        sandbox.clear_faults()
        assert_page(reply, shown)
        assert reply.headers.get("Retry-After") == ("77" if shown == 503 else None)


async def test_too_many_bad_links_have_a_page(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_BAD_SIGNATURES="1")
    bad = gateway.link(photo.ref)[:-43] + "A" * 43
    assert_page(await ask(gateway, bad), 403)
    reply = await ask(gateway, bad)
    assert_page(reply, 429)
    assert int(reply.headers["Retry-After"]) > 0


async def test_below_a_mount_it_is_the_same(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_PUBLIC_URL="http://media.example.com/files")
    bound = gateway.settings.listen
    for mount in ("", "/files"):
        assert_page(await ask(gateway, f"http://{bound}{mount}/media/x"), 403)


async def test_a_head_has_the_fields_of_the_page(gateway: RunningGateway) -> None:
    url = f"{gateway.url}/media/x"
    head, page = await ask(gateway, url, method="HEAD"), await ask(gateway, url)
    assert (head.status, head.body) == (403, b"")
    for name in ("Content-Type", "Content-Length", "Vary", "Content-Security-Policy", "Cache-Control"):
        assert head.headers[name] == page.headers[name]


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "*/*"},
        {"Accept": "text/html;q=0, */*"},
        {"Accept": "application/json"},
        {**BROWSER, "Sec-Fetch-Dest": "image"},
        {**BROWSER, "Sec-Fetch-Dest": "empty"},
    ],
)
async def test_everyone_else_gets_a_problem(gateway: RunningGateway, headers: dict[str, str]) -> None:
    assert_problem(await gateway.ask("GET", "/media/x", headers=headers), 403)


async def test_a_good_answer_does_not_vary(start: Start, photo: Media) -> None:
    at = await start()
    lines = [f"{name}: {value}" for name, value in BROWSER.items()]
    async with at.connection() as connection:
        assert "Vary" not in (await warm(connection, at, at.get(photo.ref, *lines))).headers
        for more in ("Range: bytes=0-9", "If-None-Match: *"):
            reply = await connection.ask(at.get(photo.ref, *lines, more))
            assert reply.status in {206, 304}
            assert "Vary" not in reply.headers


async def test_errors_of_other_routes_stay_problems(gateway: RunningGateway) -> None:
    for path in ("/nothing", "/links", "/auth", "/metrics"):
        reply = await ask(gateway, path)
        assert reply.status >= 400
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert "Vary" not in reply.headers


async def test_origins_that_may_read_media_may_read_a_page(gateways: Gateways) -> None:
    gateway = await gateways.start(GATEWAY_CORS_ORIGINS="https://app.example.com")
    async with gateway.session.get(
        URL(f"{gateway.url}/media/x"), headers={**BROWSER, "Origin": "https://app.example.com"}
    ) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert response.headers["Vary"] == f"{VARY}, Origin"
        assert response.content_type == "text/html"


async def test_bad_links_of_a_person_are_counted(start: Start) -> None:
    at = await start(GATEWAY_LIMIT_BAD_SIGNATURES="1")
    octets = request("/media/x", *(f"{name}: {value}" for name, value in BROWSER.items()))
    async with at.connection() as connection:
        assert [(await connection.ask(octets)).status for _ in range(2)] == [403, 429]
