"""`GATEWAY_CDN=1`: what a shared cache in front is told, and what it is not to keep."""

from __future__ import annotations

import re
import time

import pytest

from proxy.links import LinkMinter
from proxy.sandbox import Headers, Media, Sandbox, Status
from tests.functional.harness import KEY, Gateways, Reply, RunningGateway

FOR_SHARED_CACHES = {"CDN-Cache-Control", "Cache-Tag", "Surrogate-Key"}
REQUESTS = {
    200: {},
    206: {"Range": "bytes=0-9"},
    304: {"If_None_Match": "*"},
}
"""The requests that lead to each good answer."""


@pytest.fixture
async def public(gateways: Gateways) -> RunningGateway:
    return await gateways.start(GATEWAY_CDN="1")


def lifetime(reply: Reply) -> int:
    match = re.fullmatch(r"public, max-age=(\d+)", reply.headers["Cache-Control"])
    assert match is not None
    return int(match[1])


def remaining(reply: Reply) -> int:
    """Return seconds for which a cache that heeds `Age` keeps the answer (RFC 9111 §4.2)."""
    return lifetime(reply) - int(reply.headers["Age"])


def left_of(link: str) -> float:
    match = re.search(r"expires=(\d+)", link)
    assert match is not None
    return int(match[1]) - time.time()


def require_for_shared_caches(reply: Reply, photo: Media) -> None:
    ref = photo.ref
    tags = [f"account-{ref.account}", f"message-{ref.message}", f"media-{ref.media}"]
    assert reply.headers["CDN-Cache-Control"] == f"max-age={lifetime(reply)}, must-revalidate"
    assert reply.headers["Cache-Tag"] == ",".join(tags)
    assert reply.headers["Surrogate-Key"] == " ".join(tags)


def require_private(reply: Reply) -> None:
    assert reply.headers["Cache-Control"].startswith("private, max-age=")
    assert not FOR_SHARED_CACHES & reply.headers.keys()


@pytest.mark.parametrize("status", REQUESTS)
async def test_without_it_every_answer_is_private(gateway: RunningGateway, photo: Media, status: int) -> None:
    link = gateway.link(photo.ref)
    for reply in (await gateway.get(link, **REQUESTS[status]), await gateway.get(link, **REQUESTS[status])):
        assert reply.status == status
        require_private(reply)


@pytest.mark.parametrize("status", REQUESTS)
async def test_every_good_answer_is_public_and_tagged(public: RunningGateway, photo: Media, status: int) -> None:
    """From the upstream, from what is stored, and as it repeats itself."""
    link = public.link(photo.ref)
    for _ in range(3):
        reply = await public.get(link, **REQUESTS[status])
        assert reply.status == status
        require_for_shared_caches(reply, photo)


async def test_several_ranges_and_head_are_no_exception(public: RunningGateway, photo: Media) -> None:
    link = public.link(photo.ref)
    several = await public.get(link, Range="bytes=0-1,50000-50001")
    assert several.headers["Content-Type"].startswith("multipart/byteranges")
    require_for_shared_caches(several, photo)
    for _ in range(2):
        head = await public.head(link)
        assert (head.status, head.body) == (200, b"")
        require_for_shared_caches(head, photo)


async def test_nothing_is_kept_beyond_the_link(public: RunningGateway, photo: Media, sandbox: Sandbox) -> None:
    """An answer that is old already, as one that has lain in a cache of the provider's."""
    sandbox.fault(Headers(put=(("Age", "1000"), ("Cache-Control", "max-age=90000"))))
    for ttl in (60, 600):
        link = public.link(photo.ref, ttl=ttl)
        reply = await public.get(link)
        assert int(reply.headers["Age"]) >= 1000
        require_for_shared_caches(reply, photo)
        assert left_of(link) - 2 <= remaining(reply) <= left_of(link) + 1


async def test_nothing_is_kept_beyond_its_freshness(public: RunningGateway, photo: Media, sandbox: Sandbox) -> None:
    sandbox.fault(Headers(put=(("Age", "80"), ("Cache-Control", "max-age=100"))))
    reply = await public.get(public.link(photo.ref))
    require_for_shared_caches(reply, photo)
    assert remaining(reply) <= 20


async def test_what_has_to_be_validated_is_kept_for_no_time(
    public: RunningGateway, photo: Media, sandbox: Sandbox
) -> None:
    sandbox.fault(Headers(put=(("Cache-Control", "no-cache"),)))
    reply = await public.get(public.link(photo.ref))
    require_for_shared_caches(reply, photo)
    assert remaining(reply) == 0


@pytest.mark.parametrize("directive", ["no-store", "private"])
async def test_what_the_provider_lets_no_shared_cache_store_stays_private(
    public: RunningGateway, photo: Media, sandbox: Sandbox, directive: str
) -> None:
    sandbox.fault(Headers(put=(("Cache-Control", directive),)))
    reply = await public.get(public.link(photo.ref))
    assert reply.status == 200
    require_private(reply)


@pytest.mark.parametrize("status", REQUESTS)
async def test_a_link_bound_to_an_address_stays_private(public: RunningGateway, photo: Media, status: int) -> None:
    """A media that others have had in public, too."""
    assert lifetime(await public.get(public.link(photo.ref))) > 0
    link = public.link(photo.ref, ip="127.0.0.1")
    for reply in (await public.get(link, **REQUESTS[status]), await public.get(link, **REQUESTS[status])):
        assert reply.status == status
        require_private(reply)


async def test_no_error_is_stored(public: RunningGateway, photo: Media, film: Media, sandbox: Sandbox) -> None:
    link = public.link(photo.ref)
    ended = LinkMinter(public.url, KEY, clock=lambda: time.time() - 1_000).url(photo.ref)
    sandbox.fault(Status(404), media_sid=film.sid)
    for url, headers, status in (
        (link + "x", {}, 403),
        (ended, {}, 410),
        (link, {"If_Match": '"another"'}, 412),
        (link, {"Range": f"bytes={photo.length}-"}, 416),
        (public.link(film.ref), {}, 404),
    ):
        for reply in (await public.get(url, **headers), await public.head(url, **headers)):
            if reply.status == 200:
                continue  # a Range is for GET alone
            assert (reply.status, reply.headers["Cache-Control"]) == (status, "no-store")
            assert not FOR_SHARED_CACHES & reply.headers.keys()
