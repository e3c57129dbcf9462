"""Connections: where they are accepted, how many, how long a head may take; and the drain."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import psutil
import pytest
from yarl import URL

from proxy.sandbox import Media, Sandbox, StallBody
from tests.functional.harness import Gateways, RunningGateway, bare, converse

READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


class Connection:
    """One connection that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, octets: bytes) -> tuple[bytes, bytes]:
        """Read head and body of the next answer."""
        self.writer.write(octets)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(bare(head).headers["Content-Length"])
        return head, await self.reader.readexactly(length)

    async def ended(self) -> bool:
        """Wait for the other side's end."""
        with suppress(ConnectionResetError):
            return await self.reader.read() == b""
        return True


@asynccontextmanager
async def connected(gateway: RunningGateway) -> AsyncIterator[Connection]:
    url = URL(gateway.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


# --- where ----------------------------------------------------------------------------------------------------


async def test_a_unix_socket_is_served_and_unlinked(gateways: Gateways, photo: Media, tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    async with gateways.running(GATEWAY_LISTEN=f"unix:{path}", GATEWAY_PUBLIC_URL="http://media.example") as gateway:
        link = URL(gateway.link(photo.ref), encoded=True)
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
            session.get(link) as response,
        ):
            assert (response.status, len(await response.read())) == (200, photo.length)
    assert not await asyncio.to_thread(path.exists)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
async def test_an_ipv6_address_is_served(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LISTEN="[::1]:0")
    assert gateway.url.startswith("http://[::1]:")
    assert (await gateway.get(gateway.link(photo.ref, ip="::1/128"))).status == 200


async def test_the_port_that_was_bound_stands_in_the_links(gateway: RunningGateway) -> None:
    assert URL(gateway.url).port not in (0, None)


# --- how many, how long ---------------------------------------------------------------------------------------


async def test_a_connection_beyond_the_limit_is_told_503_and_closed(gateways: Gateways) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_CONNECTIONS="2")
    async with connected(gateway) as first, connected(gateway) as second:
        assert b" 200 OK" in (await first.ask(READY))[0]
        assert b" 200 OK" in (await second.ask(READY))[0]
        # With a request under way, and without one.
        for octets in (READY, b"", b"POST /links HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5_000):
            refused = bare(await converse(gateway, octets))
            assert (refused.status, refused.headers["Connection"]) == (503, "close")
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert int(refused.headers["Retry-After"]) >= 1
            assert refused.json["status"] == 503
        assert b" 200 OK" in (await first.ask(READY))[0]
        second.writer.write(READY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert b" 200 OK" in await second.reader.read()
    assert (await gateway.get("/readyz")).status == 200


async def test_refused_connections_are_bounded_too(gateways: Gateways) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_CONNECTIONS="1")
    async with connected(gateway) as first:
        assert b" 200 OK" in (await first.ask(READY))[0]
        url = URL(gateway.url)
        opened = [await asyncio.open_connection(url.host, url.port) for _ in range(120)]
        try:
            # All of them end, though no client closes any; those beyond the bound without a word.
            answers = await asyncio.gather(*(_all_of(reader) for reader, _ in opened))
            # Their places are free again after a while, though no client closed its side.
            async with asyncio.timeout(60):
                while not await converse(gateway, b""):
                    pass
        finally:
            for _, writer in opened:
                writer.close()
        assert sum(answer.startswith(b"HTTP/1.1 503 ") for answer in answers) == 100
        assert sum(answer == b"" for answer in answers) == 20


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_a_connection_being_refused_does_not_delay_the_end(gateways: Gateways) -> None:
    async with gateways.running(GATEWAY_LIMIT_CONNECTIONS="1") as gateway:
        url = URL(gateway.url)
        _, first = await asyncio.open_connection(url.host, url.port)
        reader, second = await asyncio.open_connection(url.host, url.port)
        await reader.readuntil(b"\r\n\r\n")
    assert not [held for held in psutil.Process().net_connections("tcp") if held.laddr.port == url.port]
    for writer in (first, second):
        writer.close()


@pytest.mark.parametrize("octets", [b"", b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_does_not_come_ends_the_connection(gateways: Gateways, octets: bytes) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_HEADER_SECONDS="1")
    assert await converse(gateway, octets) == b""


async def test_a_late_head_ends_a_kept_connection(gateways: Gateways) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_HEADER_SECONDS="1")
    async with connected(gateway) as connection:
        for _ in range(2):
            assert b" 200 OK" in (await connection.ask(READY))[0]
        connection.writer.write(READY[:20])
        assert await connection.ended()


async def test_an_answer_may_take_longer_than_a_head(
    gateways: Gateways, sandbox: Sandbox, photo: Media, film: Media
) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_HEADER_SECONDS="1")
    rule = sandbox.fault(StallBody(after=100), media_sid=str(film.ref.media))
    target = gateway.link(film.ref).removeprefix(gateway.url)
    async with connected(gateway) as slow, connected(gateway) as idle:
        slow.writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        # The other connection's end tells that the time for a head is over.
        assert await idle.ended()
        rule.release()
        assert len(bare(await slow.reader.read()).body) == film.length


