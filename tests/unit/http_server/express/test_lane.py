"""The lane stays off if aiohttp lacks one of the internals that it needs."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil
import pytest
from aiohttp.web_protocol import RequestHandler

from proxy.http_server.express.lane import ExpressLane, express_lane
from proxy.links import LinkMinter, LinkPolicy
from proxy.sandbox import Sandbox
from tests.functional.express import request, station
from tests.functional.harness import KEY, environment


@pytest.mark.parametrize("internal", ["_waiter", "_messages", "_paused", "_request_count"])
async def test_the_lane_stays_off_if_aiohttp_lacks_an_internal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, internal: str
) -> None:
    async with Sandbox() as sandbox:
        async with station(environment(sandbox, tmp_path)) as at:
            assert isinstance(express_lane(at.gateway), ExpressLane)
        with monkeypatch.context() as patched:
            names = [name for name in RequestHandler.__slots__ if name != internal]
            patched.setattr("proxy.http_server.express.lane.RequestHandler", type("Other", (), dict.fromkeys(names)))
            with caplog.at_level(logging.WARNING, "media_gateway.server"):
                assert express_lane(at.gateway) is None
    assert internal in caplog.text


async def test_the_lane_is_off_where_it_is_not_wanted(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        async with station(environment(sandbox, tmp_path / "off", GATEWAY_EXPRESS="0")) as at:
            assert at.server.lane is None
        async with station(environment(sandbox, tmp_path / "on")) as at:
            assert at.server.lane is not None


async def test_what_is_remembered_of_many_links_is_bounded(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        (photo,) = (await sandbox.add_message([("image/png", b"photo")])).media
        environ = environment(sandbox, tmp_path, GATEWAY_LINK_WINDOW="1")
        async with station(environ) as at, at.connection() as connection:
            for _ in range(2):
                await connection.ask(at.get(photo.ref))
            lane = at.server.lane
            assert lane is not None
            peer = lane.peer(("127.0.0.1", 1))
            minter = LinkMinter(at.minter.origin, KEY, LinkPolicy(window=1), at.clock)
            before = psutil.Process().memory_info().rss
            answered = 0
            for ttl in range(1, 40_001):
                target = minter.url(photo.ref, ttl=ttl).removeprefix(minter.origin)
                answered += lane.answer(request(target), peer) is not None
            grown = psutil.Process().memory_info().rss - before
    assert answered == 40_000
    # However many ends the links have, this second's head is made once.
    assert (len(lane._links), len(lane._made._made)) == (16_384, 1)
    # Some 900 bytes a link.
    assert grown < 60_000_000


async def test_what_is_remembered_of_many_heads_and_claims_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.http_server.express.lane._HEADS", 20)
    monkeypatch.setattr("proxy.http_server.express.lane._SHAPES", 10)
    async with Sandbox() as sandbox:
        (photo,) = (await sandbox.add_message([("image/png", b"photo")])).media
        async with station(environment(sandbox, tmp_path)) as at, at.connection() as connection:
            await connection.ask(at.get(photo.ref))
            for number in range(30):
                await connection.ask(at.get(photo.ref, f"User-Agent: {number}", filename=f"{number}.png"))
            await connection.ask(at.get(photo.ref, f"User-Agent: {'x' * 3_000}"))
            await connection.ask(at.get(photo.ref, "User-Agent: 29", filename="x" * 255))
            lane = at.server.lane
            assert lane is not None
    assert (len(lane._heads), len(lane._shapes), len(lane._made._kinds)) == (20, 10, 1)


async def test_longer_links_and_heads_are_not_remembered(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        (photo,) = (await sandbox.add_message([("image/png", b"photo")])).media
        async with station(environment(sandbox, tmp_path)) as at, at.connection() as connection:
            for _ in range(3):
                assert (await connection.ask(at.get(photo.ref, f"User-Agent: {'x' * 2_048}"))).status == 200
                assert (await connection.ask(at.get(photo.ref, filename="ü" * 255))).status == 200
            assert at.express == 0
