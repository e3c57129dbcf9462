"""Every error is a problem (RFC 9457) with the status that the contract gives it, and no request breaks the gateway."""

from __future__ import annotations

import asyncio
import hashlib

import aiohttp
import pytest
from yarl import URL

from proxy.sandbox import (
    Disconnect,
    Fault,
    Headers,
    Media,
    Overrun,
    Oversize,
    Point,
    Raw,
    RedirectHops,
    RedirectLoop,
    RedirectTo,
    Sandbox,
    StallBody,
    StallHeaders,
    Status,
    Truncate,
)
from tests.functional.harness import Gateways, Reply, RunningGateway, bare, converse, logged

URN = "urn:media-gateway:problem:"


def assert_problem(reply: Reply, status: int, kind: str | None = None) -> None:
    """Check the whole of what the contract says of an error."""
    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    problem = reply.json
    assert {"type", "title", "status", "detail", "instance"} <= problem.keys()
    assert all(isinstance(problem[name], str) and problem[name] for name in ("type", "title", "detail", "instance"))
    assert problem["status"] == status
    assert problem["instance"] == reply.headers["X-Request-Id"]
    assert kind is None or problem["type"] == URN + kind


# --- what the upstream does wrong, before the first byte ------------------------------------------------------

BAD_LENGTHS = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"


