"""Several nodes on one Redis: one fetch for all of their readers, and what one has stored the others serve."""

from __future__ import annotations

import asyncio

import pytest

from proxy.sandbox import Media, Sandbox, StallHeaders
from tests.nodes.cluster import Cluster, eventually, fetches, reach_of

READERS = 12

pytestmark = pytest.mark.system("redis-server")


async def test_cold_readers_at_every_node_make_one_fetch(cluster: Cluster, sandbox: Sandbox, media: Media) -> None:
    nodes = await cluster.start_three()
    stall = sandbox.fault(StallHeaders(), media_sid=media.sid, times=1)
    readers = [asyncio.create_task(node.whole(media)) for node in nodes for _ in range(READERS)]

    async def all_are_there() -> bool:
        scrapes = await asyncio.gather(*(node.gateway.scrape() for node in nodes))
        return all(scrape.get("connections") >= READERS for scrape in scrapes)

    await eventually(all_are_there)
    stall.release()
    tags = {reply.headers["ETag"] for reply in await asyncio.gather(*readers)}
    assert (fetches(sandbox, media), len(tags)) == (1, 1)


async def test_cold_readers_at_every_node_make_one_fetch_per_media(cluster: Cluster, sandbox: Sandbox) -> None:
    nodes = await cluster.start_three()
    message = await sandbox.add_message([("image/png", bytes([number]) * 9_000) for number in range(40)])
    await asyncio.gather(*(node.whole(media) for media in message.media for node in nodes))
    assert [fetches(sandbox, media) for media in message.media] == [1] * 40


async def test_one_node_s_stored_media_is_served_by_all_workers(
    cluster: Cluster, sandbox: Sandbox, media: Media
) -> None:
    one, two, three = await cluster.start_three()
    first = await one.whole(media)
    replies = [*await two.each_worker(media), *await three.each_worker(media)]
    assert len(replies) == 3
    for reply in replies:
        assert (reply.status, reply.body == media.read()) == (200, True)
        # Who comes before all of it is in Redis waits for it.
        status = reply.headers["Cache-Status"]
        assert status.startswith("media-gateway; hit; ttl=") or status == "media-gateway; fwd=uri-miss; collapsed"
        assert [reply.headers[name] for name in ("ETag", "Last-Modified", "Content-Type")] == [
            first.headers[name] for name in ("ETag", "Last-Modified", "Content-Type")
        ]
    assert fetches(sandbox, media) == 1


async def test_mints_tell_the_type_that_another_node_stored(cluster: Cluster, sandbox: Sandbox, media: Media) -> None:
    one, two = await cluster.start_two()
    assert await two.minted_type(media) is None
    await one.whole(media)

    async def is_told() -> bool:
        return await two.minted_type(media) == media.content_type

    await eventually(is_told)
    assert fetches(sandbox, media) == 1
    assert await one.purge(reach_of("media", media)) == 204
    assert await two.minted_type(media) is None


async def test_what_a_node_has_stored_outlives_it(cluster: Cluster, sandbox: Sandbox, media: Media) -> None:
    one, two = await cluster.start_two()
    await one.whole(media)
    await one.stop()
    await two.whole(media)
    late = await cluster.start()
    await late.whole(media)
    assert fetches(sandbox, media) == 1


async def test_a_range_of_another_node_s_stored_media_is_right(
    cluster: Cluster, sandbox: Sandbox, media: Media
) -> None:
    one, two = await cluster.start_two()
    await one.whole(media)
    first, last = media.length // 2, media.length // 2 + 999
    for value, start, end in (
        (f"bytes={first}-{last}", first, last),
        ("bytes=-10", media.length - 10, media.length - 1),
    ):
        part = await two.get(media, Range=value)
        assert (part.status, part.headers["Content-Range"]) == (206, f"bytes {start}-{end}/{media.length}")
        assert part.body == media.read()[start : end + 1]
    await two.whole(media)
    assert fetches(sandbox, media) == 1


async def test_media_too_large_for_redis_are_kept_by_each_node(
    cluster: Cluster, sandbox: Sandbox, large: Media, small: Media
) -> None:
    one, two = await asyncio.gather(*(cluster.start(GATEWAY_LIMIT_SHARED_BYTES="1MB") for _ in range(2)))
    for node in (one, two, one, two):
        await node.whole(large)
        await node.whole(small)
    assert (fetches(sandbox, large), fetches(sandbox, small)) == (2, 1)
