"""Redis that stops, hangs, forgets, is full or is cut off costs speed and refuses erasures; it costs no answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from proxy.cache.redis.outage import VALIDATION_SECONDS
from proxy.sandbox import Headers, Media, Sandbox, Status
from proxy.sandbox.targets import media_path
from tests.functional.loading import Load, loaded
from tests.nodes.cluster import AUTHORIZED, Cluster, Node, deletions, eventually, fetches, reach_of

pytestmark = pytest.mark.system("redis-server")


@asynccontextmanager
async def under_load(nodes: Sequence[Node], media: Sequence[Media]) -> AsyncIterator[list[Load]]:
    """Run clients at each node that ask for these media without a pause."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                loaded(node.origin, {node.gateway.target(one): one.read() for one in media}, clients=2)
            )
            for node in nodes
        ]


async def goes_on(loads: Sequence[Load], answers: int = 30) -> None:
    """Wait for so many good answers more of each node; none was anything else."""
    await asyncio.gather(*(load.goes_on(answers) for load in loads))
    assert [load.faults for load in loads] == [[]] * len(loads)


async def refuse_to_erase(nodes: Sequence[Node], media: Media) -> None:
    """Check that each node answers 503 to every erasure, for want of the shared tier."""
    reach = reach_of("media", media)
    for node in nodes:
        for path, asked in (("/purge", {"all": True}), ("/revoke", reach), ("/revoke", {**reach, "lift": True})):
            reply = await node.ask("POST", path, json=asked, headers=AUTHORIZED)
            assert (reply.status, reply.json["type"]) == (503, "urn:media-gateway:problem:shared-tier-away")
            assert "the gateways share cannot be reached" in str(reply.json["detail"])
            assert reply.headers["Retry-After"] == "5"
            assert str(node.cable.port).encode() not in reply.body
        reply = await node.ask("DELETE", media_path(media.ref) + ".json", headers=AUTHORIZED)
        assert (reply.status, reply.json["code"], reply.headers["Retry-After"]) == (503, 20503, "5")
        assert "the gateways share cannot be reached" in str(reply.json["message"])


async def erase_again(nodes: Sequence[Node], media: Media) -> None:
    """Wait until each node does."""
    for node in nodes:

        async def erases(node: Node = node) -> bool:
            return await node.purge(reach_of("media", media)) == 204

        await eventually(erases)


async def added(sandbox: Sandbox, count: int) -> Sequence[Media]:
    """Add cold media."""
    return (await sandbox.add_message([("image/png", bytes([number]) * 20_000) for number in range(count)])).media


async def test_redis_may_stop_and_start_under_load(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media
) -> None:
    nodes = await cluster.start_three()
    async with under_load(nodes, [small, large]) as loads:
        await goes_on(loads)
        await cluster.redis.stop()
        await refuse_to_erase(nodes, small)
        assert deletions(sandbox) == 0
        await goes_on(loads)
        for media in await added(sandbox, 5):
            for node in nodes:
                await node.whole(media)
        await cluster.redis.start()
        await erase_again(nodes, small)
        await goes_on(loads)
    assert await nodes[0].revoke(reach_of("media", small)) == 204
    assert await nodes[1].delete(large) == 204
    assert await cluster.statuses(small) == {403}
    assert await cluster.statuses(large) == {404}


async def test_nodes_start_without_redis_and_take_it_up_later(cluster: Cluster, sandbox: Sandbox, small: Media) -> None:
    await cluster.redis.stop()
    nodes = await cluster.start_three()
    for node in nodes:
        assert (await node.ask("GET", "/readyz")).status == 200
        await node.whole(small)
    await refuse_to_erase(nodes, small)
    assert deletions(sandbox) == 0
    await cluster.redis.start()
    await erase_again(nodes, small)
    (cold,) = await added(sandbox, 1)
    await asyncio.gather(*(node.whole(cold) for node in nodes))
    assert fetches(sandbox, cold) == 1