@pytest.mark.parametrize(
    ("fault", "point", "status", "kind"),
    [
        (Status(410), Point.CONTENT, 404, "media-not-found"),
        (Status(404), Point.BYTES, 404, "media-not-found"),
        (Status(410), Point.BYTES, 404, "media-not-found"),
        (Status(401), Point.CONTENT, 502, "upstream-refused-credentials"),
        (Status(403), Point.CONTENT, 502, "upstream-refused-credentials"),
        (Status(401), Point.BYTES, 502, None),
        (Status(403), Point.BYTES, 502, None),
        (Status(429, retry_after="77"), Point.CONTENT, 503, "upstream-busy"),
        (Status(429, retry_after="77"), Point.BYTES, 503, "upstream-busy"),
        (Status(500), Point.CONTENT, 502, "upstream-error"),
        (Status(503, retry_after="77"), Point.BYTES, 502, "upstream-error"),
        (Status(418), Point.CONTENT, 502, "upstream-error"),
        (Disconnect(), Point.CONTENT, 502, "upstream-unreachable"),
        (Disconnect(), Point.BYTES, 502, "upstream-unreachable"),
        (Raw(b"\x00\x01 no HTTP at all\r\n\r\n"), Point.CONTENT, 502, None),
        (Raw(BAD_LENGTHS), Point.BYTES, 502, None),
        (RedirectTo("http://127.0.0.1:9/elsewhere"), Point.CONTENT, 502, "upstream-redirect-refused"),
        (RedirectTo("http://169.254.169.254/latest/meta-data/"), Point.CONTENT, 502, "upstream-redirect-refused"),
        (RedirectTo("file:///etc/passwd"), Point.CONTENT, 502, "upstream-redirect-refused"),
        (RedirectTo("//user:pass@evil.example/"), Point.CONTENT, 502, "upstream-redirect-refused"),
        (RedirectLoop(), Point.CONTENT, 502, None),
        (RedirectHops(99), Point.CONTENT, 502, None),
        (Oversize(2_000_000), Point.BYTES, 502, "upstream-too-large"),
        (Truncate(100), Point.BYTES, 502, "upstream-truncated"),
        (Truncate(0), Point.BYTES, 502, "upstream-truncated"),
        (Headers(put=(("Content-Encoding", "gzip"),)), Point.BYTES, 502, "upstream-malformed"),
        (StallHeaders(), Point.CONTENT, 504, "upstream-timeout"),
        (StallHeaders(), Point.BYTES, 504, "upstream-timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_an_upstream_failing_before_the_first_byte_is_a_problem(
    gateways: Gateways,
    sandbox: Sandbox,
    photo: Media,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    point: Point,
    status: int,
    kind: str | None,
) -> None:
    # A short body waits for its end here however busy the machine is.
    monkeypatch.setattr("proxy.web.media.delivery._SOON_SECONDS", 60)
    gateway = await gateways.start(
        GATEWAY_MAX_MEDIA_BYTES="1MB",
        # A sound head takes its time on a busy machine.
        GATEWAY_LIMIT_HEADERS_SECONDS="2" if status == 504 else "20",
        GATEWAY_LIMIT_IDLE_SECONDS="2",
        GATEWAY_CACHE_NEGATIVE_TTL="0",
    )
    sandbox.fault(fault, point=point)
    link = gateway.link(photo.ref)
    reply = await gateway.get(link)
    assert_problem(reply, status, kind)
    if status == 503:
        assert reply.headers["Retry-After"] == "77"
    sandbox.clear_faults()
    # Nothing of it was stored.
    good = await gateway.get(link)
    assert (good.status, good.body) == (200, photo.read())
    assert good.headers["Cache-Status"].startswith("media-gateway; fwd=")


async def test_a_media_that_the_upstream_does_not_know_is_404(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref.parent.media(type(photo.ref.media).parse("ME" + "0" * 32)))
    assert_problem(await gateway.get(link), 404, "media-not-found")


async def test_credentials_that_the_upstream_refuses_are_502(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(TWILIO_AUTH_TOKEN="wrong-token")
    reply = await gateway.get(gateway.link(photo.ref))
    assert_problem(reply, 502, "upstream-refused-credentials")
    assert "WWW-Authenticate" not in reply.headers


async def test_an_upstream_that_is_away_is_502(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_UPSTREAM_URL="http://127.0.0.1:9", GATEWAY_REDIRECT_HOSTS="")
    assert_problem(await gateway.get(gateway.link(photo.ref)), 502, "upstream-unreachable")


async def test_a_body_beyond_its_announced_length_is_never_delivered(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(Overrun(10))
    reply = await gateway.get(gateway.link(photo.ref))
    # What goes beyond the length belongs to the connection and not to the body: it is whole without.
    assert reply.status in {200, 502}
    if reply.status == 200:
        assert hashlib.sha256(reply.body).hexdigest() == photo.sha256


async def test_a_gateway_that_is_full_is_503(gateways: Gateways, sandbox: Sandbox, photo: Media, film: Media) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_FILLS="1")
    rule = sandbox.fault(StallHeaders(), media_sid=film.sid, point=Point.BYTES)
    waiting = asyncio.create_task(gateway.get(gateway.link(film.ref)))
    await rule.reached()
    reply = await gateway.get(gateway.link(photo.ref))
    assert_problem(reply, 503, "overloaded")
    assert int(reply.headers["Retry-After"]) >= 1
    rule.release()
    assert hashlib.sha256((await waiting).body).hexdigest() == film.sha256


# --- after the first byte -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Truncate(1_500_000), StallBody(1_500_000)], ids=["truncated", "stalled"])
@pytest.mark.parametrize("asked", [None, "bytes=0-", "bytes=0-9,1200000-2000000"], ids=["whole", "range", "ranges"])
async def test_a_failure_after_the_first_byte_cuts_the_connection(
    gateways: Gateways, sandbox: Sandbox, film: Media, fault: Fault, asked: str | None
) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_IDLE_SECONDS="1")
    sandbox.fault(fault)
    link = gateway.link(film.ref)
    async with gateway.session.get(URL(link, encoded=True), headers={"Range": asked} if asked else {}) as response:
        assert response.status == (206 if asked else 200)
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            await response.read()
    sandbox.clear_faults()
    again = await gateway.get(link)
    assert hashlib.sha256(again.body).hexdigest() == film.sha256
    assert again.headers["Cache-Status"].startswith("media-gateway; fwd=")


@pytest.mark.parametrize("asked", [None, "bytes=10-4000000", "bytes=4000000-4000009,0-9"])
async def test_a_large_media_failing_before_its_first_byte_is_too(
    gateway: RunningGateway, sandbox: Sandbox, film: Media, asked: str | None
) -> None:
    sandbox.fault(Truncate(0))
    reply = await gateway.get(gateway.link(film.ref), **({"Range": asked} if asked else {}))
    assert_problem(reply, 502, "upstream-truncated")


async def test_ranges_whose_first_part_never_comes_are_a_problem(
    gateway: RunningGateway, sandbox: Sandbox, film: Media
) -> None:
    sandbox.fault(Truncate(1_000_000))
    reply = await gateway.get(gateway.link(film.ref), Range="bytes=4000000-4699999,0-9")
    assert_problem(reply, 502, "upstream-truncated")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("directive", ["no-store", "max-age=60"])
async def test_a_cut_answer_of_unsaid_length_looks_cut(
    gateway: RunningGateway, sandbox: Sandbox, film: Media, version: str, directive: str
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nCache-Control: {directive}\r\nTransfer-Encoding: chunked\r\n"
    sandbox.fault(Raw(head.encode() + b"\r\n100000\r\n" + b"x" * 0x100000 + b"\r\n"), point=Point.BYTES)
    target = gateway.link(film.ref).removeprefix(gateway.url)
    try:
        octets = f"GET {target} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        reply = bare(await converse(gateway, octets))
    except ConnectionResetError:
        return
    assert reply.status == 502


# --- the gateway's own refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/media", 404, "not-found"),
        ("GET", "/nothing?signature=x", 404, "not-found"),
        ("POST", "/nothing", 404, "not-found"),
        ("GET", "/media/%2e%2e/healthz", 403, "link-malformed"),
        ("DELETE", "/healthz", 405, "method-not-allowed"),
        ("GET", "/links", 405, "method-not-allowed"),
        ("POST", "/links", 401, "unauthorized"),
    ],
)
async def test_the_gateways_own_refusals_are_problems(
    gateway: RunningGateway, method: str, path: str, status: int, kind: str
) -> None:
    reply = await gateway.ask(method, path)
    assert_problem(reply, status, kind)
    assert status != 405 or reply.headers["Allow"]
    assert status != 401 or reply.headers["WWW-Authenticate"].startswith("Basic ")


async def test_a_link_s_problem_names_its_request_alone(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref)
    reply = await gateway.get(link + "x")
    assert_problem(reply, 403, "link-malformed")
    assert not set(reply.json) - {"type", "title", "status", "detail", "instance"}
    assert photo.sid not in reply.body.decode()


async def test_a_fault_of_ours_is_500_and_tells_nothing(
    gateways: Gateways, photo: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await gateways.start()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("/etc/secret-path")

    monkeypatch.setattr("proxy.web.media.links.verify", broken)
    async with logged() as logs:
        reply = await gateway.get(gateway.link(photo.ref))
    assert_problem(reply, 500, "internal-error")
    assert b"secret-path" not in reply.body
    assert "RuntimeError" in logs.program.getvalue()


async def test_a_fault_of_ours_after_the_head_cuts_the_connection(
    gateways: Gateways, film: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await gateways.start()
    link = gateway.link(film.ref)
    await gateway.get(link)

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("after the head")

    monkeypatch.setattr("proxy.web.media.delivery._send_run", broken)
    async with logged() as logs:
        with pytest.raises(aiohttp.ClientError):
            await gateway.get(link, Range="bytes=0-9,-10")
    assert "after the head" in logs.program.getvalue()


# --- no HTTP, or none that is well-formed ---------------------------------------------------------------------

CLOSE = "Host: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("octets", "statuses"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        (b"garbage\r\n\r\n", {400}),
        (b"GET\r\n\r\n", {400}),
        (b"GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n", {400, 505}),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", {400}),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nA b: c\r\n\r\n", {400}),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", {400}),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", {400, 431}),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 20_000 + b"\r\n", {400, 431}),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", {400, 414}),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", {400}),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", {400}),
        (b"POST /links HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", {400}),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", {400}),
        (b"GET /media/a\x00b HTTP/1.1\r\n" + CLOSE.encode(), {400, 403}),
        (b"GET /media/\xff\xfe HTTP/1.1\r\n" + CLOSE.encode(), {400, 403}),
        (b"GET /media/%ff%fe HTTP/1.1\r\n" + CLOSE.encode(), {403}),
        (b"GET /media/%2f%2e%2e%2f%00 HTTP/1.1\r\n" + CLOSE.encode(), {403}),
        (b"GET /media/../healthz HTTP/1.1\r\n" + CLOSE.encode(), {403}),
        (b"GET //media/x HTTP/1.1\r\n" + CLOSE.encode(), {403, 404}),
        (b"GET /media\\..\\x HTTP/1.1\r\n" + CLOSE.encode(), {400, 404}),
        (b"GET /media/x#fragment HTTP/1.1\r\n" + CLOSE.encode(), {400, 403}),
        (b"GET /media/" + b"a" * 7_000 + b" HTTP/1.1\r\n" + CLOSE.encode(), {400, 403}),
        (b"GET media/x HTTP/1.1\r\n" + CLOSE.encode(), {400, 404}),
        (b"GET * HTTP/1.1\r\n" + CLOSE.encode(), {400, 404}),
        (b"OPTIONS * HTTP/1.1\r\n" + CLOSE.encode(), {400, 404, 405}),
        (b"GET http:// HTTP/1.1\r\n" + CLOSE.encode(), {400, 404}),
        (b"GET http://[::1/media/x HTTP/1.1\r\n" + CLOSE.encode(), {400, 403}),
        (b"GET http://a:b:c/media/x HTTP/1.1\r\n" + CLOSE.encode(), {400, 403}),
        (b"CONNECT a:443 HTTP/1.1\r\n" + CLOSE.encode(), {400, 404, 405}),
        (b"TRACE /media/x HTTP/1.1\r\n" + CLOSE.encode(), {405}),
        (b"BREW /media/x HTTP/1.1\r\n" + CLOSE.encode(), {400, 405}),
        (b"GET /media/x HTTP/1.1\r\nRange: \xff\r\nOrigin: \xfe\r\nUser-Agent: \xfd\r\n" + CLOSE.encode(), {403}),
        (b"GET /media/x HTTP/1.1\r\nExpect: something\r\n" + CLOSE.encode(), {400, 403, 417}),
        (b"GET /nothing HTTP/1.1\r\nExpect: something\r\n" + CLOSE.encode(), {400, 404, 417}),
        (b"GET /healthz HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nHost: a\r\n\r\n", {200}),
    ],
)  # fmt: skip
async def test_what_is_malformed_is_refused_and_breaks_nothing(
    gateway: RunningGateway, octets: bytes, statuses: set[int]
) -> None:
    async with logged(as_json=False) as logs:
        reply = bare(await converse(gateway, octets))
        assert (await gateway.get("/healthz")).status == 200
    assert reply.status in statuses
    if reply.status != 200:
        assert_problem(reply, reply.status)
    assert reply.headers["Server"] == "media-gateway"
    assert "Traceback" not in logs.program.getvalue()
    assert " error" not in logs.program.getvalue()
