"""`/metrics` of a gateway that serves: who may read it, and that what happens is counted once and under its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from proxy.app import create_app, open_gateway
from proxy.sandbox import Media, Sandbox, Status
from proxy.settings import load
from proxy.telemetry.metrics import Metrics
from proxy.web.http.recording import ROUTES
from proxy.web.services.gateway import GATEWAY
from tests.functional.configuring import client_table, write_config
from tests.functional.harness import Gateways, Reply, RunningGateway, converse, environment
from tests.functional.scraping import Scrape, scrape
from tests.functional.test_errors import assert_problem

OBSERVER, PURGER = ("watcher", "o" * 40), ("operator", "p" * 40)


@pytest.fixture
async def config(tmp_path: Path) -> Path:
    tables = client_table(OBSERVER, "observe"), client_table(PURGER, "purge")
    return await asyncio.to_thread(write_config, tmp_path, *tables)


@pytest.fixture
async def observed(gateways: Gateways, config: Path) -> RunningGateway:
    return await gateways.start(config=config)


async def asked(gateway: RunningGateway, client: tuple[str, str], path: str = "/metrics", **headers: str) -> Reply:
    credentials = {"Authorization": aiohttp.encode_basic_auth(*client)}
    return await gateway.ask("GET", path, headers={**credentials, **headers})


async def counted(gateway: RunningGateway) -> Scrape:
    """Scrape once no fill is under way: a reader has its bytes a moment before they are stored."""
    while True:
        found = Scrape.of((await asked(gateway, OBSERVER)).body.decode())
        if not found.get("fills"):
            return found


async def test_it_is_for_clients_that_may_observe(observed: RunningGateway) -> None:
    reply = await asked(observed, OBSERVER)
    assert (reply.status, reply.headers["Cache-Control"]) == (200, "no-store")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert_problem(await observed.get("/metrics"), 401, "unauthorized")
    assert_problem(await asked(observed, PURGER), 403, "forbidden")
    accepted = await asked(observed, OBSERVER, Accept="application/openmetrics-text; version=1.0.0")
    assert accepted.headers["Content-Type"].startswith("application/openmetrics-text")


async def test_at_its_own_address_it_is_open_to_all(gateways: Gateways, tmp_path: Path) -> None:
    place = tmp_path / "metrics.sock"
    gateway = await gateways.start(GATEWAY_METRICS_LISTEN=f"unix:{place}")
    assert_problem(await gateway.get("/metrics"), 404, "not-found")
    assert (await scrape(place)).get("workers") == 1
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(place))) as session,
        session.get("http://metrics/healthz") as response,
    ):
        assert response.status == 404
    # Those who scrape are no clients.
    assert (await scrape(place)).get("connections") == 1


async def test_below_the_mount_it_is_the_same(gateways: Gateways, config: Path) -> None:
    gateway = await gateways.start(config=config, GATEWAY_PUBLIC_URL="https://media.example/gw")
    at = f"http://{gateway.settings.listen}"
    for mount in ("/gw", ""):
        assert (await gateway.get(f"{at}{mount}/healthz")).status == 200
    assert (await asked(gateway, OBSERVER, f"{at}/gw/metrics")).status == 200
    scrape = Scrape.of((await asked(gateway, OBSERVER, f"{at}/metrics")).body.decode())
    assert scrape.get("requests_total", route="metrics", status="200") == 1
    assert scrape.get("requests_total", route="health", status="200") == 2


async def test_a_media_counts_by_where_its_bytes_came_from(observed: RunningGateway, photo: Media, film: Media) -> None:
    for media in (photo, film):
        for _ in range(2):
            assert (await observed.get(observed.link(media.ref))).status == 200
    scrape = await counted(observed)
    outcomes = {name: scrape.get("request_seconds_count", cache=name) for name in ("miss", "hit-ram", "hit-disk")}
    assert outcomes == {"miss": 2, "hit-ram": 1, "hit-disk": 1}
    assert scrape.get("requests_total", route="media", status="200") == 4
    assert scrape.get("sent_bytes_total") == 2 * (photo.length + film.length)
    assert scrape.get("fills_ended_total", outcome="stored") == 2
    assert scrape.get("fills") == 0
    assert scrape.get("upstream_calls_total", provider="twilio", outcome="ok") == 2
    assert scrape.get("upstream_seconds_count", provider="twilio") == 2


async def test_a_tier_says_what_it_holds_and_may_hold(observed: RunningGateway, photo: Media, film: Media) -> None:
    for media in (photo, film):
        await observed.get(observed.link(media.ref))
    scrape = await counted(observed)
    assert [scrape.get("tier_entries", tier=tier) for tier in ("ram", "disk")] == [2, 2]
    assert photo.length < scrape.get("tier_bytes", tier="ram") < photo.length + 20_000
    assert photo.length + film.length < scrape.get("tier_bytes", tier="disk") < photo.length + film.length + 20_000
    assert [scrape.get("tier_max_bytes", tier=tier) for tier in ("ram", "disk")] == [256_000_000, 10_000_000_000]


async def test_what_is_erased_is_held_no_more(observed: RunningGateway, photo: Media) -> None:
    await observed.get(observed.link(photo.ref))
    assert (await counted(observed)).get("tier_entries", tier="ram") == 1
    credentials = {"Authorization": aiohttp.encode_basic_auth(*PURGER)}
    assert (await observed.ask("POST", "/purge", json={"all": True}, headers=credentials)).status == 204
    scrape = await counted(observed)
    assert scrape.total("tier_entries") == scrape.total("tier_bytes") == 0


async def test_what_goes_for_want_of_room_is_counted_by_tier(
    gateways: Gateways, config: Path, sandbox: Sandbox
) -> None:
    media = [found for message in sandbox.messages for found in message.media if found.length < 1_000_000]
    gateway = await gateways.start(config=config, GATEWAY_MEMORY_BYTES="300KB", GATEWAY_CACHE_BYTES="300KB")
    for item in media:
        await gateway.get(gateway.link(item.ref))
    scrape = await counted(gateway)
    for tier in ("ram", "disk"):
        assert scrape.get("evictions_total", tier=tier) > 0
        assert scrape.get("tier_bytes", tier=tier) <= 300_000
        assert scrape.get("tier_entries", tier=tier) + scrape.get("evictions_total", tier=tier) <= len(media)


async def test_readers_of_one_fill_are_counted(observed: RunningGateway, film: Media) -> None:
    replies = await asyncio.gather(*(observed.get(observed.link(film.ref)) for _ in range(5)))
    assert [reply.status for reply in replies] == [200] * 5
    scrape = await counted(observed)
    assert scrape.get("collapsed_readers_total") == scrape.get("request_seconds_count", cache="collapsed") == 4
    assert scrape.get("fills_ended_total", outcome="stored") == 1


async def test_links_and_clients_that_are_refused_are_counted_by_reason(observed: RunningGateway, photo: Media) -> None:
    link = observed.link(photo.ref)
    await observed.get(link[:-4] + "AAAA")
    await observed.get(link + "x")
    await observed.get(observed.url + "/links", Authorization="Basic eDp5")
    await observed.ask("POST", "/links")
    scrape = await counted(observed)
    assert scrape.get("links_refused_total", reason="link-signature-invalid") == 1
    assert scrape.get("links_refused_total", reason="link-malformed") == 1
    assert scrape.get("clients_refused_total", reason="unauthorized") == 1
    assert scrape.get("requests_total", route="media", status="403") == 2
    assert scrape.get("requests_total", route="mint", status="401") == 1


async def test_an_upstream_refusing_the_credentials_is_counted_apart(
    observed: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(Status(401), media_sid=str(photo.ref.media))
    assert (await observed.get(observed.link(photo.ref))).status == 502
    scrape = await counted(observed)
    assert scrape.get("upstream_credentials_refused_total", provider="twilio") == 1
    assert scrape.get("upstream_calls_total", provider="twilio", outcome="upstream-refused-credentials") == 1
    assert scrape.get("fills_ended_total", outcome="failed") == 1


async def test_mints_and_erasures_are_counted(observed: RunningGateway, photo: Media, film: Media) -> None:
    references = [dict(zip(("account_sid", "message_sid", "media_sid"), str(media.ref).split("/"), strict=True))
                  for media in (photo, film)]  # fmt: skip
    assert (await observed.mint({"media": references})).status == 201
    credentials = {"Authorization": aiohttp.encode_basic_auth(*PURGER)}
    for _ in range(2):
        reply = await observed.ask("POST", "/purge", json={"media": references[:1]}, headers=credentials)
        assert reply.status == 204
    assert (await observed.ask("POST", "/purge", json={}, headers=credentials)).status == 400
    scrape = await counted(observed)
    assert scrape.get("links_minted_total") == 2
    assert scrape.get("erasures_total", kind="purge") == scrape.total("erasures_total") == 2


async def test_what_comes_to_no_handler_is_counted_too(gateways: Gateways, config: Path) -> None:
    gateway = await gateways.start(config=config, GATEWAY_LIMIT_CONNECTIONS="2")
    assert (await converse(gateway, b"NONSENSE\r\n\r\n")).startswith(b"HTTP/1.0 400 ")
    assert (await gateway.get("/nothing-here")).status == 404
    assert (await gateway.ask("GET", "/healthz", headers={"Expect": "a-miracle"})).status == 417
    scrape = await counted(gateway)
    assert scrape.get("requests_total", route="other", status="400") == 1
    assert scrape.get("requests_total", route="other", status="404") == 1
    assert scrape.total("requests_total", status="417") == 1


@pytest.fixture
async def routes(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[set[str]]:
    """Yield the first segment of everything that is routed."""
    settings = load(environment(sandbox, tmp_path / "cache"), None)
    async with open_gateway(settings, Metrics()) as gateway:
        app = create_app(gateway, console=True)
        assert app[GATEWAY] is gateway
        yield {resource.canonical.split("/")[1] for resource in app.router.resources()}


async def test_every_route_has_a_name_of_its_own(routes: set[str]) -> None:
    assert routes <= set(ROUTES)
