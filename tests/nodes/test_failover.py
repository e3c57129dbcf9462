"""A master of Redis that dies is replaced by its sentinels, and what was acknowledged holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from proxy.sandbox import Headers, Media, Sandbox
from tests.nodes.cluster import Cluster, Node, eventually, fetches, reach_of
from tests.nodes.test_redis_faults import goes_on, under_load
from tests.redis_server import make_certificate
from tests.sentinels import Watched, watched

pytestmark = pytest.mark.system("redis-server")
PASSWORD = "s3cret-of-the-data"
SENTINEL_PASSWORD = "s3cret-of-the-sentinels"


@pytest.fixture
async def service(program_path: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Watched]:
    async with watched(program_path("redis-server"), tmp_path / "w") as running:
        yield running


async def erases(node: Node, media: Media) -> bool:
    return await node.purge(reach_of("media", media)) == 204


async def in_service(nodes: Sequence[Node], media: Media) -> None:
    """Wait until each node erases: its run of the log is not young any more."""
    for node in nodes:
        await eventually(lambda node=node: erases(node, media))  # type: ignore[misc]


async def made(sandbox: Sandbox, count: int) -> Sequence[Media]:
    found: list[Media] = []
    for number in range(count):
        found += (await sandbox.add_message([("image/png", bytes([number]) * 5_000)])).media
    return found


@pytest.mark.system("openssl")
async def test_nodes_share_by_sentinels_with_tls_and_passwords(
    cluster: Cluster, sandbox: Sandbox, small: Media, program_path: Callable[[str], str], tmp_path: Path
) -> None:
    certificate = await make_certificate(program_path("openssl"), tmp_path / "tls")
    async with watched(
        program_path("redis-server"), tmp_path / "w", certificate=certificate, password=PASSWORD,
        sentinel_password=SENTINEL_PASSWORD,
    ) as service:  # fmt: skip
        one, two = [
            await cluster.start(url=service.url, GATEWAY_SHARED_CACHE_SENTINEL_PASSWORD=SENTINEL_PASSWORD)
            for _ in range(2)
        ]
        await one.whole(small)
        await two.whole(small)
        assert fetches(sandbox, small) == 1
        assert await one.revoke(reach_of("media", small)) == 204
        assert await cluster.statuses(small) == {403}
        for node in (one, two):
            await node.stop()
            said = "\n".join(node.gateway.program.lines)
            assert PASSWORD not in said
            assert SENTINEL_PASSWORD not in said


async def test_acknowledged_invalidations_hold_across_a_failover(
    cluster: Cluster, sandbox: Sandbox, service: Watched
) -> None:
    # Without a tag of the provider's each fetch has one of its own, so that a purged media is told from the old one.
    sandbox.fault(Headers(drop=("ETag",)))
    nodes = [await cluster.start(workers, url=service.url) for workers in (1, 2)]
    kept, *media = await made(sandbox, 25)
    await in_service(nodes, kept)
    tags = {one: await cluster.tags(one) for one in media}
    revoked: set[Media] = set()
    purged: set[Media] = set()
    deleted: set[Media] = set()
    killed, enough = asyncio.Event(), asyncio.Event()

    async def operate() -> None:
        """Change one media after the other; each try again until it is acknowledged."""
        for number, one in enumerate(media):
            node = nodes[number % 2]
            kind = (revoked, purged, deleted)[number % 3]
            while True:
                if kind is revoked:
                    status = await node.revoke(reach_of("media", one))
                elif kind is purged:
                    status = await node.purge(reach_of("media", one))
                else:
                    status = await node.delete(one)
                # A deletion that was carried out and not acknowledged finds nothing any more.
                if status == 204 or (kind is deleted and status == 404):
                    break
                assert status in {503, 502, 504}, status
            kind.add(one)
            if number == 8:
                enough.set()
            if number == 10:
                await killed.wait()

    async with under_load(nodes, [kept]) as loads:
        await goes_on(loads)
        operating = asyncio.create_task(operate())
        await enough.wait()
        await service.master.kill()
        killed.set()
        await service.failed_over()
        await operating
        await goes_on(loads)
    assert len(revoked) + len(purged) + len(deleted) == len(media)
    for one in revoked:
        assert await cluster.statuses(one) == {403}
    for one in deleted:
        assert await cluster.statuses(one) == {404}
    for one in purged:
        assert not tags[one] & await cluster.tags(one)
    # A node that comes now has only what the others have told the new master.
    late = await cluster.start(url=service.url)
    for one in revoked:
        assert (await late.get(one)).status == 403
    for one in deleted:
        assert (await late.get(one)).status == 404


async def test_a_lost_tail_of_the_log_reaches_the_new_master(
    cluster: Cluster, sandbox: Sandbox, service: Watched
) -> None:
    sandbox.fault(Headers(drop=("ETag",)))
    one, two = nodes = [await cluster.start(url=service.url) for _ in range(2)]
    first, second, third = await made(sandbox, 3)
    await in_service(nodes, first)
    for media in (first, second, third):
        assert await cluster.statuses(media) == {200}
    (old,) = {(await one.get(third)).headers["ETag"]}
    service.replica.pause()
    assert await one.revoke(reach_of("media", first)) == 204
    assert await two.delete(second) == 204
    assert await one.purge(reach_of("media", third)) == 204
    await service.master.kill()
    service.replica.resume()
    await service.failed_over()
    await in_service(nodes, third)
    assert await cluster.statuses(first) == {403}
    assert await cluster.statuses(second) == {404}
    assert old not in await cluster.tags(third)
    late = await cluster.start(url=service.url)
    assert (await late.get(first)).status == 403
    assert (await late.get(second)).status == 404
    await one.stop()
    assert any("No replica of the shared tier has a change yet" in line for line in one.gateway.program.lines)


async def test_what_is_stored_is_validated_after_a_fail_over(
    cluster: Cluster, sandbox: Sandbox, service: Watched, small: Media
) -> None:
    """The new master may lack what the old one had: nothing from before it is trusted without the provider's word."""
    node = await cluster.start(url=service.url)
    await in_service([node], small)
    await node.whole(small)
    assert (await node.get(small)).headers["Cache-Status"].startswith("media-gateway; hit")
    await service.master.kill()
    await service.failed_over()
    await in_service([node], (await made(sandbox, 1))[0])
    assert "fwd-status=304" in (await node.get(small)).headers["Cache-Status"]
    assert (await node.get(small)).headers["Cache-Status"].startswith("media-gateway; hit")
