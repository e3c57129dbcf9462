"""The bytes that are read at a time for a client."""

from __future__ import annotations

import math

import aiohttp
import pytest
from aiohttp import web

from proxy.cache.body import BLOCK, RamBody
from proxy.web.exchange import EXCHANGE, Exchange
from proxy.web.http.problems import problem
from proxy.web.media import delivery


class _Recorded(RamBody):
    """A body that notes the sizes that are asked of it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.sizes: list[int] = []

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        self.sizes.append(size)
        return await super().read(offset, size)


@pytest.mark.parametrize(
    ("slow_seconds", "following"), [(0.0, 65_536), (math.inf, BLOCK)], ids=["a slow client", "a fast client"]
)
async def test_blocks_are_small_for_a_client_that_waits(
    monkeypatch: pytest.MonkeyPatch, slow_seconds: float, following: int
) -> None:
    monkeypatch.setattr(delivery, "_SLOW_SECONDS", slow_seconds)
    content = bytes(range(256)) * 5_000
    body = _Recorded(content)

    async def answer(request: web.Request) -> web.StreamResponse:
        request[EXCHANGE] = Exchange("0", None, problem)
        return await delivery._send(request, dict, 200, body, 0, len(content), math.inf)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/") as answered:
            assert await answered.read() == content
    finally:
        await runner.cleanup()
    assert body.sizes[0] == BLOCK
    assert set(body.sizes[1:-1]) == {following}
