"""Media that are not there, as a page meets them: they hold it up once, and then no more."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from proxy.model import MediaRef, MediaSid
from proxy.sandbox import Media, Sandbox, Status
from proxy.upstream.retry import RetryPolicy
from tests.functional.harness import Gateways, RunningGateway

MOST = 3
"""Requests for a media that is waited for: one, and one at the end of each wait; fewer if the machine is slow."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.app.RetryPolicy", partial(RetryPolicy, not_found_waits=(0.2, 0.6)))


def gone(photo: Media, count: int) -> list[MediaRef]:
    """Return media of the photo's message that are not there."""
    return [photo.ref.parent.media(MediaSid.parse(f"ME{number:032x}")) for number in range(1, count + 1)]


def asked(sandbox: Sandbox, refs: list[MediaRef]) -> list[int]:
    """Return how often the upstream was asked for each."""
    return [sum(str(ref.media) in record.path for record in sandbox.requests) for ref in refs]


async def visit(gateway: RunningGateway, refs: list[MediaRef]) -> list[int]:
    """Return the statuses of a page's media, loaded as a browser does, six at a time."""
    connections = asyncio.Semaphore(6)

    async def load(ref: MediaRef) -> int:
        async with connections:
            return (await gateway.get(gateway.link(ref))).status

    return list(await asyncio.gather(*map(load, refs)))


async def test_gone_media_hold_up_a_page_once(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    assert (await gateway.get(gateway.link(photo.ref))).status == 200
    refs = gone(photo, 12)
    assert await visit(gateway, [*refs, photo.ref]) == [404] * 12 + [200]
    # The six that were asked for first share the waits of their message; the others find them over.
    first = asked(sandbox, refs)
    assert max(first[:6]) <= MOST
    assert first[6:] == [1] * 6
    for _ in range(3):
        assert await visit(gateway, [*refs, photo.ref]) == [404] * 12 + [200]
    assert asked(sandbox, refs) == first


async def test_a_crowd_of_gone_media_waits_at_once(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    refs = gone(photo, 12)
    replies = await asyncio.gather(*(gateway.get(gateway.link(ref)) for ref in refs))
    assert {reply.status for reply in replies} == {404}
    assert max(asked(sandbox, refs)) <= MOST
    # All of them have waited, so none that comes later does.
    later = gone(photo, 13)[-1:]
    assert (await gateway.get(gateway.link(*later))).status == 404
    assert asked(sandbox, later) == [1]


async def test_a_media_that_comes_within_the_waits_is_found(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    sandbox.fault(Status(404), media_sid=photo.sid, times=1)
    reply = await gateway.get(gateway.link(photo.ref))
    assert (reply.status, reply.body) == (200, photo.read())


async def test_invented_media_under_a_message_link_cost_no_wait_each(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    refs = gone(photo, 20)
    first, *others = (gateway.minter.url(ref, scope="message") for ref in refs)
    assert (await gateway.get(first)).status == 404
    for link in others:
        assert (await gateway.get(link)).status == 404
    assert asked(sandbox, refs)[1:] == [1] * 19


async def test_without_remembered_404s_a_gone_media_is_asked_each_time(
    gateways: Gateways, sandbox: Sandbox, photo: Media
) -> None:
    gateway = await gateways.start(GATEWAY_CACHE_NEGATIVE_TTL="0")
    (ref,) = gone(photo, 1)
    assert (await gateway.get(gateway.link(ref))).status == 404
    (first,) = asked(sandbox, [ref])
    for _ in range(3):
        assert (await gateway.get(gateway.link(ref))).status == 404
    assert asked(sandbox, [ref]) == [first + 3]
