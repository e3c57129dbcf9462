"""Erasures, revocations and deletions through one node: they hold in every worker when the call has returned."""

from __future__ import annotations

import asyncio

import pytest

from proxy.sandbox import Headers, Media, Sandbox, StallBody
from tests.functional.programs import started
from tests.nodes.cluster import Cluster, Node, deletions, eventually, fetches, reach_of, until_fetched

pytestmark = pytest.mark.system("redis-server")
# `asked`: the place of the node that is asked; the second one has two workers.
asked = pytest.mark.parametrize(("media", "asked"), [("small", 0), ("large", 1)], indirect=["media"])


@pytest.fixture(autouse=True)
def told_apart(sandbox: Sandbox) -> None:
    """Drop the upstream's entity-tag, so that every fetch gets one of its own, by which it is known again."""
    sandbox.fault(Headers(drop=("ETag",)))


async def known(cluster: Cluster, media: Media) -> str:
    """Return the one entity-tag that every worker of every node serves a media with."""
    (tag,) = await cluster.tags(media)
    return tag


@pytest.mark.parametrize(
    ("media", "reach", "asked"),
    [("small", "media", 0), ("small", "all", 1), ("large", "media", 1), ("large", "message", 0)],
    indirect=["media"],
)
async def test_a_purge_holds_in_each_worker_of_each_node(
    cluster: Cluster, sandbox: Sandbox, media: Media, reach: str, asked: int
) -> None:
    nodes = await cluster.start_three()
    old = await known(cluster, media)
    assert await nodes[asked].purge(reach_of(reach, media)) == 204
    new = await known(cluster, media)
    assert new != old
    assert fetches(sandbox, media) == 2


async def test_a_purge_spares_what_it_does_not_name(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media
) -> None:
    one, _, _ = await cluster.start_three()
    kept, erased = await known(cluster, small), await known(cluster, large)
    assert await one.purge(reach_of("message", large)) == 204
    assert await known(cluster, small) == kept
    assert await known(cluster, large) != erased
    assert (fetches(sandbox, small), fetches(sandbox, large)) == (1, 2)


@pytest.mark.parametrize("media", ["large"], indirect=True)
async def test_the_command_s_purge_holds_in_every_worker(cluster: Cluster, sandbox: Sandbox, media: Media) -> None:
    one, _, _ = await cluster.start_three()
    old = await known(cluster, media)
    account = str(media.ref.account)
    async with started(["purge", "--account", account], one.environment(sandbox)) as program:
        assert await program.ended() == 0, program.lines
    assert await known(cluster, media) != old
    assert fetches(sandbox, media) == 2


async def test_the_command_erases_nothing_while_redis_is_away(cluster: Cluster, sandbox: Sandbox, small: Media) -> None:
    node = await cluster.start()
    old = await known(cluster, small)
    node.cable.cut()
    async with started(["purge", "--all"], node.environment(sandbox)) as program:
        assert await program.ended() == 1
    assert program.lines[-1].startswith("media-gateway: nothing was erased: the shared tier is away")
    assert await known(cluster, small) == old
    assert fetches(sandbox, small) == 1


@pytest.mark.parametrize(
    ("media", "reach", "asked"), [("small", "media", 1), ("large", "message", 0)], indirect=["media"]
)
async def test_a_revocation_and_its_lift_hold_in_every_worker(
    cluster: Cluster, media: Media, reach: str, asked: int
) -> None:
    nodes = await cluster.start_three()
    assert await cluster.statuses(media) == {200}
    assert await nodes[asked].revoke(reach_of(reach, media)) == 204
    assert await cluster.statuses(media) == {403}
    assert {await node.mint(media) for node in nodes} == {409}
    assert await nodes[asked - 1].lift(reach_of(reach, media)) == 204
    assert await cluster.statuses(media) == {200}
    assert {await node.mint(media) for node in nodes} == {201}


@asked
async def test_a_deletion_holds_in_each_worker_of_each_node(
    cluster: Cluster, sandbox: Sandbox, media: Media, asked: int
) -> None:
    nodes = await cluster.start_three()
    assert await cluster.statuses(media) == {200}
    assert await nodes[asked].delete(media) == 204
    sandbox.clear_requests()
    assert await cluster.statuses(media) == {404}
    assert sandbox.requests == ()


async def test_a_purge_beats_another_node_s_fill_under_way(cluster: Cluster, sandbox: Sandbox, media: Media) -> None:
    one, two, _ = await cluster.start_three()
    stall = sandbox.fault(StallBody(after=50_000), media_sid=media.sid, times=1)
    early = asyncio.create_task(two.whole(media))

    await until_fetched(sandbox, media)
    assert await one.purge(reach_of("media", media)) == 204
    # Who comes after the purge joins no fill from before it, in no node.
    new = await known(cluster, media)
    stall.release()
    assert (await early).headers["ETag"] != new
    assert await known(cluster, media) == new
    assert fetches(sandbox, media) == 2


