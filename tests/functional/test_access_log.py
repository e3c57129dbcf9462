"""The access log: one line for each answer, what it says, and who is believed about a client."""

from __future__ import annotations

import json
import re
import socket

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from proxy.sandbox import Media, Sandbox, Truncate
from proxy.telemetry import access_log
from tests.functional.express import until
from tests.functional.harness import CLIENT, Gateways, bare, converse, logged

ID = r"[0-9a-f]{32}"


async def test_every_answer_has_one_line_in_json(gateways: Gateways, photo: Media, film: Media) -> None:
    async with logged() as logs, gateways.running() as gateway:
        link, long = gateway.link(photo.ref), gateway.link(film.ref)
        replies = [
            await gateway.get(link, User_Agent="agent/1"),
            await gateway.get(link),
            await gateway.head(link),
            await gateway.get(link, If_None_Match=photo.etag),
            await gateway.get(link, Range="bytes=0-9"),
            await gateway.get(long),
            await gateway.get(long, Range="bytes=0-9,3000000-3000009"),
            await gateway.get(link + "x"),
            await gateway.mint({"media": [{"url": "x"}]}),
            await gateway.get("/nothing"),
        ]
    entries = logs.entries
    assert [entry["status"] for entry in entries] == [200, 200, 200, 304, 206, 200, 206, 403, 400, 404]
    assert [entry["request_id"] for entry in entries] == [reply.headers["X-Request-Id"] for reply in replies]
    assert [entry["bytes"] for entry in entries] == [len(reply.body) for reply in replies]
    assert [entry.get("cache") for entry in entries] == [reply.headers.get("Cache-Status") for reply in replies]
    assert [entry.get("problem") for entry in entries][-3:] == ["link-malformed", "bad-request", "not-found"]
    first = entries[0]
    assert first.keys() == {
        "time", "level", "logger", "message", "client", "method", "target", "status", "bytes", "seconds", "cache",
        "user_agent", "request_id",
    }  # fmt: skip
    assert (first["client"], first["method"], first["user_agent"]) == ("127.0.0.1", "GET", "agent/1")
    assert re.fullmatch(rf"/media/{photo.ref}\?expires=\d+&key=k1&signature=\*\*\*", str(first["target"]))
    assert isinstance(first["seconds"], float)
    assert [entry.get("client_id") for entry in entries if entry["target"] == "/links"] == [CLIENT[0]]
    assert not [entry for entry in entries if "aborted" in entry]


async def test_an_error_outside_every_handler_is_logged_with_its_id(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> None:
        raise RuntimeError("no route is found")

    async with logged() as logs, gateways.running() as gateway:
        with monkeypatch.context() as patched:
            patched.setattr(web.UrlDispatcher, "resolve", failing)
            reply = await gateway.get("/healthz")
    (said,) = [line for line in logs.said if "outside every handler" in str(line["message"])]
    assert (reply.status, said["request_id"]) == (500, reply.headers["X-Request-Id"])


async def test_every_answer_has_one_line_in_text(gateways: Gateways, photo: Media) -> None:
    async with logged(as_json=False) as logs, gateways.running() as gateway:
        reply = await gateway.get(gateway.link(photo.ref), User_Agent="an agent")
    (line,) = logs.lines
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info media_gateway\.access access client=127\.0\.0\.1 method=GET "
        r'target="/media/[^" ]+signature=\*\*\*" status=200 bytes=\d+ cache="media-gateway; [^"]+" '
        rf'user_agent="an agent" seconds=[0-9.e-]+ request_id={reply.headers["X-Request-Id"]}',
        line,
    )


@pytest.mark.parametrize("as_json", [False, True])
async def test_nothing_that_a_client_sends_breaks_a_line(gateways: Gateways, as_json: bool) -> None:
    async with logged(as_json=as_json) as logs, gateways.running() as gateway:
        for octets in (
            b"GET /media/%0a%0d\x1b[31m HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            b"GET /a%0Astatus=200 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            b'GET /a"b HTTP/1.1\r\nHost: a\r\nUser-Agent: x" y=1\xe2\x80\xa8\xc2\x85\r\nConnection: close\r\n\r\n',
            b"GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xfe\tb\r\nConnection: close\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close\r\n\r\n",
        ):
            await converse(gateway, octets)
    text = logs.access.getvalue()
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert len(logs.lines) in {4, 5}  # the parser may refuse the first before it is a request
    if as_json:
        assert all(isinstance(json.loads(line), dict) for line in logs.lines)


