"""The lease: one gateway fetches for all that want the same, while it lives and shares what it fetches."""

from __future__ import annotations

import asyncio

import pytest

from proxy.cache.stored import StoredResponse
from proxy.erasure import Reach
from proxy.errors import MediaNotFound, UpstreamUnreachable
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy
from proxy.telemetry.metrics import SHARED_CALLS, SHARED_WAITS, LeaseWait, SharedCall
from tests.redis_server import RedisServer
from tests.unit.cache.redis.nodes import Node, Nodes, until
from tests.unit.cache.redis.test_sharing import LARGE, SMALL, script
from tests.unit.cache.rigs import fetch, settled
from tests.unit.cache.scripted import REF, Script

pytestmark = pytest.mark.system("redis-server")

MISS = "media-gateway; fwd=uri-miss; fwd-status=200; stored"
COLLAPSED = "media-gateway; fwd=uri-miss; collapsed"


def waits(node: Node, outcome: LeaseWait) -> float:
    return node.metrics.cells.totals()[SHARED_WAITS.first + outcome]


def lease(node: Node) -> str:
    return f"media-gateway:{node.shared.backend.run}:lease:{REF}"


async def waiting(node: Node) -> asyncio.Task[tuple[bytes, str]]:
    """Start a reader of that gateway, which asks again and again for the outcome of another one's fetch."""
    reader = asyncio.create_task(fetch(node.engine))

    def asked() -> float:
        return node.metrics.cells.totals()[SHARED_CALLS.first + SharedCall.OK]

    before = asked()
    await until(lambda: asked() > before + 8)
    assert not reader.done()
    return reader


async def test_the_second_gateway_waits_for_the_bytes_of_the_first(redis_server: RedisServer, nodes: Nodes) -> None:
    gate = asyncio.Event()
    nodes.origin.then(Script(head_gate=gate))
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    first = asyncio.create_task(fetch(one.engine))
    await nodes.origin.arrived.wait()
    second = await waiting(other)
    gate.set()
    assert await first == (SMALL, MISS)
    assert await second == (SMALL, COLLAPSED)
    assert waits(other, LeaseWait.FOUND) == 1
    assert len(nodes.origin.asked) == 1
    assert await redis_server.command("EXISTS", lease(one)) == 0


async def test_what_the_first_does_not_get_the_second_asks_for(redis_server: RedisServer, nodes: Nodes) -> None:
    gate = asyncio.Event()
    nodes.origin.then(Script(head_gate=gate, error=UpstreamUnreachable()), Script())
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    first = asyncio.create_task(fetch(one.engine))
    await nodes.origin.arrived.wait()
    second = await waiting(other)
    gate.set()
    with pytest.raises(UpstreamUnreachable):
        await first
    assert await second == (SMALL, MISS)
    assert waits(other, LeaseWait.LATE) == 1


@pytest.mark.parametrize("reason", ["large", "unstorable"])
async def test_nobody_waits_for_what_will_not_be_shared(redis_server: RedisServer, nodes: Nodes, reason: str) -> None:
    head, chunks = asyncio.Event(), asyncio.Semaphore(0)
    if reason == "large":
        slow = script(LARGE)
    else:
        slow = Script(fields=(("Content-Type", "image/jpeg"), ("Cache-Control", "no-store")))
    whole = Script(chunks=slow.chunks, length=slow.length, fields=slow.fields)
    slow.head_gate, slow.chunk_gate = head, chunks
    nodes.origin.then(slow, whole)
    one = await nodes.start(redis_server.url, max_bytes=1_000_000)
    other = await nodes.start(redis_server.url, max_bytes=1_000_000)
    first = asyncio.create_task(fetch(one.engine))
    await nodes.origin.arrived.wait()
    second = await waiting(other)
    head.set()
    # The first one has its head and none of its bytes.
    assert len((await second)[0]) == whole.length
    assert waits(other, LeaseWait.PASSED) == 1
    for _ in slow.chunks:
        chunks.release()
    assert len((await first)[0]) == whole.length


