"""The shipped Caddyfile in front of a real gateway: Caddy's own files behind signed links, and all else passed on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from proxy.sandbox import Media, Sandbox
from tests.functional import fronts
from tests.functional.caddy import caddy, rendered
from tests.functional.configuring import identifiers
from tests.functional.edges import (
    get_from,
    lay_out_files,
    max_age,
    operator_file,
    past,
    revoke,
    seconds_left,
    spoofs,
    tampered,
    target,
)
from tests.functional.harness import Gateways, RunningGateway
from tests.functional.media_api import delete, path
from tests.ports import free_port

pytestmark = pytest.mark.system("caddy")

SHIPPED = (Path(__file__).parents[2] / "deploy/caddy/Caddyfile").read_text()
OWN = b"Caddy's own bytes, which no gateway has"


@dataclass(frozen=True)
class Front:
    """A gateway behind Caddy. The gateway's `url`, and with it each link, is Caddy's."""

    gateway: RunningGateway
    caddy: fronts.Front


@pytest.fixture
def root(photo: Media, film: Media, tmp_path: Path) -> Path:
    """Return the folder of Caddy's own files: of the photo and the film, other bytes than the provider's."""
    return lay_out_files(tmp_path / "files", OWN, jpg=photo, mp4=film)


@pytest.fixture
async def front(
    gateways: Gateways, program_path: Callable[[str], str], root: Path, tmp_path: Path
) -> AsyncIterator[Front]:
    port = free_port()
    gateway = await gateways.start(
        config=operator_file(tmp_path),
        GATEWAY_PUBLIC_URL=f"http://127.0.0.1:{port}",
        GATEWAY_TRUSTED_PROXIES="127.0.0.1",
        GATEWAY_AUTH_HEADER="X-Forwarded-Uri",
    )
    text = rendered(SHIPPED, port, str(gateway.settings.listen), root)
    async with caddy(program_path("caddy"), text, tmp_path / "caddy") as running:
        yield Front(gateway, running)


@pytest.fixture
def gateway(front: Front) -> RunningGateway:
    return front.gateway


async def refused(gateway: RunningGateway, link: str, status: int, kind: str, **headers: str) -> None:
    """Check the refusal as the gateway's own problem, and for HEAD as well."""
    reply = await gateway.get(link, **headers)
    assert (reply.status, reply.json["type"]) == (status, f"urn:media-gateway:problem:{kind}")
    assert (reply.headers["Cache-Control"], OWN in reply.body) == ("no-store", False)
    assert (await gateway.head(link)).status == status


async def test_a_good_link_opens_caddy_s_own_file(
    gateway: RunningGateway, photo: Media, film: Media, sandbox: Sandbox
) -> None:
    for media, extension, content_type in ((photo, b"jpg", "image/jpeg"), (film, b"mp4", "video/mp4")):
        link = gateway.link(media.ref)
        reply = await gateway.get(link)
        assert (reply.status, reply.body) == (200, OWN + extension)
        assert reply.headers["Content-Type"] == content_type
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert seconds_left(link) - 2 <= max_age(reply) <= seconds_left(link) + 1
        assert "Content-Disposition" not in reply.headers
        assert "X-Media-Path" not in reply.headers
    assert sandbox.requests == ()


@pytest.mark.parametrize("filename", ["наш отпуск.jpg", "a b+c.jpg", "50%.jpg", "a&b=c?d#e.jpg", "//x;y.jpg"])
async def test_the_link_s_own_name_and_disposition_are_kept_to(
    gateway: RunningGateway, photo: Media, filename: str
) -> None:
    link = gateway.link(photo.ref, filename=filename, disposition="attachment")
    reply = await gateway.get(link)
    direct = await gateway.get(link.replace(gateway.url, f"http://{gateway.settings.listen}"))
    assert (reply.status, reply.body) == (200, OWN + b"jpg")
    assert reply.headers["Content-Disposition"] == direct.headers["Content-Disposition"]


async def test_head_ranges_and_validation(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref)
    head = await gateway.head(link)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(OWN) + 3))
    etag = head.headers["ETag"]
    part = await gateway.get(link, Range="bytes=2-5", If_Range=etag)
    assert (part.status, part.body) == (206, OWN[2:6])
    unchanged = await gateway.get(link, If_None_Match=etag)
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert max_age(unchanged) <= seconds_left(link) + 1


