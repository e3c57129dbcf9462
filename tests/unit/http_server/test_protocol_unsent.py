"""The bytes that the kernel may hold for one client."""

from __future__ import annotations

import socket
from pathlib import Path

import aiohttp
from aiohttp import web

from proxy.http_server.protocol import UNSENT_BYTES
from proxy.http_server.runner import GatewayRunner
from proxy.telemetry.metrics import Metrics


async def _answer(request: web.Request) -> web.Response:
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    if connection.family is socket.AF_UNIX:
        return web.Response(text="unix")
    return web.Response(text=str(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)))


def _runner() -> GatewayRunner:
    app = web.Application()
    app.router.add_get("/", _answer)
    return GatewayRunner(
        app, max_connections=10, header_seconds=5, send_seconds=5, keepalive_seconds=5, drain_seconds=1, express=False,
        metrics=Metrics(),
    )  # fmt: skip


async def test_the_kernel_holds_little_unsent_for_a_slow_tcp_client() -> None:
    runner = _runner()
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/") as answer:
            assert int(await answer.text()) == UNSENT_BYTES
    finally:
        await runner.cleanup()


async def test_a_client_of_a_unix_socket_has_no_such_bound(tmp_path: Path) -> None:
    runner = _runner()
    await runner.setup()
    try:
        path = tmp_path / "s"
        await web.UnixSite(runner, path).start()
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://gateway/") as answer:
            assert await answer.text() == "unix"
    finally:
        await runner.cleanup()