async def test_the_lease_of_a_dead_gateway_ends_by_itself(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    await redis_server.command("SET", lease(one), "someone 0", "PX", 600)
    reader = await waiting(one)
    assert await reader == (SMALL, MISS)
    assert await redis_server.command("EXISTS", lease(one)) == 1 or waits(one, LeaseWait.LATE) == 1


async def test_a_lease_is_held_as_long_as_the_fetch_takes(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.redis.lease.LEASE_SECONDS", 0.3)
    monkeypatch.setattr("proxy.cache.redis.lease._RENEWAL_SECONDS", 0.05)
    gate = asyncio.Event()
    nodes.origin.then(Script(head_gate=gate))
    one = await nodes.start(redis_server.url)
    reader = asyncio.create_task(fetch(one.engine))
    await nodes.origin.arrived.wait()
    for _ in range(10):
        await asyncio.sleep(0.1)
        assert await redis_server.command("EXISTS", lease(one)) == 1
    gate.set()
    assert await reader == (SMALL, MISS)


async def test_a_fetch_that_takes_too_long_is_not_waited_for(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.redis.lease._LONGEST_WAIT_SECONDS", 0.2)
    monkeypatch.setattr("proxy.cache.redis.lease.LEASE_SECONDS", 60.0)
    one = await nodes.start(redis_server.url)
    await redis_server.command("SET", lease(one), "someone 0", "PX", 60_000)
    assert await fetch(one.engine) == (SMALL, MISS)
    await settled(one.engine)
    assert waits(one, LeaseWait.LATE) == 1
    # It is another's, and stays so.
    assert await redis_server.command("GET", lease(one)) == b"someone 0"


async def test_a_lease_for_what_was_erased_since_holds_nobody_up(redis_server: RedisServer, nodes: Nodes) -> None:
    gate = asyncio.Event()
    nodes.origin.then(Script(head_gate=gate), script(b"newer", '"two"'))
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    first = asyncio.create_task(fetch(one.engine))
    await nodes.origin.arrived.wait()
    second = await waiting(other)
    await other.engine.erase(Reach.of(REF))
    assert (await second)[0] == b"newer"
    await settled(other.engine)
    gate.set()
    assert (await first)[0] == SMALL
    await settled(one.engine)
    # What was asked for before the erasure is stored nowhere.
    assert (await fetch(one.engine))[0] == b"newer"
    assert len(nodes.origin.asked) == 2


async def test_what_is_stored_before_the_lease_is_taken_is_found(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    looks = 0
    inner = other.shared.find

    async def find(key: str, epoch: int) -> StoredResponse | None:
        nonlocal looks
        looks += 1
        if looks > 1:
            return await inner(key, epoch)
        await fetch(one.engine)
        await settled(one.engine)
        return None

    monkeypatch.setattr(other.shared, "find", find)
    assert (await fetch(other.engine))[0] == SMALL
    assert len(nodes.origin.asked) == 1


async def test_the_chunks_of_what_is_replaced_end(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    (old,) = await chunks(redis_server)
    nodes.clock.now += 200
    nodes.origin.then(script(b"newer", '"two"'))
    assert (await fetch(one.engine))[0] == b"newer"
    await settled(one.engine)
    (new,) = [name for name in await chunks(redis_server) if name != old]
    left = [await redis_server.command("TTL", name) for name in (old, new)]
    assert isinstance(left[0], int)
    assert isinstance(left[1], int)
    assert left[0] <= 30 < left[1]


async def chunks(redis_server: RedisServer) -> list[bytes]:
    names = await redis_server.command("KEYS", "media-gateway:*:chunk:*")
    assert isinstance(names, list)
    return names


async def test_a_reader_who_goes_away_lets_the_lease_go(redis_server: RedisServer, nodes: Nodes) -> None:
    gate = asyncio.Event()
    nodes.origin.then(Script(head_gate=gate), Script())
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    first = asyncio.create_task(fetch(one.engine))
    await nodes.origin.arrived.wait()
    second = await waiting(other)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await second == (SMALL, MISS)


async def test_a_validation_serves_the_other_gateways_too(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    for node in (one, other):
        await fetch(node.engine)
        await settled(node.engine)
    nodes.clock.now += 200
    nodes.origin.then(Script(status=304, chunks=()))
    assert await fetch(one.engine) == (SMALL, "media-gateway; fwd=stale; fwd-status=304")
    await settled(one.engine)
    assert await fetch(other.engine) == (SMALL, "media-gateway; hit; ttl=100; detail=shared")
    await settled(other.engine)
    assert await fetch(other.engine) == (SMALL, "media-gateway; hit; ttl=100")
    assert len(nodes.origin.asked) == 2


async def test_a_response_that_may_not_be_stored_leaves_redis(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    nodes.clock.now += 200
    nodes.origin.then(
        Script(status=304, chunks=(), fields=(("Cache-Control", "no-store"), ("ETag", '"one"'))), Script()
    )
    await fetch(one.engine)
    await settled(one.engine)
    assert await redis_server.command("KEYS", "media-gateway:*:response:*") == []
    assert await fetch(other.engine) == (SMALL, MISS)


async def test_a_404_is_the_end_of_what_is_shared(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    nodes.clock.now += 200
    nodes.origin.then(Script(error=MediaNotFound()))
    for node in (one, other):
        with pytest.raises(MediaNotFound):
            await fetch(node.engine)
    assert await redis_server.command("KEYS", "media-gateway:*:response:*") == []


async def test_who_asks_for_fresh_bytes_is_not_given_shared_ones(redis_server: RedisServer, nodes: Nodes) -> None:
    policy = FreshnessPolicy(default_lifetime=100, honour_request_directives=True)
    one = await nodes.start(redis_server.url, policy=policy)
    await fetch(one.engine)
    await settled(one.engine)
    nodes.origin.then(Script(status=304, chunks=()))
    asked = Fields((("Cache-Control", "no-cache"),))
    assert await fetch(one.engine, asked) == (SMALL, "media-gateway; fwd=request; fwd-status=304")
