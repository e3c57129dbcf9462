"""`/healthz` and `/readyz`."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from proxy.app import create_app, open_gateway
from proxy.sandbox import Sandbox
from proxy.settings import load
from proxy.telemetry.metrics import Metrics
from tests.functional.harness import Gateways, Reply, RunningGateway, environment
from tests.functional.test_errors import assert_problem


def told(reply: Reply) -> tuple[object, object]:
    """Return what the probe tells of the drain and of the cache folder."""
    return reply.json["draining"], reply.json["cache"]


async def test_a_gateway_that_serves_is_alive_and_ready(gateway: RunningGateway, sandbox: Sandbox) -> None:
    for path in ("/healthz", "/readyz"):
        for method in ("GET", "HEAD"):
            reply = await gateway.ask(method, path)
            assert (reply.status, reply.headers["Cache-Control"]) == (200, "no-store")
            assert reply.headers["Content-Type"].partition(";")[0] == "application/json"
            assert bool(reply.body) is (method == "GET")
    # There is no shared tier to be told.
    assert (await gateway.get("/readyz")).json == {"status": "ready", "draining": False, "cache": "writable"}
    assert sandbox.requests == ()


async def test_without_a_cache_folder_it_is_alive_and_not_ready(gateways: Gateways, tmp_path: Path) -> None:
    place = tmp_path / "a-file"
    place.write_text("in the way")
    gateway = await gateways.start(GATEWAY_CACHE_DIR=str(place))
    reply = await gateway.get("/readyz")
    assert_problem(reply, 503, "not-ready")
    assert told(reply) == (False, "unusable")
    assert "cache folder" in str(reply.json["detail"])
    assert str(tmp_path).encode() not in reply.body
    head = await gateway.head("/readyz")
    assert (head.status, head.body, head.headers["Content-Type"]) == (503, b"", "application/problem+json")
    assert (await gateway.get("/healthz")).status == 200


async def test_without_its_cache_folder_it_is_not_ready(gateways: Gateways, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    gateway = await gateways.start(GATEWAY_CACHE_DIR=str(folder))
    assert (await gateway.get("/readyz")).status == 200
    folder.rename(tmp_path / "elsewhere")
    try:
        reply = await gateway.get("/readyz")
        assert_problem(reply, 503, "not-ready")
        assert told(reply) == (False, "unwritable")
        assert str(tmp_path).encode() not in reply.body
    finally:
        (tmp_path / "elsewhere").rename(folder)
    assert (await gateway.get("/readyz")).status == 200


async def test_while_draining_it_is_alive_but_not_ready(
    sandbox: Sandbox, gateway: RunningGateway, tmp_path: Path
) -> None:
    settings = load(environment(sandbox, tmp_path / "drained"), None)
    async with open_gateway(settings, Metrics()) as parts:
        runner = web.AppRunner(create_app(parts), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            at = f"http://127.0.0.1:{runner.addresses[0][1]}"
            assert (await gateway.get(at + "/readyz")).status == 200
            parts.readiness.draining = True
            reply = await gateway.get(at + "/readyz")
            assert_problem(reply, 503, "not-ready")
            assert told(reply) == (True, "writable")
            assert reply.headers["Connection"] == "close"
            assert (await gateway.get(at + "/healthz")).status == 200
        finally:
            await runner.cleanup()
