"""A connection that was accepted is served, also if the server stops accepting at that very moment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import uvloop
from aiohttp import web

from proxy.app import create_app, open_gateway
from proxy.http_server.runner import GatewayRunner
from proxy.sandbox import Sandbox
from proxy.settings import load
from proxy.telemetry.metrics import Metrics
from tests.functional.harness import environment

ASK = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_was_accepted_when_accepting_stops_is_answered(
    tmp_path_factory: pytest.TempPathFactory, make_loop: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")

    async def stop_after(turns: int) -> list[bytes | None]:
        """Return what each of some clients has got: None if its connection still waits to be accepted."""
        async with Sandbox() as sandbox:
            settings = await asyncio.to_thread(load, environment(sandbox, folder), None)
            async with open_gateway(settings, Metrics()) as gateway:
                runner = GatewayRunner(
                    create_app(gateway), max_connections=100, header_seconds=5, send_seconds=5, keepalive_seconds=5,
                    drain_seconds=1, express=True, metrics=Metrics(),
                )  # fmt: skip
                await runner.setup()
                try:
                    return await _converse(runner, turns)
                finally:
                    await runner.cleanup()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        answers = runner.run(stop_after(turns))
    assert [answer for answer in answers if answer is not None and not answer.startswith(b"HTTP/1.1 200")] == []


async def _converse(runner: GatewayRunner, turns: int) -> list[bytes | None]:
    with ExitStack() as scope:
        listening = scope.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
        # Another process has the socket too, so that who still waits to be accepted goes on waiting.
        scope.enter_context(listening.dup())
        listening.setblocking(False)
        await runner.serve_at(listening)
        clients = [scope.enter_context(socket.create_connection(listening.getsockname())) for _ in range(20)]
        for client in clients:
            client.sendall(ASK)
            client.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
        await runner.stop_accepting()
        server = runner.server
        assert isinstance(server, web.Server)
        accepted = len(server.connections)
        loop = asyncio.get_running_loop()
        answers: list[bytes | None] = [
            await asyncio.wait_for(loop.sock_recv(client, 65_536), 10) for client in clients[:accepted]
        ]
        for client in clients[accepted:]:
            try:
                answers.append(client.recv(65_536))
            except BlockingIOError:
                answers.append(None)
            except ConnectionResetError as error:
                answers.append(repr(error).encode())
        return answers