async def test_a_deletion_beats_another_node_s_fill_under_way(cluster: Cluster, sandbox: Sandbox, media: Media) -> None:
    one, two, _ = await cluster.start_three()
    stall = sandbox.fault(StallBody(after=50_000), media_sid=media.sid, times=1)
    early = asyncio.create_task(two.get(media))

    await until_fetched(sandbox, media)
    assert await one.delete(media) == 204
    assert await cluster.statuses(media) == {404}
    stall.release()
    await early
    assert await cluster.statuses(media) == {404}
    assert fetches(sandbox, media) == 1


# --- nodes that were not there -----------------------------------------------------------------------------------


async def test_a_node_that_comes_later_knows_what_was_decided_before(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media
) -> None:
    one, two = await cluster.start_two(2)
    for media in (small, large):
        assert await cluster.statuses(media) == {200}
    assert await one.revoke(reach_of("media", small)) == 204
    assert await two.delete(large) == 204
    sandbox.clear_requests()
    late = await cluster.start(workers=2)
    for media, status in ((small, 403), (large, 404)):
        assert [reply.status for reply in await late.each_worker(media)] == [status] * 2
    assert sandbox.requests == ()


async def test_a_returning_node_s_first_answer_knows_earlier_decisions(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media
) -> None:
    one, two = await cluster.start_two()
    old = await known(cluster, large)
    assert await cluster.statuses(small) == {200}
    await two.stop()
    cluster.nodes.remove(two)
    assert await one.revoke(reach_of("media", small)) == 204
    assert await one.purge(reach_of("media", large)) == 204
    again = await cluster.start(folder=two.folder)
    assert (await again.get(small)).status == 403
    assert (await again.whole(large)).headers["ETag"] != old
    assert fetches(sandbox, large) == 2


async def test_a_thawed_node_s_first_answer_knows_earlier_decisions(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media
) -> None:
    one, two, three = await cluster.start_three()
    old = await known(cluster, large)
    assert await cluster.statuses(small) == {200}
    with two.frozen():
        # It holds wherever something runs.
        assert await one.revoke(reach_of("media", small)) == 204
        assert await one.purge(reach_of("media", large)) == 204
        for node in (one, three):
            assert (await node.get(small)).status == 403
            assert (await node.whole(large)).headers["ETag"] != old
    assert await follows(two, small, large, old)
    assert await cluster.statuses(small) == {403}
    assert old not in await cluster.tags(large)


async def test_a_node_that_hears_late_is_waited_for(cluster: Cluster, small: Media) -> None:
    one, two, _ = await cluster.start_three()
    assert await cluster.statuses(small) == {200}
    two.cable.silence()
    revoking = asyncio.create_task(one.revoke(reach_of("media", small)))

    async def holds_where_it_is_written() -> bool:
        return (await one.get(small)).status == 403

    await eventually(holds_where_it_is_written)
    two.cable.mend()
    assert await revoking == 204
    assert [reply.status for reply in await two.each_worker(small)] == [403, 403]


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "silent"])
async def test_a_node_cut_off_catches_up_with_decisions(
    cluster: Cluster, sandbox: Sandbox, small: Media, large: Media, silent: bool
) -> None:
    one, two, three = await cluster.start_three()
    old = await known(cluster, large)
    assert await cluster.statuses(small) == {200}
    if silent:
        two.cable.silence()
    else:
        two.cable.cut()
    assert await one.revoke(reach_of("media", small)) == 204
    assert await one.purge(reach_of("media", large)) == 204
    for node in (one, three):
        assert (await node.get(small)).status == 403
        assert (await node.whole(large)).headers["ETag"] != old
    two.cable.mend()
    await eventually(lambda: follows(two, small, large, old))
    assert await cluster.statuses(small) == {403}
    assert old not in await cluster.tags(large)


async def follows(node: Node, revoked: Media, purged: Media, old: str) -> bool:
    """Return whether each worker of a node follows what was decided."""
    refused = {reply.status for reply in await node.each_worker(revoked)}
    return refused == {403} and old not in {reply.headers["ETag"] for reply in await node.each_worker(purged)}


@pytest.mark.parametrize(("media", "silent"), [("small", False), ("large", True)], indirect=["media"])
async def test_a_node_cut_off_erases_nothing_and_asks_nothing(
    cluster: Cluster, sandbox: Sandbox, media: Media, silent: bool
) -> None:
    one, two = await cluster.start_two(2)
    # It is in the folder of the one that has fetched it.
    await two.whole(media)
    old = await known(cluster, media)
    if silent:
        two.cable.silence()
    else:
        two.cable.cut()
    for kind in ("media", "message", "all"):
        assert await two.purge(reach_of(kind, media)) == 503
    for kind in ("media", "message"):
        assert await two.revoke(reach_of(kind, media)) == 503
        assert await two.lift(reach_of(kind, media)) == 503
    assert await two.delete(media) == 503
    assert deletions(sandbox) == 0
    assert await known(cluster, media) == old
    two.cable.mend()

    async def erases() -> bool:
        return await two.purge(reach_of("media", media)) == 204

    await eventually(erases)
    assert await known(cluster, media) != old
    assert await one.delete(media) == 204
    assert await cluster.statuses(media) == {404}
