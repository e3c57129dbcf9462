"""A node that dies in the middle of a fetch costs the readers of the others some time, and no byte."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
import pytest

from proxy.sandbox import Fault, Media, Sandbox, StallBody, StallHeaders, Truncate
from tests.nodes.cluster import Cluster, eventually, fetches, until_fetched

READERS = 8

pytestmark = pytest.mark.system("redis-server")


@pytest.mark.parametrize(
    "stall", [StallHeaders(), StallBody(after=30_000), StallBody(after=2_000_000)],
    ids=["before-the-head", "at-the-beginning", "towards-the-end"],
)  # fmt: skip
async def test_another_node_fetches_when_the_fetching_one_is_killed(
    cluster: Cluster, sandbox: Sandbox, large: Media, stall: Fault
) -> None:
    one, two, three = await cluster.start_three()
    sandbox.fault(stall, media_sid=large.sid, times=1)
    doomed = asyncio.create_task(one.get(large))

    await until_fetched(sandbox, large)
    readers = [asyncio.create_task(node.whole(large)) for node in (two, three) for _ in range(READERS)]

    async def all_are_there() -> bool:
        scrapes = await asyncio.gather(two.gateway.scrape(), three.gateway.scrape())
        return all(scrape.get("connections") >= READERS for scrape in scrapes)

    await eventually(all_are_there)
    # They wait for the node that has the lease.
    assert fetches(sandbox, large) == 1
    await one.kill()
    tags = {reply.headers["ETag"] for reply in await asyncio.gather(*readers)}
    assert (fetches(sandbox, large), len(tags)) == (2, 1)
    with suppress(aiohttp.ClientError):
        await doomed


async def test_others_fetch_without_a_frozen_node_which_harms_nothing_later(
    cluster: Cluster, sandbox: Sandbox, large: Media
) -> None:
    one, two, three = await cluster.start_three()
    stall = sandbox.fault(StallBody(after=2_000_000), media_sid=large.sid, times=1)
    early = asyncio.create_task(one.whole(large))

    await until_fetched(sandbox, large)
    with one.frozen():
        await asyncio.gather(*(node.whole(large) for node in (two, three) for _ in range(READERS)))
        assert fetches(sandbox, large) == 2
    stall.release()
    await early
    assert [len(reply.body) for reply in await cluster.each_worker(large)] == [large.length] * 4
    assert fetches(sandbox, large) == 2


async def test_a_second_node_serves_all_when_an_answer_breaks_off(
    cluster: Cluster, sandbox: Sandbox, small: Media
) -> None:
    nodes = await cluster.start_three()
    # Before its first byte: on a busy machine, a reader has the first bytes before the fetch breaks off.
    sandbox.fault(Truncate(after=0), media_sid=small.sid, times=1)
    await asyncio.gather(*(node.whole(small) for node in nodes for _ in range(READERS)))
    assert fetches(sandbox, small) == 2
