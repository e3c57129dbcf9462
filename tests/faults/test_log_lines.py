"""Lines of the log: each about a request has its id, each about an upstream its account, host and part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Start, Within
from tests.faults.origin import (
    ACCOUNT,
    OTHER,
    REF,
    SMALL,
    Close,
    FaultyOrigin,
    Reset,
    Script,
    Stall,
    announcing,
    good,
    head,
)
from tests.faults.serving import Joins
from tests.functional.harness import RunningGateway, logged
from tests.functional.scraping import Scrape, scrape

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
AWAY: Script = (head("Content-Length: 0", status="503 Away"),)
BROKEN: Script = (head("Content-Length: 0", status="500 Broken"),)
REFUSED: Script = (head("Content-Length: 0", status="401 Unauthorized"),)
CUT: Script = (announcing(len(SMALL)), SMALL[:100_000], Close())


@pytest.fixture
async def cdn() -> AsyncIterator[FaultyOrigin]:
    async with FaultyOrigin().serving() as serving:
        yield serving


def authority(origin: FaultyOrigin) -> str:
    return origin.url.removeprefix("http://")


def redirecting(to: FaultyOrigin) -> Script:
    return (head(f"Location: {to.url}/object", "Content-Length: 0", status="307 Elsewhere"),)


# --- the request's id -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [AWAY, BROKEN, REFUSED, CUT, (Close(),), (Stall(),)])
async def test_every_line_about_a_request_carries_its_id(within: Within, origin: FaultyOrigin, failing: Script) -> None:
    origin.play(failing)
    patience = "1" if failing == (Stall(),) else "20"
    async with logged() as logs, within(GATEWAY_LIMIT_HEADERS_SECONDS=patience) as gateway:
        # One connection, so that what was said of the first request would be said of the second too.
        replies = [await gateway.get(gateway.link(ref)) for ref in (REF, OTHER)]
    said = [line for line in logs.said if line["logger"] in {"media_gateway.web", "media_gateway.upstream"}]
    ids = [reply.headers["X-Request-Id"] for reply in replies]
    assert len(set(ids)) == 2
    assert {line.get("request_id") for line in said} == set(ids)
    assert (said[0]["request_id"], said[-1]["request_id"]) == tuple(ids)
    for line in said:
        assert (line.get("account"), line.get("host"), line.get("part")) == (ACCOUNT, authority(origin), "api"), line


async def test_every_text_line_about_a_request_carries_its_id(within: Within, origin: FaultyOrigin) -> None:
    origin.play(BROKEN)
    async with logged(as_json=False) as logs, within() as gateway:
        reply = await gateway.get(gateway.link(REF))
    (line,) = [line for line in logs.program.getvalue().splitlines() if " media_gateway.web " in line]
    facts = f"account={ACCOUNT} host={authority(origin)} part=api request_id={reply.headers['X-Request-Id']}"
    assert line.endswith(f" {facts}")


async def test_a_fetch_outliving_its_request_logs_that_request_s_id(
    within: Within, origin: FaultyOrigin, joins: Joins
) -> None:
    fail = asyncio.Event()
    origin.play((fail, *AWAY), good(SMALL))
    async with logged() as logs, within(GATEWAY_TRUSTED_PROXIES="127.0.0.1") as gateway:
        first = asyncio.create_task(gateway.get(gateway.link(REF), X_Request_Id="the-first-reader"))
        await origin.requests_arrive(1)
        second = asyncio.create_task(gateway.get(gateway.link(REF), X_Request_Id="the-second-reader"))
        await joins.reach(2)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        fail.set()
        reply = await second
        assert (reply.status, reply.body == SMALL) == (200, True)
    (again,) = [line for line in logs.said if "again in" in str(line["message"])]
    assert (again["request_id"], reply.headers["X-Request-Id"]) == ("the-first-reader", "the-second-reader")


async def test_a_media_left_alone_is_logged_with_all_its_facts(within: Within, origin: FaultyOrigin) -> None:
    origin.play(BROKEN)
    async with logged() as logs, within() as gateway:
        replies = [await gateway.get(gateway.link(REF)) for _ in range(6)]
    (left,) = [line for line in logs.said if "is left alone for" in str(line["message"])]
    assert (left["request_id"], left["account"], left["host"], left["part"]) == (
        replies[4].headers["X-Request-Id"], ACCOUNT, authority(origin), "api",
    )  # fmt: skip
    refused = [line for line in logs.said if line["logger"] == "media_gateway.web"][-1]
    assert (refused["request_id"], refused["host"]) == (replies[5].headers["X-Request-Id"], authority(origin))


async def test_lines_about_a_host_left_alone_name_it(within: Within, origin: FaultyOrigin) -> None:
    origin.play(BROKEN)
    async with logged() as logs, within(GATEWAY_LIMIT_BREAKER_FAILURES="1") as gateway:
        reply = await gateway.get(gateway.link(REF))
    (opened,) = [line for line in logs.said if "is left alone for a while" in str(line["message"])]
    named = [opened.get(name) for name in ("request_id", "account", "host", "part")]
    assert named == [reply.headers["X-Request-Id"], ACCOUNT, authority(origin), "api"]


# --- a body that breaks off -------------------------------------------------------------------------------------


async def measured(gateway: RunningGateway, place: Path) -> Scrape:
    """Return the metrics once no fetch is under way."""
    while (scraped := await scrape(place)).get("fills"):
        pass
    return scraped


@pytest.mark.parametrize(
    ("end", "kind"), [(Close(), "upstream-truncated"), (Reset(), "upstream-truncated"), (Stall(), "upstream-timeout")]
)
async def test_a_cdn_that_breaks_a_body_off_is_seen(
    within: Within, origin: FaultyOrigin, cdn: FaultyOrigin, tmp_path: Path, end: Close | Reset | Stall, kind: str
) -> None:
    place = tmp_path / "metrics.sock"
    origin.play(redirecting(cdn))
    # Nothing of it has gone out, so that there is still another answer.
    cdn.play((announcing(len(SMALL)), end))
    settings = {"GATEWAY_REDIRECT_HOSTS": authority(cdn), "GATEWAY_METRICS_LISTEN": f"unix:{place}"}
    async with logged() as logs, within(**settings) as gateway:
        reply = await gateway.get(gateway.link(REF))
        scraped = await measured(gateway, place)
    assert reply.status in {502, 504}
    assert scraped.get("upstream_calls_total", provider="twilio", outcome="ok") == 0
    assert scraped.get("upstream_calls_total", provider="twilio", outcome=kind) == cdn.asked == 3
    assert scraped.get("upstream_bodies_total", provider="twilio", part="cdn", outcome="broken") == 3
    assert scraped.total("upstream_bodies_total") == 3
    (line,) = [line for line in logs.said if str(line["message"]).startswith(kind)]
    assert (line["account"], line["host"], line["part"]) == (ACCOUNT, authority(cdn), "cdn")
    assert line["request_id"] == reply.headers["X-Request-Id"]


async def test_a_body_that_comes_whole_counts_once_as_that(start: Start, origin: FaultyOrigin, tmp_path: Path) -> None:
    place = tmp_path / "metrics.sock"
    gateway = await start(GATEWAY_METRICS_LISTEN=f"unix:{place}", GATEWAY_CACHE_DEFAULT_TTL="0")
    origin.play(good(SMALL), (head('ETag: "one"', status="304 Not Modified"),))
    assert [(await gateway.get(gateway.link(REF))).status for _ in range(2)] == [200, 200]
    scraped = await measured(gateway, place)
    # The second was validated, and had no body.
    assert scraped.get("upstream_calls_total", provider="twilio", outcome="ok") == 2
    assert scraped.get("upstream_bodies_total", provider="twilio", part="api", outcome="whole") == 1
    assert scraped.total("upstream_bodies_total") == 1


# --- traces -----------------------------------------------------------------------------------------------------


async def test_a_trusted_proxy_s_trace_is_logged_but_never_sent(
    within: Within, origin: FaultyOrigin, cdn: FaultyOrigin
) -> None:
    origin.play(redirecting(cdn), redirecting(cdn), BROKEN)
    cdn.play(BROKEN, good(SMALL))
    settings = {"GATEWAY_REDIRECT_HOSTS": authority(cdn), "GATEWAY_TRUSTED_PROXIES": "127.0.0.1"}
    async with logged() as logs, within(**settings) as gateway:
        link = gateway.link(REF)
        # Stored after the second; the express lane would answer what repeats.
        replies = [await gateway.get(link, traceparent=TRACEPARENT, tracestate="a=1") for _ in range(5)]
        replies.append(await gateway.get(link))
    assert [reply.status for reply in replies] == [502] + [200] * 5
    assert [entry.get("trace_id") for entry in logs.entries] == [TRACE] * 5 + [None]
    (line,) = [line for line in logs.said if line["logger"] == "media_gateway.web"]
    assert (line["trace_id"], line["request_id"]) == (TRACE, replies[0].headers["X-Request-Id"])
    for asked in (*origin.heads, *cdn.heads):
        assert b"trace" not in asked.lower()
    assert not [name for reply in replies for name in reply.headers if name.lower().startswith("trace")]


async def test_a_trace_is_logged_in_text_too(within: Within, origin: FaultyOrigin) -> None:
    origin.play(BROKEN)
    async with logged(as_json=False) as logs, within(GATEWAY_TRUSTED_PROXIES="127.0.0.1") as gateway:
        await gateway.get(gateway.link(REF), traceparent=TRACEPARENT)
    assert f" trace_id={TRACE} " in logs.lines[0]
    assert logs.program.getvalue().count(f" trace_id={TRACE}\n") == 1


@pytest.mark.parametrize("trusted", ["10.0.0.0/8", "unix"])
async def test_the_trace_of_any_other_client_is_ignored(within: Within, origin: FaultyOrigin, trusted: str) -> None:
    origin.play(BROKEN)
    async with logged() as logs, within(GATEWAY_TRUSTED_PROXIES=trusted) as gateway:
        await gateway.get(gateway.link(REF), traceparent=TRACEPARENT)
    assert TRACE not in logs.access.getvalue() + logs.program.getvalue()


@pytest.mark.parametrize("value", [TRACEPARENT.upper(), f"ff{TRACEPARENT[2:]}", f"{TRACEPARENT}-x", "x" * 4_000])
async def test_a_trace_that_is_not_well_formed_is_ignored(within: Within, value: str) -> None:
    async with logged() as logs, within(GATEWAY_TRUSTED_PROXIES="127.0.0.1") as gateway:
        assert (await gateway.get(gateway.link(REF), traceparent=value)).status == 200
    assert "trace_id" not in logs.access.getvalue()
