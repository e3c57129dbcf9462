"""The sharing of fetches: the others have what one gateway has fetched, and what is fetched at once is fetched once."""

from __future__ import annotations

import asyncio

import pytest

from proxy.cache.redis.chunks import CHUNK
from proxy.cache.redis.store import SharedTier
from proxy.erasure import Reach
from tests.redis_server import RedisServer
from tests.unit.cache.redis.nodes import Nodes
from tests.unit.cache.rigs import fetch, settled
from tests.unit.cache.scripted import NOTHING, REF, Script

pytestmark = pytest.mark.system("redis-server")

SMALL = b"0123456789"
TWO_CHUNKS = bytes(range(256)) * 1_100
LARGE = bytes(range(251)) * 12_000


def script(content: bytes, etag: str = '"one"') -> Script:
    chunks = tuple(content[at : at + 100_000] for at in range(0, len(content), 100_000))
    return Script(chunks=chunks, length=len(content), fields=(("Content-Type", "video/mp4"), ("ETag", etag)))


contents = pytest.mark.parametrize("content", [b"", SMALL, TWO_CHUNKS, LARGE], ids=["empty", "small", "two", "large"])


@contents
async def test_what_one_has_stored_another_serves(redis_server: RedisServer, nodes: Nodes, content: bytes) -> None:
    nodes.origin.then(script(content))
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.unix_url)
    assert await fetch(one.engine) == (content, "media-gateway; fwd=uri-miss; fwd-status=200; stored")
    await settled(one.engine)
    await one.stop()
    nodes.clock.now += 30
    assert await fetch(other.engine) == (content, "media-gateway; hit; ttl=70; detail=shared")
    assert len(nodes.origin.asked) == 1


@contents
async def test_many_readers_of_many_gateways_make_one_fetch(
    redis_server: RedisServer, nodes: Nodes, content: bytes
) -> None:
    nodes.origin.then(script(content))
    three = [await nodes.start(redis_server.url) for _ in range(3)]
    answers = await asyncio.gather(*(fetch(node.engine) for node in three for _ in range(5)))
    assert {body for body, _ in answers} == {content}
    assert len(nodes.origin.asked) == 1


async def test_a_range_reads_only_its_chunks(redis_server: RedisServer, nodes: Nodes) -> None:
    nodes.origin.then(script(LARGE))
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    async with other.engine.open(REF, NOTHING) as opened:
        assert await opened.body.measure() == len(LARGE)
        await redis_server.command("CONFIG", "RESETSTAT")
        got = await opened.body.read(3 * CHUNK - 5, 10)
        assert bytes(got) == LARGE[3 * CHUNK - 5 : 3 * CHUNK]
        assert bytes(await opened.body.read(3 * CHUNK, 5)) == LARGE[3 * CHUNK : 3 * CHUNK + 5]
    said = await redis_server.command("INFO", "stats")
    assert isinstance(said, dict)
    assert said["total_net_output_bytes"] < 20_000


async def test_an_erased_response_that_lies_in_redis_is_not_found(
    redis_server: RedisServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave(tier: SharedTier, prefix: str) -> None:
        """Leave it, as a gateway that is killed when it has written the erasure down."""

    monkeypatch.setattr(SharedTier, "give_back", leave)
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    for reach in (Reach.of(None), Reach.of(REF.account), Reach.of(REF.parent), Reach.of(REF)):
        await fetch(one.engine)
        await settled(one.engine)
        asked = len(nodes.origin.asked)
        await one.engine.erase(reach)
        assert (await fetch(other.engine))[1].endswith("stored")
        await settled(other.engine)
        assert len(nodes.origin.asked) == asked + 1


async def test_what_is_erased_by_one_no_other_serves(redis_server: RedisServer, nodes: Nodes) -> None:
    one, other = await nodes.start(redis_server.url), await nodes.start(redis_server.url)
    await fetch(one.engine)
    await settled(one.engine)
    assert (await fetch(other.engine))[1].endswith("detail=shared")
    assert (await fetch(other.engine))[1].endswith("hit; ttl=100")
    nodes.origin.then(script(b"9876543210", '"two"'))
    await one.engine.erase(Reach.of(REF.account))
    assert await fetch(other.engine) == (b"9876543210", "media-gateway; fwd=uri-miss; fwd-status=200; stored")
    assert len(nodes.origin.asked) == 2
