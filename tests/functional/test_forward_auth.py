"""`GET /auth`: whether a link is good, told to a proxy in front and to nobody else."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import encode_basic_auth
from hypothesis import given
from hypothesis import strategies as st

from proxy.links import LinkMinter
from proxy.model import MediaRef
from proxy.sandbox import Media, Sandbox
from proxy.web.http.request_target import origin_form
from tests.functional.configuring import client_table, identifiers, write_config
from tests.functional.harness import KEY, Gateways, Reply, RunningGateway, bare, converse, environment
from tests.functional.media_api import delete, path
from tests.functional.scraping import Scrape
from tests.functional.serving import serving

REVOKER = ("revoker", "r" * 40)
OTHER_ACCOUNT = MediaRef.parse("AC" + "0" * 32, "MM" + "0" * 32, "ME" + "0" * 32)
NAMED = "X-Original-URI"


@pytest.fixture
async def gateway(gateways: Gateways, tmp_path: Path) -> RunningGateway:
    """Start a gateway that trusts the tests' own address as a proxy's."""
    config = write_config(tmp_path, client_table(REVOKER, "revoke observe"))
    return await gateways.start(config=config, GATEWAY_TRUSTED_PROXIES="127.0.0.1")


def target(link: str) -> str:
    """Return path and query of a link."""
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


def changed(link: str) -> str:
    head, _, signature = link.rpartition("signature=")
    return f"{head}signature={'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def past(gateway: RunningGateway, media: Media, **claims: str) -> str:
    return LinkMinter(gateway.url, KEY, clock=lambda: time.time() - 1_000).url(media.ref, **claims)  # type: ignore[arg-type]


async def ask(gateway: RunningGateway, link: str, method: str = "GET", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.ask(method, "/auth", headers={NAMED: target(link), **named})


async def require_refused(gateway: RunningGateway, link: str, status: int, kind: str, **headers: str) -> None:
    """Check the refusal of GET and HEAD alike."""
    reply = await ask(gateway, link, **headers)
    assert (reply.status, reply.json["type"]) == (status, f"urn:media-gateway:problem:{kind}")
    assert reply.headers["Cache-Control"] == "no-store"
    assert (await ask(gateway, link, "HEAD", **headers)).status == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_good_link_is_204_with_the_proxy_s_facts(
    gateway: RunningGateway, sandbox: Sandbox, photo: Media, method: str
) -> None:
    link = gateway.link(photo.ref, filename="наш отпуск.jpg", disposition="attachment")
    reply = await ask(gateway, link, method)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Media-Path"] == f"/media/{photo.ref}"
    expires = int(reply.headers["X-Link-Expires"])
    assert f"expires={expires}&" in link
    assert expires - time.time() - 1 <= int(reply.headers["X-Link-Max-Age"]) <= expires - time.time() + 5
    shown = (await gateway.get(link)).headers["Content-Disposition"]
    assert reply.headers["X-Link-Disposition"] == shown
    assert link.rpartition("=")[2] not in str(reply.headers)


async def test_the_upstream_is_not_asked(gateway: RunningGateway, sandbox: Sandbox, photo: Media) -> None:
    assert (await ask(gateway, gateway.link(photo.ref))).status == 204
    assert sandbox.requests == ()


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({}, None),
        ({"disposition": "inline"}, "inline"),
        ({"disposition": "attachment"}, "attachment"),
        ({"filename": "a.jpg"}, 'inline; filename="a.jpg"'),
    ],
)
async def test_the_disposition_is_told_if_the_link_claims_one(
    gateway: RunningGateway, photo: Media, claims: dict[str, str], told: str | None
) -> None:
    reply = await ask(gateway, gateway.link(photo.ref, **claims))
    assert (reply.status, reply.headers.get("X-Link-Disposition")) == (204, told)


async def test_the_media_is_named_in_its_one_form(gateway: RunningGateway, photo: Media) -> None:
    """So that it is one key of a cache, whatever case its link is written in."""
    ref = photo.ref
    covered = (
        f"/media/AC{str(ref.account)[2:].upper()}/{ref.message}/{ref.media}?expires={int(time.time()) + 90}&key=k1"
    )
    link = f"{gateway.url}{covered}&signature={gateway.minter.keys.sign(covered)}"
    reply = await ask(gateway, link)
    assert (reply.status, reply.headers["X-Media-Path"]) == (204, f"/media/{ref}")


async def test_each_refusal_of_a_link_is_told_as_it_is(gateway: RunningGateway, photo: Media) -> None:
    good = gateway.link(photo.ref)
    await require_refused(gateway, good + "&utm=1", 403, "link-malformed")
    await require_refused(gateway, good.replace("k1", "k9"), 403, "link-key-unknown")
    await require_refused(gateway, changed(good), 403, "link-signature-invalid")
    await require_refused(gateway, good.replace("/media/", "/media//"), 403, "link-malformed")
    await require_refused(gateway, gateway.link(photo.ref, not_before=int(time.time()) + 100), 403, "link-claim-unmet")
    await require_refused(gateway, past(gateway, photo), 410, "link-expired")
    await require_refused(gateway, gateway.link(OTHER_ACCOUNT), 404, "media-not-found")
    assert (await ask(gateway, good)).status == 204


async def test_a_revoked_link_is_refused_until_the_revocation_is_lifted(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref)
    await _revoke(gateway, photo, lift=False)
    await require_refused(gateway, link, 403, "link-revoked")
    await _revoke(gateway, photo, lift=True)
    assert (await ask(gateway, link)).status == 204


async def _revoke(gateway: RunningGateway, media: Media, *, lift: bool) -> None:
    reply = await gateway.post("/revoke", {"media": [identifiers(media.ref)], "lift": lift}, REVOKER)
    assert reply.status == 204


async def test_a_deleted_media_is_404(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref)
    assert (await delete(gateway, path(photo, ".json"))).status == 204
    await require_refused(gateway, link, 404, "media-not-found")


async def test_a_whole_message_s_link_names_the_media_asked_for(gateway: RunningGateway, sandbox: Sandbox) -> None:
    message = next(message for message in sandbox.messages if len(message.media) == 3)
    first, *_, last = message.media
    link = gateway.link(first.ref, scope="message")
    reply = await ask(gateway, link.replace(first.sid, last.sid))
    assert (reply.status, reply.headers["X-Media-Path"]) == (204, f"/media/{last.ref}")


# --- who may ask, and in what form ----------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", ["", "10.0.0.0/8", "unix"])
async def test_who_is_no_trusted_proxy_is_refused(gateways: Gateways, photo: Media, trusted: str) -> None:
    gateway = await gateways.start(GATEWAY_TRUSTED_PROXIES=trusted)
    link = gateway.link(photo.ref)
    await require_refused(gateway, link, 403, "forbidden")
    await require_refused(gateway, link, 403, "forbidden", X_Forwarded_For="10.0.0.1")


async def test_a_trusted_proxy_at_a_unix_socket_may_ask(sandbox: Sandbox, photo: Media, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listen = f"{folder}/gateway.sock"
        settings = environment(
            sandbox, tmp_path, GATEWAY_PUBLIC_URL="http://a.example", GATEWAY_LISTEN=f"unix:{listen}",
            GATEWAY_TRUSTED_PROXIES="unix",
        )  # fmt: skip
        link = target(LinkMinter("http://a.example", KEY).url(photo.ref))
        async with (
            serving(settings),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(listen)) as session,
            session.get("http://a.example/auth", headers={NAMED: link}) as response,
        ):
            assert response.status == 204


async def test_no_link_and_several_are_refused(gateway: RunningGateway, photo: Media) -> None:
    """The client's own field beside the proxy's opens nothing, whichever of them comes first."""
    good, bad = target(gateway.link(photo.ref)), target(changed(gateway.link(photo.ref)))
    for lines in ([], [good, bad], [bad, good], [good, good]):
        fields = "".join(f"{NAMED}: {line}\r\n" for line in lines)
        sent = f"GET /auth HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
        reply = bare(await converse(gateway, sent.encode()))
        assert reply.status == 403
        assert b'"urn:media-gateway:problem:forbidden"' in reply.body
    for joined in (f"{good}, {good}", f"{bad}, {good}", f"{good},", ""):
        reply = await gateway.ask("GET", "/auth", headers={NAMED: joined})
        assert (reply.status, reply.json["type"]) == (403, "urn:media-gateway:problem:link-malformed")


async def test_only_the_field_that_is_set_is_read(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_TRUSTED_PROXIES="127.0.0.1", GATEWAY_AUTH_HEADER="X-Forwarded-Uri")
    link = gateway.link(photo.ref)
    good, bad = target(link), target(changed(link))
    for headers, status in (
        ({"X-Forwarded-Uri": good}, 204),
        ({"x-forwarded-uri": good, NAMED: bad}, 204),
        ({"X-Forwarded-Uri": bad, NAMED: good}, 403),
        ({NAMED: good}, 403),
        ({"X_Forwarded_Uri": good}, 403),
    ):
        assert (await gateway.ask("GET", "/auth", headers=headers)).status == status
    assert (await gateway.ask("GET", f"/auth?{urlsplit(link).query}")).status == 403


async def test_the_link_may_be_named_with_its_host(gateway: RunningGateway, photo: Media) -> None:
    reply = await gateway.ask("GET", "/auth", headers={NAMED: gateway.link(photo.ref)})
    assert reply.status == 204


async def test_with_and_without_the_mount(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_PUBLIC_URL="https://media.example/a/b", GATEWAY_TRUSTED_PROXIES="127.0.0.1")
    mounted = target(gateway.link(photo.ref))
    assert mounted.startswith("/a/b/media/")
    at = f"http://{gateway.settings.listen}"
    for place in ("/auth", "/a/b/auth"):
        for named, status in ((mounted, 204), (mounted.removeprefix("/a/b"), 204), ("/a/b" + mounted, 403)):
            reply = await gateway.ask("GET", at + place, headers={NAMED: named})
            assert (reply.status, reply.headers.get("X-Media-Path")) == (
                status,
                f"/media/{photo.ref}" if status == 204 else None,
            )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_405(gateway: RunningGateway, photo: Media, method: str) -> None:
    reply = await ask(gateway, gateway.link(photo.ref), method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")


# --- the client ----------------------------------------------------------------------------------------------


async def test_a_link_is_verified_for_the_client_the_proxy_names(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref, ip="203.0.113.0/24")
    await require_refused(gateway, link, 403, "link-claim-unmet")
    await require_refused(gateway, link, 403, "link-claim-unmet", X_Forwarded_For="203.0.113.7, 198.51.100.1")
    assert (await ask(gateway, link, X_Forwarded_For="198.51.100.1, 203.0.113.7")).status == 204


async def test_bad_signatures_count_here_and_at_the_media_alike(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_BAD_SIGNATURES="2", GATEWAY_TRUSTED_PROXIES="127.0.0.1")
    bad, guesser = changed(gateway.link(photo.ref)), {"X_Forwarded_For": "203.0.113.9"}
    assert (await ask(gateway, bad, **guesser)).status == 403
    assert (await gateway.get(bad, **guesser)).status == 403
    reply = await ask(gateway, bad, **guesser)
    assert (reply.status, reply.json["type"]) == (429, "urn:media-gateway:problem:too-many-requests")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert (await ask(gateway, bad, X_Forwarded_For="203.0.113.10")).status == 403
    assert (await ask(gateway, gateway.link(photo.ref), **guesser)).status == 204
    assert (await ask(gateway, past(gateway, photo), **guesser)).status == 410


async def test_a_question_without_a_link_counts_against_nobody(gateways: Gateways, photo: Media) -> None:
    gateway = await gateways.start(GATEWAY_LIMIT_BAD_SIGNATURES="1", GATEWAY_TRUSTED_PROXIES="127.0.0.1")
    for _ in range(3):
        assert (await gateway.get("/auth")).status == 403
    assert (await ask(gateway, changed(gateway.link(photo.ref)))).status == 403


async def test_answers_are_counted_under_a_route_of_their_own(gateway: RunningGateway, photo: Media) -> None:
    for link in (gateway.link(photo.ref), past(gateway, photo)):
        await ask(gateway, link)
    reply = await gateway.ask("GET", "/metrics", headers={"Authorization": encode_basic_auth(*REVOKER)})
    counted = Scrape.of(reply.body.decode())
    assert [counted.get("requests_total", route="auth", status=status) for status in ("204", "410")] == [1, 1]
    assert counted.total("requests_total", route="media") == 0


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_the_origin_form_of_a_target_follows_its_authority(text: str) -> None:
    """RFC 9112 §3.2.2."""
    assert origin_form(f"/{text}") == f"/{text}"
    authority = re.sub("[/?#].*", "", text, flags=re.DOTALL)
    assert origin_form(f"HTTPS://{authority}/{text}") == f"/{text}"
