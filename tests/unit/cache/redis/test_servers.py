"""The servers that the shared tier may lie on: one with sentinels, one without bodies, and none that is a cluster's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.cache.invalidation.policy import Erase
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.log import InvalidationLog
from proxy.cache.redis.server_check import CLUSTER, check_server
from proxy.erasure import BlockKind, Reach
from proxy.errors import SettingsError, StoreError
from proxy.settings import SentinelService
from proxy.settings.shared_cache import parse_shared_cache
from proxy.telemetry.metrics import Metrics
from tests.ports import free_port
from tests.redis_server import RedisServer, redis_running
from tests.sentinels import Watched, watched
from tests.unit.cache.redis.nodes import Nodes, until
from tests.unit.cache.redis.test_sharing import LARGE, script
from tests.unit.cache.rigs import fetch, settled
from tests.unit.cache.scripted import REF

pytestmark = pytest.mark.system("redis-server")


@pytest.fixture
async def service(program_path: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Watched]:
    async with watched(program_path("redis-server"), tmp_path / "w") as running:
        yield running


def named(service: Watched) -> SentinelService:
    found = parse_shared_cache(service.url).sentinel
    assert found is not None
    return found


async def test_the_master_is_found_despite_dead_sentinels(service: Watched) -> None:
    await service.sentinels[0].kill()
    service.sentinels[1].pause()
    try:
        await check_server(named(service))
    finally:
        service.sentinels[1].resume()


@pytest.mark.parametrize("away", ["sentinels", "service"])
async def test_a_master_unknown_to_the_sentinels_is_named_so(service: Watched, away: str) -> None:
    server = parse_shared_cache(service.url.replace("/media", "/other")).sentinel
    assert server is not None
    if away == "sentinels":
        for sentinel in service.sentinels:
            await sentinel.kill()
    with pytest.raises(StoreError) as caught:
        await check_server(server)
    expected = "the connection is refused" if away == "sentinels" else "its sentinels know no master of that name"
    assert expected in caught.value.note


async def test_a_change_is_at_the_replica_when_it_is_acknowledged(
    service: Watched, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    redis = RedisClient(named(service), Metrics(), seconds=10.0)
    try:
        log = InvalidationLog(redis, nodes.clock)
        await log.exchange(None)
        for number in range(1, 20):
            await log.write(Erase(f"AC{number}"))
            assert await service.replica.command("ZCARD", "media-gateway:changes") == number
        assert not [record for record in caplog.records if "No replica" in record.message]
        service.replica.pause()
        await log.write(Erase("AC"))
        assert [record for record in caplog.records if "No replica" in record.message]
    finally:
        service.replica.resume()
        await redis.close()


@pytest.fixture
async def cluster_node(program_path: Callable[[str], str], tmp_path: Path) -> AsyncIterator[RedisServer]:
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    async with redis_running(program_path("redis-server"), tmp_path / "c", options=options) as server:
        slots = [str(number) for number in range(16_384)]
        await server.command("CLUSTER", "ADDSLOTS", *slots)
        yield server


async def test_a_node_of_a_cluster_is_refused_at_the_start(cluster_node: RedisServer, nodes: Nodes) -> None:
    with pytest.raises(SettingsError) as caught:
        await nodes.start(cluster_node.url)
    assert [(problem.name, problem.message) for problem in caught.value.problems] == [("GATEWAY_SHARED_CACHE", CLUSTER)]
    with pytest.raises(StoreError) as refused:
        await check_server(cluster_node.url)
    assert refused.value.note == CLUSTER


async def test_without_room_for_bodies_nothing_of_them_lies_in_redis(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = [await nodes.start(redis_server.url, max_bytes=0) for _ in range(2)]
    for content in (b"", b"short", LARGE):
        nodes.origin.then(script(content))
        for node in (one, other):
            await node.engine.erase(Reach.of(REF))
            assert (await fetch(node.engine))[0] == content
            await settled(node.engine)
            assert await redis_server.command("KEYS", "media-gateway:*:*") == []
    await one.engine.revoke(Reach.of(REF), 1_000)
    assert await other.engine.block_kinds(REF) is BlockKind.REVOKED


async def test_without_room_for_bodies_no_gateway_waits_for_another(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = [await nodes.start(redis_server.url, max_bytes=0) for _ in range(2)]
    gate = asyncio.Event()
    held = script(LARGE)
    held.head_gate = gate
    nodes.origin.then(held)
    crowds = [asyncio.create_task(fetch(node.engine)) for node in (one, other) for _ in range(5)]
    await until(lambda: len(nodes.origin.asked) == 2)
    gate.set()
    assert {body for body, _ in await asyncio.gather(*crowds)} == {LARGE}
    # One fetch for the crowd of each gateway.
    assert len(nodes.origin.asked) == 2