async def test_each_refusal_is_the_gateway_s(gateway: RunningGateway, photo: Media, film: Media) -> None:
    good = gateway.link(photo.ref)
    await refused(gateway, tampered(good), 403, "link-signature-invalid")
    await refused(gateway, good.replace(photo.sid, film.sid), 403, "link-signature-invalid")
    await refused(gateway, good.partition("?")[0], 403, "link-malformed")
    await refused(gateway, good.replace("/media/", "/media//"), 403, "link-malformed")
    await refused(gateway, gateway.link(photo.ref, not_before=int(time.time()) + 100), 403, "link-claim-unmet")
    for headers in ({}, {"Range": "bytes=0-1"}, {"If_None_Match": "*"}):
        await refused(gateway, past(gateway, photo), 410, "link-expired", **headers)
    await revoke(gateway, photo)
    await refused(gateway, good, 403, "link-revoked")
    await revoke(gateway, photo, lift=True)
    assert (await gateway.get(good)).status == 200
    assert (await delete(gateway, path(photo, ".json"))).status == 204
    await refused(gateway, good, 404, "media-not-found")


async def test_a_client_s_own_word_opens_nothing(gateway: RunningGateway, photo: Media, film: Media) -> None:
    good, wanted = gateway.link(photo.ref), gateway.link(film.ref)
    for headers in spoofs(good):
        for url in (tampered(wanted), wanted.partition("?")[0], past(gateway, film)):
            reply = await gateway.ask("GET", url, headers=headers)
            assert reply.status in {403, 410}
            assert OWN not in reply.body
        reply = await gateway.ask("GET", good, headers=headers)
        assert (reply.status, reply.body) == (200, OWN + b"jpg")
        assert max_age(reply) <= seconds_left(good) + 1
        assert "Content-Disposition" not in reply.headers


async def test_the_question_itself_is_not_for_clients(gateway: RunningGateway, photo: Media) -> None:
    named = {"X-Forwarded-Uri": target(gateway.link(photo.ref))}
    assert (await gateway.ask("GET", "/auth", headers=named)).status == 403


async def test_no_file_is_reached_but_by_its_media_s_name(gateway: RunningGateway, photo: Media, root: Path) -> None:
    (root / "media" / "secret.jpg").write_bytes(OWN)
    for place in ("/media/secret.jpg", "/media/%2e%2e/media/secret.jpg", f"/media/{photo.ref}.jpg"):
        reply = await gateway.get(gateway.url + place)
        assert reply.status in {403, 404}
        assert OWN not in reply.body


async def test_a_media_without_a_file_of_caddy_s_is_404(gateway: RunningGateway, root: Path, photo: Media) -> None:
    (root / "media" / f"{photo.ref}.jpg").unlink()
    reply = await gateway.get(gateway.link(photo.ref, filename="a.jpg"))
    assert (reply.status, reply.headers["Cache-Control"]) == (404, "no-store")
    assert "Content-Disposition" not in reply.headers


async def test_the_client_s_address_is_the_one_that_is_judged(gateway: RunningGateway, photo: Media) -> None:
    link = gateway.link(photo.ref, ip="127.0.0.2/32")
    assert (await get_from("127.0.0.2", link)).body == OWN + b"jpg"
    assert (await get_from("127.0.0.3", link)).status == 403
    for address in ("127.0.0.1", "127.0.0.3"):
        assert (await get_from(address, link, {"X-Forwarded-For": "127.0.0.2"})).status == 403


async def test_all_else_is_the_gateway_s(gateway: RunningGateway, photo: Media) -> None:
    reply = await gateway.mint({"media": [identifiers(photo.ref)]})
    assert reply.status == 201
    assert (await gateway.get(f"{gateway.url}/healthz")).status == 200


async def test_no_log_of_caddy_s_holds_a_signature(
    front: Front, photo: Media, program_path: Callable[[str], str], root: Path, tmp_path: Path
) -> None:
    links = [front.gateway.link(photo.ref), past(front.gateway, photo), tampered(front.gateway.link(photo.ref))]
    assert [(await front.gateway.get(link, Referer=link)).status for link in links] == [200, 410, 403]
    port = free_port()
    text = rendered(SHIPPED, port, f"127.0.0.1:{free_port()}", root)
    async with (
        caddy(program_path("caddy"), text, tmp_path / "before nobody") as lonely,
        aiohttp.ClientSession() as session,
    ):
        for link in (links[0], links[0].replace("?", "%3F").replace("&", "%26").replace("=", "%3D")):
            async with session.get(
                link.replace(front.gateway.url, f"http://127.0.0.1:{port}"), headers={"Referer": link}
            ) as response:
                assert (response.status, response.headers["Cache-Control"]) == (502, "no-store")
        await lonely.stop()
    await front.caddy.stop()
    said = lonely.log + front.caddy.log
    assert [said.count(f'"status":{status}') for status in (200, 410, 403, 502)] == [1, 1, 1, 2]
    for link in links:
        assert link.rpartition("=")[2] not in said