async def test_a_poisoned_log_or_another_bound_stops_no_node(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media
) -> None:
    one, two = await asyncio.gather(cluster.start(), cluster.start(workers=2, GATEWAY_LIMIT_REVOCATIONS="3"))
    media = await added(sandbox, 5)
    for each in (small, large, *media):
        assert await cluster.statuses(each) == {200}
    for each in media[:4]:
        assert await one.revoke(reach_of("media", each)) == 204
    # The one with the lower bound refuses what it is asked itself, and says why.
    refused = await two.ask("POST", "/revoke", json=reach_of("media", media[4]), headers=AUTHORIZED)
    assert (refused.status, refused.json["type"]) == (503, "urn:media-gateway:problem:revocations-full")
    number = int(str(await cluster.redis.command("HINCRBY", "media-gateway:log", "number", 0)))
    for place, change in enumerate((b"rubbish", b"\x94\xa5judge\xa3AC/\x09\xcb", b"x" * 5_000_000), 1):
        await cluster.redis.command("ZADD", "media-gateway:changes", number + place, b"%d " % (number + place) + change)
    await cluster.redis.command("HINCRBY", "media-gateway:log", "number", 3)
    assert await one.revoke(reach_of("media", small)) == 204
    assert await two.purge(reach_of("media", large)) == 204
    assert await two.lift(reach_of("media", media[0])) == 204
    assert await one.delete(media[4]) == 204
    for each, status in ((small, 403), (large, 200), (media[0], 200), (media[1], 403), (media[4], 404)):
        assert await cluster.statuses(each) == {status}
    late = await cluster.start(GATEWAY_LIMIT_REVOCATIONS="3")
    assert (await late.get(small)).status == 403


async def test_reads_go_on_while_redis_hangs(cluster: Cluster, sandbox: Sandbox, small: Media, large: Media) -> None:
    nodes = await cluster.start_three()
    async with under_load(nodes, [small, large]) as loads:
        await goes_on(loads)
        cluster.redis.pause()
        await goes_on(loads)
        for media in await added(sandbox, 10):
            for node in nodes:
                await node.whole(media)
        await refuse_to_erase(nodes, small)
        assert deletions(sandbox) == 0
        await goes_on(loads)
        cluster.redis.resume()
        await erase_again(nodes, small)
        await goes_on(loads)


async def test_a_full_redis_stops_no_reading_or_erasing(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media
) -> None:
    sandbox.fault(Headers(drop=("ETag",)))
    nodes = await cluster.start_three()
    (old,) = await cluster.tags(small)
    await cluster.redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await cluster.redis.command("CONFIG", "SET", "maxmemory", "1mb")
    for media in (large, *await added(sandbox, 5)):
        for node in nodes:
            await node.whole(media)
    assert await nodes[0].purge(reach_of("media", small)) == 204
    assert old not in await cluster.tags(small)
    assert await nodes[1].revoke(reach_of("media", small)) == 204
    assert await cluster.statuses(small) == {403}
    assert await nodes[2].delete(large) == 204
    assert await cluster.statuses(large) == {404}


async def test_a_nearly_full_redis_stores_some_and_answers_stay_whole(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media
) -> None:
    nodes = await cluster.start_three()
    used = await cluster.redis.command("INFO", "memory")
    assert isinstance(used, dict)
    await cluster.redis.command("CONFIG", "SET", "maxmemory", int(used["used_memory"]) + 1_500_000)
    cold = await added(sandbox, 20)
    for media in (large, *cold, small):
        for node in nodes:
            await node.whole(media)


@pytest.mark.parametrize("how", ["flushed", "restarted-empty"])
async def test_what_was_decided_outlives_what_redis_forgets(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media, how: str
) -> None:
    nodes = await cluster.start_three()
    for media in (small, large):
        assert await cluster.statuses(media) == {200}
    assert await nodes[0].revoke(reach_of("media", small)) == 204
    assert await nodes[1].delete(large) == 204
    (kept,) = await added(sandbox, 1)
    async with under_load(nodes, [kept]) as loads:
        await goes_on(loads)
        if how == "flushed":
            await cluster.redis.command("FLUSHALL")
        else:
            await cluster.redis.restart()
        sandbox.clear_requests()
        for _ in range(3):
            assert await cluster.statuses(small) == {403}
            assert await cluster.statuses(large) == {404}
        await goes_on(loads)
        await erase_again(nodes, kept)
        await goes_on(loads)
    # Who comes now has only what the others have told the new Redis.
    late = await cluster.start(workers=2)
    for media, status in ((small, 403), (large, 404)):
        assert [reply.status for reply in await late.each_worker(media)] == [status] * 2
        assert fetches(sandbox, media) == 0


