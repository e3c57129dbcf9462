"""Attempts at an upstream are counted: a media with the end of its body, all else at once."""

from __future__ import annotations

import pytest

from proxy.errors import UpstreamError, UpstreamTooLarge, UpstreamTruncated
from proxy.model import MediaRef
from proxy.telemetry.exposition import expose
from proxy.telemetry.metrics import Metrics
from proxy.upstream.client import UpstreamClient
from proxy.upstream.limits import UpstreamLimits
from tests.functional.scraping import Scrape
from tests.functional.upstream.conftest import Connect, RawOrigin


def counted(metrics: Metrics) -> dict[str, float]:
    """Return the outcomes of calls and, by part, of bodies that were counted."""
    body, _ = expose(metrics.totals(), "")
    scrape = Scrape.of(body.decode())
    calls = {
        dict(labels)["outcome"]: value
        for (name, labels), value in scrape.samples.items()
        if name == "media_gateway_upstream_calls_total" and value
    }
    bodies = {
        f"{dict(labels)['part']} {dict(labels)['outcome']}": value
        for (name, labels), value in scrape.samples.items()
        if name == "media_gateway_upstream_bodies_total" and value
    }
    return {**calls, **bodies}


async def read(client: UpstreamClient, ref: MediaRef) -> bytes:
    async with client.open(ref) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


async def test_a_media_counts_when_its_body_has_come_whole(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    metrics = Metrics()
    client = await connect(metrics=metrics)
    api.reply("200 OK", b"hello")
    async with client.open(ref) as answer:
        assert counted(metrics) == {}
        assert [chunk async for chunk in answer.chunks()] == [b"hello"]
        assert counted(metrics) == {"ok": 1, "api whole": 1}
    assert counted(metrics) == {"ok": 1, "api whole": 1}


async def test_a_media_whose_body_breaks_off_is_no_success(
    connect: Connect, api: RawOrigin, cdn: RawOrigin, ref: MediaRef
) -> None:
    metrics = Metrics()
    client = await connect(metrics=metrics)
    api.redirect(f"{cdn.url}/here")
    cdn.script(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", cdn.close)
    with pytest.raises(UpstreamTruncated) as caught:
        await read(client, ref)
    assert counted(metrics) == {"upstream-truncated": 1, "cdn broken": 1}
    assert caught.value.facts == {"account": str(ref.account), "host": f"127.0.0.1:{cdn.port}", "part": "cdn"}


async def test_a_media_that_is_too_large_is_not_broken(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    metrics = Metrics()
    client = await connect(metrics=metrics, limits=UpstreamLimits(max_media_bytes=4))
    api.script(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    with pytest.raises(UpstreamTooLarge):
        await read(client, ref)
    assert counted(metrics) == {"upstream-too-large": 1}


async def test_an_abandoned_body_is_neither_whole_nor_broken(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    metrics = Metrics()
    client = await connect(metrics=metrics)
    api.script(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", api.await_end)
    async with client.open(ref):
        pass
    assert counted(metrics) == {"cancelled": 1}


async def test_a_document_and_a_failure_count_at_once(connect: Connect, api: RawOrigin, ref: MediaRef) -> None:
    metrics = Metrics()
    client = await connect(metrics=metrics)
    api.reply("200 OK", b"{}")
    await client.document(client.account(ref.account), "/2010-04-01/Accounts.json")
    api.reply("500 Broken")
    with pytest.raises(UpstreamError):
        await read(client, ref)
    assert counted(metrics) == {"ok": 1, "upstream-error": 1}
