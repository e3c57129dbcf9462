"""Retrieve a media's bytes, over the HTTP libraries that the client libraries are built on."""

from __future__ import annotations

from proxy.sandbox import Message, Sandbox
from tests.clients.libraries import Library
from tests.clients.systems import Place, System


async def test_bytes_come_in_the_media_s_own_type(
    library: Library, places: tuple[Place, ...], message: Message
) -> None:
    for place in places:
        # Both HTTP libraries rewrite the `%7E` of a Location as `~`, for which this CDN refuses every second one.
        for media in message.media if place is places[-1] else message.media[:1]:
            got = await library.bytes(place, place.url(message, media))
            assert (got.status, got.octets) == (200, media.read())
            assert got.headers["content-type"] == media.content_type
            assert got.headers["content-length"] == str(media.length)


async def test_the_gateway_gives_bytes_at_once_where_the_provider_redirects(
    library: Library, upstream: Place, gateway: Place, message: Message, system: System
) -> None:
    media = message.media[0]
    first = await library.bytes(upstream, upstream.url(message, media), follow=False)
    assert first.status == (307 if system is System.SIGNED else 200)
    got = await library.bytes(gateway, gateway.url(message, media), follow=False)
    assert (got.status, got.octets) == (200, media.read())


async def test_the_gateway_gives_bytes_to_its_clients_alone(
    library: Library, upstream: Place, gateway: Place, message: Message, system: System
) -> None:
    media = message.media[0]
    public = await library.bytes(upstream, upstream.url(message, media), anonymous=True)
    assert public.status == (401 if system is System.ENFORCED else 200)
    got = await library.bytes(gateway, gateway.url(message, media), anonymous=True)
    assert got.status == 401
    assert b"<Code>20003</Code>" in got.octets


async def test_in_redirect_mode_a_gateway_link_gives_the_bytes(
    library: Library, redirecting: Place, message: Message, sandbox: Sandbox
) -> None:
    media = message.media[0]
    url = redirecting.url(message, media)
    first = await library.bytes(redirecting, url, follow=False)
    link = first.headers["location"]
    assert first.status == 307
    assert link.startswith(f"{redirecting.base}/media/{sandbox.account_sid}/{message.sid}/{media.sid}?")
    # A client with the link needs no credentials.
    anonymous = await library.bytes(redirecting, link, anonymous=True)
    assert (anonymous.status, anonymous.octets) == (200, media.read())
    followed = await library.bytes(redirecting, url)
    assert (followed.status, followed.octets, followed.url) == (200, media.read(), link)
    # A library that takes a redirect for an answer still reads JSON.
    assert (await library.fetch(redirecting, message.sid, media.sid)).sid == media.sid