async def test_an_answer_that_was_cut_is_logged_so(gateways: Gateways, sandbox: Sandbox, film: Media) -> None:
    sandbox.fault(Truncate(1_500_000))
    async with logged() as logs, gateways.running() as gateway:
        with pytest.raises(aiohttp.ClientError):
            await gateway.get(gateway.link(film.ref))
    (entry,) = logs.entries
    assert (entry["aborted"], entry["status"], entry["problem"]) == (True, 200, "upstream-truncated")
    sent = entry["bytes"]
    assert isinstance(sent, int)
    assert 0 < sent <= 1_500_000
    assert str(entry["cache"]).startswith("media-gateway; fwd=")


def hardly_buffered(address: aiohttp.AddrInfoType) -> socket.socket:
    """Make a socket that has taken in little by itself when its program goes away."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    return made


async def test_a_client_that_goes_away_is_logged_without_error(gateways: Gateways, film: Media) -> None:
    connector = aiohttp.TCPConnector(socket_factory=hardly_buffered)
    async with logged() as logs, gateways.running() as gateway:
        link = gateway.link(film.ref)
        await gateway.get(link)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(URL(link, encoded=True)) as response,
        ):
            await response.content.readexactly(1_000)
            assert response.connection is not None
            assert response.connection.transport is not None
            response.connection.transport.abort()
    assert logs.entries[-1]["aborted"] is True
    assert "Traceback" not in logs.program.getvalue()


async def test_the_client_behind_trusted_proxies_is_named(gateways: Gateways) -> None:
    async with logged() as logs:
        async with gateways.running(GATEWAY_TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8") as gateway:
            for forwarded in ("203.0.113.7", "198.51.100.1, 203.0.113.7, 10.0.0.1", "nonsense", "2001:db8::1"):
                await gateway.get("/healthz", X_Forwarded_For=forwarded)
        async with gateways.running() as wary:
            await wary.get("/healthz", X_Forwarded_For="203.0.113.7")
    assert [entry["client"] for entry in logs.entries] == [
        "203.0.113.7", "203.0.113.7", "127.0.0.1", "2001:db8::1", "127.0.0.1",
    ]  # fmt: skip


async def test_a_request_id_is_believed_from_a_trusted_proxy_alone(gateways: Gateways) -> None:
    trusting = await gateways.start(GATEWAY_TRUSTED_PROXIES="127.0.0.1")
    wary = await gateways.start(GATEWAY_CACHE_DIR=str(gateways.folder / "wary"))
    given = "request-0123456789"
    reply = await trusting.get("/nothing", X_Request_Id=given)
    assert (reply.headers["X-Request-Id"], reply.json["instance"]) == (given, given)
    for bad in ("short", "a" * 65, "spaces in it", 'quo"te-quote', "ünïcode-id"):
        assert re.fullmatch(ID, (await trusting.get("/nothing", X_Request_Id=bad)).headers["X-Request-Id"])
    assert re.fullmatch(ID, (await wary.get("/nothing", X_Request_Id=given)).headers["X-Request-Id"])


async def test_request_ids_differ(gateways: Gateways) -> None:
    gateway = await gateways.start()
    seen = {(await gateway.get("/healthz")).headers["X-Request-Id"] for _ in range(20)}
    assert len(seen) == 20


async def test_an_unknown_expectation_is_answered_and_logged(gateways: Gateways) -> None:
    async with logged() as logs, gateways.running() as gateway:
        octets = b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nConnection: close\r\n\r\n"
        reply = bare(await converse(gateway, octets))
    (entry,) = logs.entries
    assert (reply.status, entry["status"], entry["problem"]) == (417, 417, "expectation-failed")
    assert reply.json["instance"] == entry["request_id"] == reply.headers["X-Request-Id"]
    assert entry["bytes"] == len(reply.body)


async def test_the_end_of_a_gateway_writes_what_is_noted(gateways: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "FLUSH_SECONDS", 3_600)
    async with logged() as logs:
        async with gateways.running() as gateway:
            await gateway.get("/healthz")
            await gateway.get("/nothing")
            assert not logs.lines
        await until(lambda: len(logs.lines) == 2)
    assert [entry["status"] for entry in logs.entries] == [200, 404]


async def test_the_end_of_a_log_writes_what_is_noted(gateways: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "FLUSH_SECONDS", 3_600)
    gateway = await gateways.start()
    async with logged() as logs:
        await gateway.get("/healthz")
    assert [entry["status"] for entry in logs.entries] == [200]


async def test_our_own_fault_is_written_behind_the_answers_before_it(
    gateways: Gateways, photo: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(access_log, "FLUSH_SECONDS", 3_600)
    monkeypatch.setattr("proxy.web.media.links.verify", broken)
    async with logged() as logs, gateways.running() as gateway:
        await gateway.get("/healthz")
        await gateway.get(gateway.link(photo.ref))
        await until(lambda: "a fault" in logs.program.getvalue())
        assert [entry["status"] for entry in logs.entries] == [200]
    assert [entry["status"] for entry in logs.entries] == [200, 500]
