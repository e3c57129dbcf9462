"""The signed links that are delivered or refused, in what order, with what status."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import pytest

from proxy.links import LinkMinter
from proxy.model import MediaRef
from proxy.sandbox import Media, Sandbox
from tests.functional.harness import KEY, Gateways, RunningGateway, bare, converse

OTHER_KEY = f"k2:{'o' * 40}"
FOREIGN = MediaRef.parse("AC" + "0" * 32, "MM" + "0" * 32, "ME" + "0" * 32)


def past(gateway: RunningGateway, ref: MediaRef, **claims: str | int) -> str:
    """Return a link with a good signature that has expired."""
    minter = LinkMinter(gateway.url, KEY, clock=lambda: time.time() - 1_000)
    return minter.url(ref, **claims)  # type: ignore[arg-type]


def signed(gateway: RunningGateway, covered: str) -> str:
    """Sign any target."""
    return f"{gateway.url}{covered}&signature={gateway.minter.keys.sign(covered)}"


def changed(link: str) -> str:
    """Return the link with another first character in its signature."""
    head, _, signature = link.rpartition("signature=")
    return f"{head}signature={'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def path(ref: MediaRef) -> str:
    return f"/media/{ref}"


async def refused(gateway: RunningGateway, url: str, status: int, kind: str) -> None:
    """Check the refusal of GET and HEAD alike."""
    reply = await gateway.get(url)
    assert (reply.status, reply.json["type"]) == (status, f"urn:media-gateway:problem:{kind}")
    assert (await gateway.head(url)).status == status


async def test_a_bad_signature_is_403(gateway: RunningGateway, sandbox: Sandbox, photo: Media, film: Media) -> None:
    link = gateway.link(photo.ref)
    await refused(gateway, changed(link), 403, "link-signature-invalid")
    await refused(gateway, link.replace(photo.sid, film.sid), 403, "link-signature-invalid")
    await refused(gateway, link.replace("expires=", "expires=1"), 403, "link-signature-invalid")
    assert sandbox.requests == ()


async def test_what_is_not_of_the_minted_form_is_403(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    link = gateway.link(photo.ref)
    end = int(time.time()) + 100
    target = f"{path(photo.ref)}?expires={end}&key=k1"
    for url in (
        link.partition("?")[0],
        link.rpartition("&")[0],
        link + "&utm_source=mail",
        link + "=",
        link + "%20",
        link.replace("&key=k1", "&key=k1&key=k1"),
        link.replace("/media/", "/media//"),
        link.replace("/media/AC", "/media/ac"),
        link.replace("/ME", "%2FME"),
        gateway.url + "/media/",
        gateway.url + "/media/../healthz",
        gateway.url + "/media/%00",
        signed(gateway, f"{target}&unknown=1"),
        signed(gateway, f"{target}&filename="),
        signed(gateway, f"{target}&filename=a&filename=b"),
        signed(gateway, f"{target}&filename=a%2e"[:-1] + "e"),
        signed(gateway, f"/media/AC1/MM1/ME1?expires={end}&key=k1"),
    ):
        await refused(gateway, url, 403, "link-malformed")
    assert sandbox.requests == ()


async def test_an_unknown_key_is_403(gateway: RunningGateway, photo: Media) -> None:
    await refused(gateway, LinkMinter(gateway.url, OTHER_KEY).url(photo.ref), 403, "link-key-unknown")


async def test_every_key_of_the_ring_verifies(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_SIGNING_KEYS=f"{OTHER_KEY},{KEY}")
    for key in (KEY, OTHER_KEY):
        assert (await gateway.get(LinkMinter(gateway.url, key).url(photo.ref))).status == 200


async def test_an_expired_link_is_410(gateway: RunningGateway, photo: Media, sandbox: Sandbox) -> None:
    await refused(gateway, past(gateway, photo.ref), 410, "link-expired")
    assert sandbox.requests == ()


async def test_expiry_holds_for_what_is_stored_and_for_conditional_requests(
    gateway: RunningGateway, photo: Media
) -> None:
    await gateway.get(gateway.link(photo.ref))
    link = past(gateway, photo.ref)
    assert (await gateway.get(link, If_None_Match=photo.etag)).status == 410
    assert (await gateway.get(link, Range="bytes=0-0")).status == 410


async def test_a_link_that_ends_too_late_is_403(gateway: RunningGateway, photo: Media) -> None:
    late = signed(gateway, f"{path(photo.ref)}?expires={int(time.time()) + 86_400 + 600}&key=k1")
    await refused(gateway, late, 403, "link-claim-unmet")


async def test_a_link_is_403_before_its_time(gateway: RunningGateway, photo: Media) -> None:
    early = gateway.link(photo.ref, not_before=int(time.time()) + 100)
    await refused(gateway, early, 403, "link-claim-unmet")
    assert (await gateway.get(gateway.link(photo.ref, not_before=int(time.time()) - 1))).status == 200


async def test_a_link_bound_to_a_network_is_403_elsewhere(gateway: RunningGateway, photo: Media) -> None:
    await refused(gateway, gateway.link(photo.ref, ip="203.0.113.0/24"), 403, "link-claim-unmet")
    assert (await gateway.get(gateway.link(photo.ref, ip="127.0.0.0/8"))).status == 200


async def test_the_forwarded_address_counts_from_a_trusted_proxy_alone(gateways: Gateways, photo: Media) -> None:
    trusting = await gateways.start(GATEWAY_TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8")
    wary = await gateways.start(GATEWAY_CACHE_DIR=str(gateways.folder / "wary"))
    claim = {"ip": "203.0.113.7"}
    for forwarded, status in (
        ("203.0.113.7", 200),
        ("203.0.113.7, 10.1.2.3", 200),
        ("203.0.113.7, 198.51.100.1", 403),
        ("198.51.100.1, 203.0.113.7", 200),
        ("203.0.113.7, nonsense", 403),
    ):
        reply = await trusting.get(trusting.link(photo.ref, **claim), X_Forwarded_For=forwarded)
        assert reply.status == status
        assert (await wary.get(wary.link(photo.ref, **claim), X_Forwarded_For=forwarded)).status == 403


async def test_one_signature_opens_every_media_of_its_message(gateway: RunningGateway, sandbox: Sandbox) -> None:
    message = next(message for message in sandbox.messages if len(message.media) == 3)
    other = next(message for message in sandbox.messages if len(message.media) == 2)
    first, *rest = message.media
    link = gateway.link(first.ref, scope="message")
    for media in message.media:
        reply = await gateway.get(link.replace(first.sid, media.sid))
        assert (reply.status, reply.body) == (200, media.read())
    assert rest
    stray = link.replace(first.sid, other.media[0].sid)
    assert (await gateway.get(stray)).status == 404
    moved = stray.replace(message.sid, other.sid)
    await refused(gateway, moved, 403, "link-signature-invalid")


async def test_an_account_that_is_not_configured_is_404(gateway: RunningGateway, sandbox: Sandbox) -> None:
    await refused(gateway, gateway.link(FOREIGN), 404, "media-not-found")
    assert sandbox.requests == ()


async def test_an_account_no_longer_configured_is_404_despite_stored_media(
    gateways: Gateways, sandbox: Sandbox, photo: Media
) -> None:
    async with gateways.running() as before:
        assert (await before.get(before.link(photo.ref))).status == 200
    after = await gateways.start(TWILIO_ACCOUNT_SID="AC" + "1" * 32)
    await refused(after, after.link(photo.ref), 404, "media-not-found")


async def test_refusals_come_in_one_order(gateway: RunningGateway) -> None:
    """Form, key, signature and claims, expiry, account: each goes before all that follow."""
    ended, early = int(time.time()) - 10, int(time.time()) + 1_000
    target = f"{path(FOREIGN)}?expires={ended}&key=k1"
    await refused(gateway, past(gateway, FOREIGN), 410, "link-expired")
    await refused(gateway, past(gateway, FOREIGN, ip="203.0.113.7"), 403, "link-claim-unmet")
    await refused(gateway, signed(gateway, f"{target}&not_before={early}"), 403, "link-claim-unmet")
    await refused(gateway, changed(past(gateway, FOREIGN, ip="203.0.113.7")), 403, "link-signature-invalid")
    await refused(gateway, changed(signed(gateway, target)).replace("k1", "k9"), 403, "link-key-unknown")
    await refused(gateway, changed(past(gateway, FOREIGN)).replace("k1", "k9") + "&x", 403, "link-malformed")


async def test_a_link_is_verified_before_its_preconditions_and_range(gateway: RunningGateway, photo: Media) -> None:
    reply = await gateway.get(changed(gateway.link(photo.ref)), If_Match='"x"', Range="bytes=99999999-")
    assert reply.status == 403


# --- the mount path -------------------------------------------------------------------------------------------


async def test_the_mount_path_is_taken_away_once_if_present(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_PUBLIC_URL="https://media.example/a/b")
    link = gateway.link(photo.ref)
    assert link.startswith("https://media.example/a/b/media/AC")
    at = f"http://{gateway.settings.listen}"
    mounted = urlsplit(link).path + "?" + urlsplit(link).query
    bare_target = mounted.removeprefix("/a/b")
    for target, status in (
        (mounted, 200),
        (bare_target, 200),
        ("/a/b" + mounted, 404),
        ("/a" + bare_target, 404),
        ("/c/d" + bare_target, 404),
    ):
        assert (await gateway.get(at + target)).status == status
    assert (await gateway.get(at + "/a/b/healthz")).status == 200


# --- the request target ---------------------------------------------------------------------------------------


async def test_a_target_in_absolute_form_is_accepted(gateway: RunningGateway, photo: Media) -> None:
    """RFC 9112 §3.2.2."""
    link = gateway.link(photo.ref)
    for target, status in ((link, 200), (link.replace("http://", "HTTP://"), 200), (changed(link), 403)):
        reply = bare(await converse(gateway, f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()))
        assert reply.status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
async def test_another_method_is_405(gateway: RunningGateway, sandbox: Sandbox, photo: Media, method: str) -> None:
    for url in (gateway.link(photo.ref), gateway.url + "/media/x"):
        reply = await gateway.ask(method, url, data=b"x")
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert sandbox.requests == ()


async def test_options_says_what_is_allowed_and_opens_nothing(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media
) -> None:
    reply = await gateway.ask("OPTIONS", gateway.link(photo.ref))
    assert (reply.status, reply.headers["Allow"], reply.body) == (204, "GET, HEAD, OPTIONS", b"")
    assert sandbox.requests == ()


# --- too many bad signatures ----------------------------------------------------------------------------------


async def test_too_many_bad_signatures_are_429_but_good_links_pass(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_BAD_SIGNATURES="3", GATEWAY_TRUSTED_PROXIES="127.0.0.1")
    bad = changed(gateway.link(photo.ref))
    assert [(await gateway.get(bad)).status for _ in range(3)] == [403, 403, 403]
    reply = await gateway.get(bad)
    assert (reply.status, reply.json["type"]) == (429, "urn:media-gateway:problem:too-many-requests")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert (await gateway.get(gateway.link(photo.ref))).status == 200
    assert (await gateway.get(past(gateway, photo.ref))).status == 410
    assert (await gateway.get(bad, X_Forwarded_For="203.0.113.9")).status == 403


async def test_a_link_with_a_good_signature_never_counts(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_BAD_SIGNATURES="1")
    for _ in range(3):
        assert (await gateway.get(past(gateway, photo.ref))).status == 410
        assert (await gateway.get(gateway.link(photo.ref, ip="203.0.113.7"))).status == 403
        assert (await gateway.get(gateway.link(FOREIGN))).status == 404
    assert (await gateway.get(changed(gateway.link(photo.ref)))).status == 403
    assert (await gateway.get(changed(gateway.link(photo.ref)))).status == 429
