"""Rules of every request on every route: its host is one, and its body is not announced as too large."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from yarl import URL

from proxy.sandbox import Media
from tests.functional.express import Start, request, warm
from tests.functional.harness import Gateways, Reply, RunningGateway, bare, logged

NOT_HOSTS = ["a b", "a/../b", "a@b", "a:b", "[::1", "a%2fb", "\u00e9"]
HOSTS = ["", "a", "under_score", "[::1]:80", "a.example.", "127.0.0.1:1"]
ROUTES = [
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/auth"),
    ("GET", "/console"),
    ("GET", "/media/x"),
    ("HEAD", "/media/x"),
    ("OPTIONS", "/media/x"),
    ("GET", "/2010-04-01/Accounts/x/Messages/y/Media"),
    ("DELETE", "/api/laml/2010-04-01/Accounts/x/Messages/y/Media/z"),
    ("POST", "/links"),
    ("POST", "/purge"),
    ("POST", "/revoke"),
    ("POST", "/nothing"),
    ("DELETE", "/healthz"),
]
LIMIT = "1000"


async def tell(gateway: RunningGateway, target: str, *lines: str, method: str = "GET", body: str = "") -> Reply:
    """Return the answer to a request with these field lines alone, whose sender leaves once it has it."""
    url = URL(gateway.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        head = "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", *lines, ""))
        writer.write(f"{head}{body}".encode("latin-1"))
        reply = bare(await reader.readuntil(b"\r\n\r\n"))
        length = 0 if method == "HEAD" else int(reply.headers.get("Content-Length", "0"))
        return Reply(reply.status, reply.headers, await reader.readexactly(length))
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def gateway(gateways: Gateways) -> RunningGateway:
    return await gateways.start(open_console=True, GATEWAY_LIMIT_REQUEST_BODY_BYTES=LIMIT)


def assert_refused(reply: Reply, status: int, *, is_head: bool = False) -> None:
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/problem+json")
    assert reply.headers["Cache-Control"] == "no-store"
    assert is_head or f'"status": {status}' in reply.body.decode()


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_malformed_host_is_400_on_every_route(gateway: RunningGateway, method: str, path: str) -> None:
    for host in NOT_HOSTS:
        reply = await tell(gateway, path, f"Host: {host}", "Connection: close", method=method)
        assert_refused(reply, 400, is_head=method == "HEAD")
        # It repeats none of it.
        assert host not in reply.body.decode("latin-1")


async def test_a_host_of_any_good_form_is_served(gateway: RunningGateway, photo: Media) -> None:
    target = URL(gateway.link(photo.ref), encoded=True).raw_path_qs
    for host in HOSTS:
        assert (await tell(gateway, target, f"Host: {host}", "Connection: close")).status == 200


@pytest.mark.parametrize(("authority", "status"), [("a", 200), ("a@b", 400), ("[::1", 400), ("a:b", 400)])
async def test_the_host_of_a_whole_target_is_one_too(gateway: RunningGateway, authority: str, status: int) -> None:
    reply = await tell(gateway, f"http://{authority}/healthz", "Host: a", "Connection: close")
    assert reply.status == status


async def test_a_bad_link_at_a_malformed_host_is_not_logged(gateway: RunningGateway) -> None:
    async with logged(as_json=False) as logs:
        await tell(gateway, "/media/x", "Host: a/../b", "Connection: close")
    assert " status=400 " in logs.access.getvalue()
    assert "a/../b" not in logs.access.getvalue()


async def test_the_express_lane_answers_no_host_that_is_none(start: Start, photo: Media) -> None:
    at = await start()
    async with at.connection() as connection:
        good = at.get(photo.ref)
        await warm(connection, at, good)
        for host in NOT_HOSTS:
            before = at.express
            for _ in range(2):
                assert (await connection.ask(good.replace(b"Host: a", f"Host: {host}".encode("latin-1")))).status == 400
            assert at.express == before


async def test_the_address_for_metrics_has_no_other_rules(gateways: Gateways, tmp_path: Path) -> None:
    place = tmp_path / "metrics.sock"
    await gateways.start(GATEWAY_METRICS_LISTEN=f"unix:{place}", GATEWAY_LIMIT_REQUEST_BODY_BYTES=LIMIT)
    for lines, status in [
        (("Host: a",), 200),
        (("Host: a b",), 400),
        (("Host: a", "Content-Length: 1001"), 413),
    ]:
        reader, writer = await asyncio.open_unix_connection(str(place))
        writer.write(request("/metrics", *lines[1:], "Connection: close").replace(b"Host: a", lines[0].encode()))
        assert bare(await reader.readuntil(b"\r\n\r\n")).status == status
        writer.close()


# --- bodies that are too large ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_length_past_the_limit_is_413_on_every_route(gateway: RunningGateway, method: str, path: str) -> None:
    lines = ("Host: a", "Content-Type: application/json", "Content-Length: 1001")
    async with logged(as_json=False) as logs:
        # Nothing of the body is sent, so an answer that waited for it would be another one.
        reply = await tell(gateway, path, *lines, method=method)
    assert_refused(reply, 413, is_head=method == "HEAD")
    assert reply.headers["Connection"] == "close"
    assert "Traceback" not in logs.program.getvalue()
    assert " error" not in logs.program.getvalue()


@pytest.mark.parametrize("length", ["1001", "99999999999", "18446744073709551615"])
async def test_any_length_past_the_limit_is_413(gateway: RunningGateway, length: str) -> None:
    reply = await tell(gateway, "/links", "Host: a", f"Content-Length: {length}", method="POST")
    assert_refused(reply, 413)


async def test_the_limit_itself_is_not_past_it(gateway: RunningGateway) -> None:
    lines = ("Host: a", "Content-Length: 1000", "Connection: close")
    assert (await tell(gateway, "/healthz", *lines, body=" " * 1000)).status == 200


async def test_a_body_that_is_not_wanted_is_not_asked_for(gateway: RunningGateway) -> None:
    lines = ("Host: a", "Expect: 100-continue", "Content-Type: application/json")
    reply = await tell(gateway, "/links", *lines, "Content-Length: 1001", method="POST")
    assert_refused(reply, 413)
    assert (await tell(gateway, "/links", *lines, "Content-Length: 2", method="POST", body="{}")).status == 100


async def test_a_sender_that_leaves_after_its_413_logs_no_error(gateway: RunningGateway) -> None:
    url = URL(gateway.url)
    async with logged(as_json=False) as logs:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(request("/links", "Content-Length: 100000", method="POST"))
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
        writer.write(b"{" * 10_000)
        writer.transport.abort()
        assert (await gateway.get("/healthz")).status == 200
    assert "Traceback" not in logs.program.getvalue()
    assert " error" not in logs.program.getvalue()