async def test_a_redis_with_older_state_undoes_nothing_and_is_followed(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media
) -> None:
    """As after a fail-over to a replica that was behind: numbers that were given are given again."""
    sandbox.fault(Headers(drop=("ETag",)))
    nodes = await cluster.start_three()
    (old_small,), (old_large,) = await cluster.tags(small), await cluster.tags(large)
    await cluster.redis.command("SAVE")
    assert await nodes[0].revoke(reach_of("media", small)) == 204
    await cluster.redis.kill()
    await cluster.redis.start()
    assert await cluster.statuses(small) == {403}

    async def erases() -> bool:
        return await nodes[1].purge(reach_of("media", large)) == 204

    await eventually(erases)
    assert old_large not in await cluster.tags(large)
    assert await cluster.statuses(small) == {403}
    assert await nodes[2].lift(reach_of("media", small)) == 204
    assert old_small not in await cluster.tags(small)


async def test_a_purge_while_redis_forgot_holds_for_absent_nodes(
    cluster: Cluster, sandbox: Sandbox, small: Media
) -> None:
    """A node that is cut off while Redis is flushed, and a purge comes after: its numbers say nothing to the node."""
    sandbox.fault(Headers(drop=("ETag",)))
    one, two, three = await cluster.start_three()
    (old,) = await cluster.tags(small)
    two.cable.cut()
    await cluster.redis.command("FLUSHALL")
    await erase_again((one,), small)
    for node in (one, three):
        assert (await node.whole(small)).headers["ETag"] != old
    two.cable.mend()

    async def follows() -> bool:
        return old not in {reply.headers["ETag"] for reply in await two.each_worker(small)}

    await eventually(follows)
    assert old not in await cluster.tags(small)


async def test_a_node_cut_off_validates_until_redis_is_back(cluster: Cluster, sandbox: Sandbox, media: Media) -> None:
    one, two = await asyncio.gather(cluster.start(), cluster.start(workers=2, GATEWAY_SHARED_AWAY="strict"))
    await two.whole(media)
    assert await cluster.statuses(media) == {200}
    two.cable.silence()

    async def validates() -> bool:
        replies = await two.each_worker(media)
        assert [(reply.status, reply.body == media.read()) for reply in replies] == [(200, True)] * 2
        return all("fwd=" in reply.headers["Cache-Status"] for reply in replies)

    await eventually(validates)
    said = {reply.headers["Cache-Status"] for reply in await two.each_worker(media)}
    assert all("fwd-status=304" in status for status in said), said
    # The one that is not cut off asks nobody.
    assert (await one.get(media)).headers["Cache-Status"].startswith("media-gateway; hit")
    two.cable.mend()
    await eventually(lambda: reuses(two, media))


async def reuses(node: Node, media: Media) -> bool:
    replies = await node.each_worker(media)
    return all(reply.headers["Cache-Status"].startswith("media-gateway; hit") for reply in replies)


async def is_away(node: Node) -> None:
    """Wait until every worker serves as it does without the shared tier."""
    workers = len(node.gateway.workers)
    await node.gateway.scraped(lambda scrape: scrape.get("shared_away") == workers)