async def test_an_idle_connection_is_kept_for_its_own_time(gateways: Gateways) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_HEADER_SECONDS="1", GATEWAY_LIMIT_KEEPALIVE_SECONDS="30")
    async with connected(gateway) as kept:
        assert b" 200 OK" in (await kept.ask(READY))[0]
        async with connected(gateway) as idle:
            assert await idle.ended()
        assert b" 200 OK" in (await kept.ask(READY))[0]


async def test_an_idle_connection_ends_after_the_keep_alive_time(gateways: Gateways) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_KEEPALIVE_SECONDS="1")
    async with connected(gateway) as kept:
        assert b" 200 OK" in (await kept.ask(READY))[0]
        assert await kept.ended()


async def test_an_answer_before_its_request_s_end_is_the_last(gateway: RunningGateway) -> None:
    head = b"POST /links HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    async with connected(gateway) as connection:
        answered, _ = await connection.ask(head)
        assert b" 401 " in answered
        assert b"\r\nConnection: close\r\n" in answered
        connection.writer.write(b"x" * 10)
        assert await connection.ended()


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_400_that_repeats_nothing(gateway: RunningGateway, octets: bytes) -> None:
    refused = bare(await converse(gateway, octets))
    assert (refused.status, refused.headers["Connection"]) == (400, "close")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json["detail"] == "The request is not well-formed HTTP."


# --- drain ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["0", "1"])
async def test_what_takes_longer_than_the_drain_is_cut_off(
    gateways: Gateways, sandbox: Sandbox, film: Media, seconds: str
) -> None:
    sandbox.fault(StallBody(after=100_000), media_sid=str(film.ref.media))
    async with gateways.running(GATEWAY_DRAIN_SECONDS=seconds) as gateway:
        target = gateway.link(film.ref).removeprefix(gateway.url)
        url = URL(gateway.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert bare(head).headers["Content-Length"] == str(film.length)
    # Its end is seen as an end too early.
    with suppress(ConnectionResetError):
        assert len(await reader.read()) < film.length
    writer.close()


async def test_an_idle_connection_does_not_hold_up_the_end(gateways: Gateways) -> None:
    async with gateways.running(GATEWAY_DRAIN_SECONDS="3600") as gateway:
        url = URL(gateway.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        connection = Connection(reader, writer)
        assert b" 200 OK" in (await connection.ask(READY))[0]
        _, silent = await asyncio.open_connection(url.host, url.port)
    assert await connection.ended()
    writer.close()
    silent.close()


async def test_a_client_that_stops_reading_is_cut_off(gateways: Gateways, sandbox: Sandbox) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_SEND_SECONDS="1")
    # More than the kernel takes for a client that reads nothing.
    (long,) = (await sandbox.add_message([("video/mp4", bytes(30_000_000))])).media
    target = gateway.link(long.ref).removeprefix(gateway.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", URL(gateway.url).port))
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
        watch = select.poll()
        watch.register(client, 0)  # a reset alone
        assert await asyncio.to_thread(watch.poll, 30_000)


# --- the log --------------------------------------------------------------------------------------------------


async def test_a_closed_listener_s_address_can_still_be_logged(
    gateways: Gateways, caplog: pytest.LogCaptureFixture
) -> None:
    # The log's own thread forms a line when it comes to it.
    caplog.set_level("INFO", "media_gateway.server")
    async with gateways.running() as gateway:
        url = gateway.url
    (began,) = [record for record in caplog.records if record.msg.startswith("listening at")]
    assert f"listening at {url}," in began.getMessage()
