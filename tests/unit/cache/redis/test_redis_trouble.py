"""Redis away, hung, full, flushed, restarted: reads go on, nothing is erased by halves, and nothing wrong is served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from proxy.cache.redis.chunks import CHUNK
from proxy.cache.redis.client import RedisClient
from proxy.cache.redis.metadata import SharedBackend
from proxy.erasure import BlockKind, Reach
from proxy.errors import SharedTierAway, StoreError
from proxy.telemetry.metrics import SHARED_CALLS, SHARED_UP, Metrics, SharedCall
from tests.redis_server import RedisServer, make_certificate, redis_running
from tests.unit.cache.redis.nodes import Nodes, until
from tests.unit.cache.redis.test_sharing import LARGE, SMALL, TWO_CHUNKS, script
from tests.unit.cache.rigs import fetch, read, settled
from tests.unit.cache.scripted import NOTHING, REF, HeldClock, Script

pytestmark = pytest.mark.system("redis-server")

MISS = "media-gateway; fwd=uri-miss; fwd-status=200; stored"
VALIDATED = "media-gateway; fwd=stale; fwd-status=304"


@asynccontextmanager
async def bare_backend(url: str, run: str) -> AsyncIterator[SharedBackend]:
    """Yield what is stored under that run, for a program that follows nothing."""
    redis = RedisClient(url, Metrics())
    try:
        backend = SharedBackend(redis, HeldClock())
        backend.enter_run(run)
        yield backend
    finally:
        await redis.close()


@pytest.fixture
async def stopped_redis(redis_server: RedisServer) -> RedisServer:
    await redis_server.stop()
    return redis_server


async def test_a_gateway_starts_without_redis_and_uses_it_later(stopped_redis: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(stopped_redis.url)
    assert await fetch(one.engine) == (SMALL, MISS)
    with pytest.raises(StoreError):
        await one.engine.erase(Reach.of(None))
    assert one.metrics.cells.totals()[SHARED_UP.first] == 0
    await stopped_redis.start()
    await until(lambda: one.shared.follower.current)
    assert one.metrics.cells.totals()[SHARED_UP.first] == 1
    await one.engine.erase(Reach.of(None))
    assert await fetch(one.engine) == (SMALL, MISS)
    await settled(one.engine)
    assert (await fetch((await nodes.start(stopped_redis.url)).engine))[1].endswith("detail=shared")


async def test_without_redis_reads_go_on_and_nothing_is_erased(
    redis_server: RedisServer, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    one = await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    epoch = one.tiers.epoch
    await redis_server.stop()
    for change in (
        one.engine.erase(Reach.of(REF)),
        one.engine.mark_gone(REF, 60),
        one.engine.revoke(Reach.of(REF), 60),
        one.engine.lift_revocation(Reach.of(REF)),
    ):
        with pytest.raises(StoreError):
            await change
    assert one.tiers.epoch == epoch
    assert await one.engine.block_kinds(REF) is BlockKind.NONE
    assert await fetch(one.engine) == (SMALL, "media-gateway; hit; ttl=100")
    said = [record.message for record in caplog.records if "cannot be reached" in record.message]
    assert len(said) == 1
    assert one.metrics.cells.totals()[SHARED_CALLS.first + SharedCall.SKIPPED] > 0


async def test_a_restart_of_redis_costs_one_validation_of_each_media(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    run = one.shared.backend.run
    await redis_server.restart()
    await until(lambda: one.shared.backend.run != run and one.shared.follower.current)
    assert one.tiers.recall(str(REF)) is None
    nodes.origin.then(Script(status=304, chunks=()))
    assert await fetch(one.engine) == (SMALL, VALIDATED)
    assert await fetch(one.engine) == (SMALL, "media-gateway; hit; ttl=100")
    assert one.tiers.recall(str(REF)) is not None


async def test_old_contents_of_a_redis_are_not_read(
    program_path: Callable[[str], str], tmp_path: Path, nodes: Nodes
) -> None:
    async with redis_running(program_path("redis-server"), tmp_path / "redis", persistent=True) as server:
        one = await nodes.start(server.url)
        await fetch(one.engine)
        await settled(one.engine)
        run = one.shared.backend.run
        await server.restart()
        assert await server.command("EXISTS", f"media-gateway:{run}:response:{REF}") == 1
        async with bare_backend(server.url, run) as backend:
            assert await backend.fetch(str(REF)) is None
        other = await nodes.start(server.url)
        nodes.origin.then(script(b"newer", '"two"'))
        assert await fetch(other.engine) == (b"newer", MISS)
        assert other.shared.backend.run != run
        await one.stop()
        await other.stop()


async def test_a_flushed_redis_is_told_again_what_is_revoked(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    await one.engine.revoke(Reach.of(REF), 1_000)
    run = one.shared.backend.run
    await redis_server.command("FLUSHALL")
    await until(lambda: one.shared.backend.run != run and one.shared.follower.current)
    late = await nodes.start(redis_server.url)
    assert await late.engine.block_kinds(REF) is BlockKind.REVOKED


async def test_a_redis_that_hangs_costs_one_wait_and_no_answer(redis_server: RedisServer, nodes: Nodes) -> None:
    one = await nodes.start(redis_server.url)
    redis_server.pause()
    assert await fetch(one.engine) == (SMALL, MISS)
    await settled(one.engine)
    assert one.metrics.cells.totals()[SHARED_UP.first] == 0
    with pytest.raises(StoreError):
        await one.engine.erase(Reach.of(REF))
    redis_server.resume()
    await until(lambda: one.metrics.cells.totals()[SHARED_UP.first] == 1)
    await one.engine.erase(Reach.of(REF))
    assert await fetch(one.engine) == (SMALL, MISS)


async def test_a_full_redis_takes_no_body_and_still_takes_erasures(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await redis_server.command("CONFIG", "SET", "maxmemory", "1mb")
    assert await fetch(one.engine) == (SMALL, MISS)
    await settled(one.engine)
    assert await fetch(other.engine) == (SMALL, MISS)
    await settled(other.engine)
    assert len(nodes.origin.asked) == 2
    await one.engine.erase(Reach.of(REF))
    assert await fetch(other.engine) == (SMALL, MISS)
    assert one.shared.follower.current


async def test_a_body_lost_while_it_is_read_goes_on(redis_server: RedisServer, nodes: Nodes) -> None:
    nodes.origin.then(script(LARGE))
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    async with other.engine.open(REF, NOTHING) as opened:
        begun = bytes(await opened.body.read(0, CHUNK))
        await redis_server.stop()
        rest = bytearray()
        while block := await opened.body.read(len(begun) + len(rest), CHUNK):
            rest += block
    assert begun + rest == LARGE
    assert len(nodes.origin.asked) == 2


async def test_a_body_lost_and_replaced_meanwhile_is_cut_off(redis_server: RedisServer, nodes: Nodes) -> None:
    nodes.origin.then(script(LARGE))
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    nodes.origin.then(script(LARGE[::-1], '"two"'))
    async with other.engine.open(REF, NOTHING) as opened:
        await opened.body.read(0, CHUNK)
        await redis_server.command("FLUSHALL")
        with pytest.raises(StoreError):
            await opened.body.read(CHUNK, CHUNK)


@pytest.mark.parametrize("content", [SMALL, TWO_CHUNKS, LARGE], ids=["small", "two", "large"])
@pytest.mark.parametrize("harm", ["missing", "short", "metadata"])
async def test_what_redis_holds_is_checked_on_reading(
    redis_server: RedisServer, nodes: Nodes, content: bytes, harm: str
) -> None:
    nodes.origin.then(script(content))
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    names = await redis_server.command("KEYS", "media-gateway:*:chunk:*:0")
    assert isinstance(names, list)
    match harm:
        case "missing":
            await redis_server.command("DEL", names[0])
        case "short":
            await redis_server.command("SET", names[0], b"01234")
        case _:
            await redis_server.command("SET", f"media-gateway:{one.shared.backend.run}:response:{REF}", b"12345678?")
    assert (await fetch(other.engine))[0] == content
    assert len(nodes.origin.asked) == 2


async def test_a_small_body_altered_in_redis_is_not_served(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    names = await redis_server.command("KEYS", "media-gateway:*:chunk:*")
    assert isinstance(names, list)
    await redis_server.command("SETRANGE", names[0], 3, b"x")
    assert await fetch(other.engine) == (SMALL, MISS)


@pytest.mark.system("openssl")
async def test_redis_is_reached_by_tls_with_few_rights(
    program_path: Callable[[str], str], tmp_path: Path, nodes: Nodes
) -> None:
    certificate = await make_certificate(program_path("openssl"), tmp_path / "tls")
    async with redis_running(
        program_path("redis-server"), tmp_path / "redis", certificate=certificate, user="admin", password="p@ss:/?#%w"
    ) as server:
        rights = "~media-gateway:* &media-gateway:* +@read +@write +@connection +@scripting +@pubsub +info +time"
        await server.command("ACL", "SETUSER", "gateway", "on", ">pass@word", *rights.split())
        url = server.url.replace("admin:p%40ss%3A%2F%3F%23%25w", "gateway:pass%40word")
        one, other = await nodes.start(url), await nodes.start(server.url)
        await fetch(one.engine)
        await settled(one.engine)
        assert (await fetch(other.engine))[1].endswith("detail=shared")
        await one.engine.revoke(Reach.of(REF), 60)
        assert await other.engine.block_kinds(REF) is BlockKind.REVOKED
        await one.stop()
        await other.stop()


async def test_a_refused_call_does_not_make_redis_away(redis_server: RedisServer) -> None:
    metrics = Metrics()
    redis = RedisClient(redis_server.url, metrics)
    with pytest.raises(StoreError, match="cache is not available") as caught:
        await redis.run("return redis.error_reply('no')", ())
    assert "no" in caught.value.note
    assert redis.up
    assert metrics.cells.totals()[SHARED_CALLS.first + SharedCall.REFUSED] == 1
    await redis.close()


async def test_calls_that_wait_for_a_connection_are_bounded_too(redis_server: RedisServer) -> None:
    redis = RedisClient(redis_server.url, Metrics(), seconds=0.2)
    redis_server.pause()
    outcomes = await asyncio.gather(*(redis.run("return 1", ()) for _ in range(100)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {StoreError, SharedTierAway}
    redis_server.resume()
    assert await redis.run("return 1", (), probing=True) == 1
    assert redis.up
    await redis.close()


async def test_a_worker_kept_from_reading_does_not_make_redis_away(redis_server: RedisServer) -> None:
    redis = RedisClient(redis_server.url, Metrics(), seconds=0.2)

    async def ask_and_stand_still(client: Redis) -> object:
        answer = asyncio.ensure_future(client.get("a key"))
        await asyncio.sleep(0)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass  # nothing else runs meanwhile
        return await answer

    assert await redis.call(ask_and_stand_still) is None
    assert redis.up
    await redis.close()


async def test_a_crowd_for_the_connections_does_not_make_redis_away(redis_server: RedisServer) -> None:
    redis = RedisClient(redis_server.url, Metrics(), seconds=0.2)
    # Calls that hold a connection for so long, and are answered in time, cannot be made to order.
    places = redis._places
    for _ in range(32):
        await places.acquire()
    with pytest.raises(StoreError) as caught:
        await redis.run("return 1", ())
    assert "too many calls" in caught.value.note
    assert redis.up
    places.release()
    assert await redis.run("return 1", ()) == 1
    await redis.close()


async def test_reads_of_a_body_agree_in_any_order(redis_server: RedisServer, nodes: Nodes) -> None:
    nodes.origin.then(script(LARGE))
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    async with other.engine.open(REF, NOTHING) as opened:
        assert await read(opened) == LARGE
        for offset in (len(LARGE) - 1, CHUNK - 1, CHUNK, 0):
            assert bytes(await opened.body.read(offset, 1)) == LARGE[offset : offset + 1]
        assert await opened.body.read(len(LARGE), 1) == b""
