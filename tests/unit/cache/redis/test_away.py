"""Stored media are used while the shared tier is away, as the policy says, and the upstream is spared."""

from __future__ import annotations

import asyncio

import pytest

from proxy.cache.redis.follower import CUT_OFF_SECONDS
from proxy.cache.redis.outage import Contact
from proxy.erasure import BlockKind, Reach
from proxy.errors import (
    GatewayError,
    MediaNotFound,
    StoreError,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.model import MediaRef
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy
from proxy.settings import SharedAway
from proxy.telemetry.metrics import SHARED_AWAY
from tests.redis_server import RedisServer
from tests.unit.cache.redis.nodes import Monotonic, Node, Nodes, until
from tests.unit.cache.redis.test_sharing import SMALL, script
from tests.unit.cache.rigs import fetch, read, settled
from tests.unit.cache.scripted import NOTHING, REF, Script

pytestmark = pytest.mark.system("redis-server")

OTHER = MediaRef.parse(str(REF.account), str(REF.message), "ME" + "d" * 32)
HIT = "media-gateway; hit; ttl=100"
VALIDATED = "media-gateway; fwd=stale; fwd-status=304"
UNVALIDATED = "media-gateway; fwd=stale; detail=unvalidated"
STALE = "media-gateway; fwd=stale; detail=stale-if-error"
UNCHANGED = Script(status=304, chunks=(), fields=(("ETag", '"one"'),))
PERIOD = 12.5
FAILURES = (
    UpstreamBusy(rate_limited=True),
    UpstreamBusy(retry_after=30),
    UpstreamTimeout(),
    UpstreamUnreachable(),
    UpstreamError(),
)


def failing(error: GatewayError) -> Script:
    return Script(error=error)


async def cut_off(node: Node, redis: RedisServer, monotonic: Monotonic) -> None:
    """Let the tier be away for longer than the node trusts what it has heard."""
    await redis.stop()
    with pytest.raises(StoreError):
        await node.engine.erase(Reach.of(None))
    monotonic.ahead += CUT_OFF_SECONDS
    await until(lambda: node.shared.follower.contact is Contact.AWAY)


async def stored_and_cut_off(
    nodes: Nodes,
    redis: RedisServer,
    away: SharedAway = SharedAway.BOUNDED,
    *,
    policy: FreshnessPolicy | None = None,
    fills: int = 10,
) -> Node:
    monotonic = Monotonic()
    node = await nodes.start(redis.url, monotonic=monotonic, away=away, policy=policy, fills=fills)
    await fetch(node.engine)
    await settled(node.engine)
    nodes.clock.now += PERIOD
    await cut_off(node, redis, monotonic)
    nodes.origin.asked.clear()
    return node


async def test_a_cut_of_seconds_changes_nothing(redis_server: RedisServer, nodes: Nodes) -> None:
    node = await nodes.start(redis_server.url)
    await fetch(node.engine)
    await settled(node.engine)
    await redis_server.stop()
    with pytest.raises(StoreError):
        await node.engine.erase(Reach.of(None))
    assert node.tiers.recall(str(REF)) is not None
    assert await fetch(node.engine) == (SMALL, HIT)


async def test_strict_validates_each_use(redis_server: RedisServer, nodes: Nodes) -> None:
    node = await stored_and_cut_off(nodes, redis_server, SharedAway.STRICT)
    assert node.tiers.recall(str(REF)) is None
    assert node.engine.block_kinds_now(REF) is None
    nodes.origin.then(UNCHANGED)
    for _ in range(3):
        assert await fetch(node.engine) == (SMALL, VALIDATED)
    assert len(nodes.origin.asked) == 3
    assert await node.engine.block_kinds(REF) is BlockKind.NONE


@pytest.mark.parametrize("error", FAILURES, ids=repr)
async def test_strict_serves_nothing_that_could_not_be_validated(
    redis_server: RedisServer, nodes: Nodes, error: UpstreamError
) -> None:
    node = await stored_and_cut_off(nodes, redis_server, SharedAway.STRICT)
    nodes.origin.then(failing(error))
    for _ in range(2):
        with pytest.raises(type(error)):
            await fetch(node.engine)


async def test_bounded_validates_a_media_once_in_a_period(redis_server: RedisServer, nodes: Nodes) -> None:
    node = await stored_and_cut_off(nodes, redis_server)
    assert node.tiers.recall(str(REF)) is None
    nodes.origin.then(UNCHANGED)
    for wanted in (1, 2):
        assert await fetch(node.engine) == (SMALL, VALIDATED)
        for _ in range(5):
            assert (await fetch(node.engine))[1].startswith("media-gateway; hit")
        assert node.tiers.recall(str(REF)) is not None
        nodes.clock.now += 9.9
        assert (await fetch(node.engine))[1].startswith("media-gateway; hit")
        assert len(nodes.origin.asked) == wanted
        nodes.clock.now += PERIOD - 9.9


async def test_readers_that_come_together_share_a_validation(redis_server: RedisServer, nodes: Nodes) -> None:
    node = await stored_and_cut_off(nodes, redis_server)
    nodes.origin.then(UNCHANGED)
    found = await asyncio.gather(*(fetch(node.engine) for _ in range(20)))
    assert {body for body, _ in found} == {SMALL}
    assert len(nodes.origin.asked) == 1


@pytest.mark.parametrize("error", FAILURES, ids=repr)
async def test_bounded_serves_what_is_fresh_if_the_upstream_is_away(
    redis_server: RedisServer, nodes: Nodes, error: UpstreamError
) -> None:
    node = await stored_and_cut_off(nodes, redis_server)
    nodes.origin.then(failing(error))
    assert await fetch(node.engine) == (SMALL, UNVALIDATED)
    for _ in range(5):
        assert (await fetch(node.engine))[1].startswith("media-gateway; hit")
    assert len(nodes.origin.asked) == 1
    nodes.clock.now += PERIOD
    assert await fetch(node.engine) == (SMALL, UNVALIDATED)
    assert len(nodes.origin.asked) == 2


async def test_bounded_obeys_an_upstream_that_says_the_media_is_gone(redis_server: RedisServer, nodes: Nodes) -> None:
    node = await stored_and_cut_off(nodes, redis_server)
    nodes.origin.then(failing(MediaNotFound()))
    for _ in range(2):
        with pytest.raises(MediaNotFound):
            await fetch(node.engine)


async def test_bounded_takes_what_the_upstream_has_instead(redis_server: RedisServer, nodes: Nodes) -> None:
    node = await stored_and_cut_off(nodes, redis_server)
    nodes.origin.then(script(b"newer", '"two"'))
    assert (await fetch(node.engine))[0] == b"newer"
    await settled(node.engine)
    assert await fetch(node.engine) == (b"newer", HIT)
    assert len(nodes.origin.asked) == 1


@pytest.mark.parametrize("window", [0, 50])
async def test_bounded_serves_what_is_stale_as_stale_if_error_says(
    redis_server: RedisServer, nodes: Nodes, window: int
) -> None:
    policy = FreshnessPolicy(default_lifetime=100, stale_if_error=window)
    node = await stored_and_cut_off(nodes, redis_server, policy=policy)
    nodes.clock.now += 100
    nodes.origin.then(failing(UpstreamBusy()))
    for _ in range(3):
        if window:
            assert await fetch(node.engine) == (SMALL, STALE)
        else:
            with pytest.raises(UpstreamBusy):
                await fetch(node.engine)


async def test_a_response_directive_against_reuse_holds_in_an_outage(redis_server: RedisServer, nodes: Nodes) -> None:
    fields = (("Content-Type", "image/jpeg"), ("ETag", '"one"'), ("Cache-Control", "no-cache"))
    nodes.origin.then(Script(fields=fields))
    node = await stored_and_cut_off(nodes, redis_server)
    nodes.origin.then(failing(UpstreamBusy()))
    for _ in range(2):
        with pytest.raises(UpstreamBusy):
            await fetch(node.engine)


async def test_a_reader_does_not_wait_for_an_upstream_that_hangs(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.engine._PATIENCE_SECONDS", 0.05)
    node = await stored_and_cut_off(nodes, redis_server)
    gate = asyncio.Event()
    nodes.origin.then(Script(status=304, chunks=(), fields=UNCHANGED.fields, head_gate=gate))
    nodes.origin.arrived.clear()
    assert await fetch(node.engine) == (SMALL, UNVALIDATED)
    # On a busy machine the patience may end before the validation has begun.
    await nodes.origin.arrived.wait()
    assert (await fetch(node.engine))[1].startswith("media-gateway; hit")
    assert len(nodes.origin.asked) == len(node.engine.fills) == 1
    gate.set()
    await settled(node.engine)
    assert await fetch(node.engine) == (SMALL, HIT)


async def test_a_reader_waits_for_a_validation_that_it_needs(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.engine._PATIENCE_SECONDS", 0)
    node = await stored_and_cut_off(nodes, redis_server)
    nodes.clock.now += 100
    gate = asyncio.Event()
    nodes.origin.then(Script(status=304, chunks=(), fields=UNCHANGED.fields, head_gate=gate))
    reading = asyncio.create_task(fetch(node.engine))
    await nodes.origin.arrived.wait()
    await until(lambda: bool(node.engine.fills))
    gate.set()
    assert await reading == (SMALL, VALIDATED)


async def test_a_gateway_full_of_fetches_serves_what_is_fresh(redis_server: RedisServer, nodes: Nodes) -> None:
    node = await stored_and_cut_off(nodes, redis_server, fills=1)
    gate = asyncio.Event()
    nodes.origin.then(Script(head_gate=gate))
    nodes.origin.arrived.clear()
    cold = asyncio.create_task(fetch_other(node))
    await nodes.origin.arrived.wait()
    assert await fetch(node.engine) == (SMALL, UNVALIDATED)
    gate.set()
    await cold


async def fetch_other(node: Node, request: Fields = NOTHING) -> bytes:
    async with node.engine.open(OTHER, request) as opened:
        return await read(opened)


@pytest.mark.parametrize("failing_first", [False, True], ids=["validated", "failed"])
async def test_the_workers_of_a_folder_ask_once_together(
    redis_server: RedisServer, nodes: Nodes, *, failing_first: bool
) -> None:
    monotonic = Monotonic()
    one, other = [await nodes.start(redis_server.url, name="both", monotonic=monotonic) for _ in range(2)]
    for node in (one, other):
        await fetch(node.engine)
        await settled(node.engine)
    nodes.clock.now += PERIOD
    await cut_off(one, redis_server, monotonic)
    await until(lambda: other.shared.follower.contact is Contact.AWAY)
    nodes.origin.asked.clear()
    nodes.origin.then(failing(UpstreamBusy()) if failing_first else UNCHANGED)
    assert await fetch(one.engine) == (SMALL, UNVALIDATED if failing_first else VALIDATED)
    for node in (other, one, other):
        assert (await fetch(node.engine))[1].startswith("media-gateway; hit")
    assert len(nodes.origin.asked) == 1
    nodes.clock.now += PERIOD
    assert await fetch(other.engine) == (SMALL, UNVALIDATED if failing_first else VALIDATED)
    assert (await fetch(one.engine))[1].startswith("media-gateway; hit")
    assert len(nodes.origin.asked) == 2


async def test_a_worker_waits_for_another_ones_validation_that_it_needs(
    redis_server: RedisServer, nodes: Nodes
) -> None:
    before = await nodes.start(redis_server.url, name="both")
    await fetch(before.engine)
    await settled(before.engine)
    await before.stop()
    await redis_server.stop()
    one, other = [await nodes.start(redis_server.url, name="both") for _ in range(2)]
    gate = asyncio.Event()
    nodes.origin.asked.clear()
    nodes.origin.arrived.clear()
    nodes.origin.then(Script(status=304, chunks=(), fields=UNCHANGED.fields, head_gate=gate))
    first = asyncio.create_task(fetch(one.engine))
    await nodes.origin.arrived.wait()
    second = asyncio.create_task(fetch(other.engine))
    await until(lambda: bool(other.engine.fills))
    gate.set()
    assert await first == (SMALL, VALIDATED)
    assert await second == (SMALL, "media-gateway; fwd=stale; collapsed")
    assert len(nodes.origin.asked) == 1


async def test_a_gateway_started_without_the_tier_validates_media_once(redis_server: RedisServer, nodes: Nodes) -> None:
    before = await nodes.start(redis_server.url, name="one")
    await fetch(before.engine)
    await settled(before.engine)
    await before.stop()
    await redis_server.stop()
    node = await nodes.start(redis_server.url, name="one")
    nodes.origin.asked.clear()
    nodes.origin.then(failing(UpstreamBusy()))
    for _ in range(2):
        with pytest.raises(UpstreamBusy):
            await fetch(node.engine)
    nodes.origin.then(UNCHANGED)
    assert await fetch(node.engine) == (SMALL, VALIDATED)
    nodes.origin.then(failing(UpstreamBusy()))
    assert (await fetch(node.engine))[1].startswith("media-gateway; hit")
    nodes.clock.now += PERIOD
    # From now on it is like a gateway that has lost the tier.
    assert await fetch(node.engine) == (SMALL, UNVALIDATED)


async def test_a_gateway_that_missed_nothing_has_no_doubt(redis_server: RedisServer, nodes: Nodes) -> None:
    before = await nodes.start(redis_server.url, name="one")
    await fetch(before.engine)
    await settled(before.engine)
    await before.stop()
    redis_server.pause()
    node = await nodes.start(redis_server.url, name="one")
    nodes.origin.asked.clear()
    nodes.origin.then(failing(UpstreamBusy()))
    with pytest.raises(UpstreamBusy):
        await fetch(node.engine)
    redis_server.resume()
    await until(lambda: node.shared.follower.current)
    assert await fetch(node.engine) == (SMALL, HIT)


async def test_a_gauge_says_that_the_tier_is_away(redis_server: RedisServer, nodes: Nodes) -> None:
    node = await stored_and_cut_off(nodes, redis_server)
    await until(lambda: node.metrics.cells.totals()[SHARED_AWAY.first] == 1)
    await redis_server.start()
    await until(lambda: node.metrics.cells.totals()[SHARED_AWAY.first] == 0)
    assert node.shared.follower.contact is Contact.CURRENT


async def test_a_stall_is_not_taken_for_an_outage(redis_server: RedisServer, nodes: Nodes) -> None:
    monotonic = Monotonic()
    node = await nodes.start(redis_server.url, monotonic=monotonic)
    await fetch(node.engine)
    monotonic.ahead += 2 * CUT_OFF_SECONDS
    assert node.shared.follower.contact is not Contact.AWAY
    assert node.tiers.recall(str(REF)) is None
    assert await fetch(node.engine) == (SMALL, HIT)