@pytest.mark.parametrize("fault", [None, Status(429, retry_after="30"), Status(503)], ids=["well", "429", "503"])
async def test_an_outage_of_redis_does_not_reach_the_provider(
    cluster: Cluster, sandbox: Sandbox, fault: Status | None
) -> None:
    node = await cluster.start(workers=2)
    media = await added(sandbox, 3)
    for one in media:
        await node.each_worker(one)
    await cluster.redis.kill()
    await is_away(node)
    assert (await node.ask("GET", "/readyz")).json["shared_tier"] == "away"
    if fault is not None:
        sandbox.fault(fault)
    began = time.monotonic()
    sandbox.clear_requests()

    async def asks() -> bool:
        for one in media:
            for reply in await node.each_worker(one):
                assert (reply.status, reply.body) == (200, one.read())
        return bool(sandbox.requests)

    await eventually(asks)
    for _ in range(20):
        await asks()
    periods = 1 + (time.monotonic() - began) // VALIDATION_SECONDS
    # A validation is a call of the API, with its retries if that fails, and one of the storage.
    calls = len(sandbox.requests)
    assert calls <= 3 * len(media) * periods, calls
    await cluster.redis.start()
    await node.gateway.scraped(lambda scrape: scrape.get("shared_away") == 0)
    assert (await node.ask("GET", "/readyz")).json["shared_tier"] == "reached"


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_node_started_without_redis_serves_validated_media_alone(
    cluster: Cluster, sandbox: Sandbox, small: Media, workers: int
) -> None:
    node = await cluster.start(workers=workers)
    await node.whole(small)
    await node.stop()
    await cluster.redis.stop()
    again = await cluster.start(workers=workers, folder=node.folder)
    sandbox.fault(Status(503))
    assert min(reply.status for reply in await again.each_worker(small)) >= 500
    sandbox.clear_faults()
    sandbox.clear_requests()
    assert [reply.body for reply in await again.each_worker(small)] == [small.read()] * workers
    assert fetches(sandbox, small) == 1
    sandbox.fault(Status(503))
    assert [reply.body for reply in await again.each_worker(small)] == [small.read()] * workers


async def test_a_node_cut_off_learns_deletions_from_the_upstream(
    cluster: Cluster, sandbox: Sandbox, large: Media
) -> None:
    one, two = await cluster.start_two(2)
    await two.whole(large)
    assert await cluster.statuses(large) == {200}
    two.cable.silence()
    assert await one.delete(large) == 204
    assert (await one.get(large)).status == 404

    async def finds_out() -> bool:
        return [reply.status for reply in await two.each_worker(large)] == [404, 404]

    await eventually(finds_out)
    two.cable.mend()
    await eventually(finds_out)
    assert await cluster.statuses(large) == {404}


@pytest.mark.parametrize("after", [100, 70_000, 1_200_000])
async def test_redis_cut_off_mid_body_makes_no_part_pass_whole(
    cluster: Cluster, sandbox: Sandbox, large: Media, after: int
) -> None:
    one, two = await cluster.start_two()
    await one.whole(large)
    two.cable.cut_after(after)
    for _ in range(3):
        await two.whole(large)
    two.cable.mend()
    await two.whole(large)
    await one.whole(large)


async def test_a_node_ends_in_order_while_redis_hangs(cluster: Cluster, small: Media) -> None:
    node = await cluster.start(workers=2)
    await node.whole(small)
    cluster.redis.pause()
    await node.whole(small)
    await node.stop()


async def test_an_outage_and_its_end_are_each_said_once(cluster: Cluster, small: Media) -> None:
    node = await cluster.start(workers=2)
    reached = await node.gateway.scraped(lambda scrape: scrape.get("shared_up") == 2)
    assert reached.get("shared_calls_total", outcome="away") == 0
    assert reached.get("shared_calls_total", outcome="ok") > 0
    await cluster.redis.stop()
    for _ in range(20):
        await node.whole(small)
    away = await node.gateway.scraped(lambda scrape: scrape.get("shared_up") == 0)
    assert away.get("shared_calls_total", outcome="away") > 0
    await cluster.redis.start()
    await node.gateway.scraped(lambda scrape: scrape.get("shared_up") == 2)
    await node.stop()
    lines = node.gateway.program.lines
    assert len([line for line in lines if "The shared tier cannot be reached" in line]) == 2
    assert len([line for line in lines if "The shared tier is reached again" in line]) == 2
