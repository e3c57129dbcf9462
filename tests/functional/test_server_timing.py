"""`Server-Timing` (W3C Server Timing): where it is asked for, on media answers, and for whom a browser reveals it."""

from __future__ import annotations

import re

import pytest

from proxy.sandbox import Media
from proxy.web.exchange import ServerTiming
from tests.functional.harness import Gateways, RunningGateway

ONE, STRANGER = "https://app.example", "https://evil.example"
MEASURED = re.compile(r"verify;dur=(\d+\.\d{3}), open;dur=(\d+\.\d{3})")


async def test_without_the_setting_nothing_is_measured(gateway: RunningGateway, photo: Media) -> None:
    reply = await gateway.get(gateway.link(photo.ref))
    assert "Server-Timing" not in reply.headers
    assert "Timing-Allow-Origin" not in reply.headers


async def test_every_media_answer_says_how_long_its_steps_took(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_SERVER_TIMING="1")
    link = gateway.link(photo.ref)
    cold = await gateway.get(link)
    replies = [
        cold,
        await gateway.get(link),
        await gateway.head(link),
        await gateway.get(link, Range="bytes=0-0"),
        await gateway.get(link, Range="bytes=0-0,9-9"),
        await gateway.get(link, If_None_Match=cold.headers["ETag"]),
        await gateway.get(link, Range="bytes=999999999-"),
    ]
    assert [reply.status for reply in replies] == [200, 200, 200, 206, 206, 304, 416]
    for reply in replies:
        assert MEASURED.fullmatch(reply.headers["Server-Timing"])
        assert "Timing-Allow-Origin" not in reply.headers


async def test_other_answers_carry_none(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_SERVER_TIMING="1", GATEWAY_CORS_ORIGINS="*")
    refused = gateway.link(photo.ref)[:-1] + "!"
    replies = [await gateway.get(refused), await gateway.get("/healthz"), await gateway.ask("OPTIONS", refused)]
    assert [reply.status for reply in replies] == [403, 200, 204]
    for reply in replies:
        assert not {"Server-Timing", "Timing-Allow-Origin"} & set(reply.headers)


@pytest.mark.parametrize(
    ("origins", "origin", "told"),
    [("*", STRANGER, "*"), (ONE, ONE, ONE), (ONE, STRANGER, None), (ONE, "", None)],
)
async def test_origins_that_may_read_media_may_see_its_timing(
    gateways: Gateways, photo: Media, origins: str, origin: str, told: str | None
) -> None:
    gateway = await gateways.start(GATEWAY_SERVER_TIMING="1", GATEWAY_CORS_ORIGINS=origins)
    reply = await gateway.get(gateway.link(photo.ref), Origin=origin)
    assert MEASURED.fullmatch(reply.headers["Server-Timing"])
    assert reply.headers.get("Timing-Allow-Origin") == told
    assert reply.headers.get("Access-Control-Allow-Origin") == told


def test_a_step_that_is_taken_again_counts_both_times(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 10.001, 10.0035, 10.0135])
    monkeypatch.setattr("proxy.web.exchange.time.perf_counter", lambda: next(moments))
    timing = ServerTiming()
    for step in ("verify", "open", "open"):
        timing.mark(step)
    assert str(timing) == "verify;dur=1.000, open;dur=12.500"
