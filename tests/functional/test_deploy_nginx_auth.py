"""The shipped nginx site that guards files of nginx's own: whom the gateway lets in, and what they get."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest

from proxy.sandbox import Media, Sandbox
from tests.functional.edges import (
    Edge,
    Edges,
    get_from,
    lay_out_files,
    max_age,
    operator_file,
    past,
    rendered,
    revoke,
    seconds_left,
    shipped,
    spoofs,
    tampered,
    target,
)
from tests.functional.media_api import delete, path
from tests.functional.nginx import substituted
from tests.ports import free_port

pytestmark = pytest.mark.system("nginx")

OWN = b"nginx's own bytes, which no gateway has"


@pytest.fixture
def root(photo: Media, film: Media, tmp_path: Path) -> Path:
    """Return the folder of nginx's own files: of the photo and the film, other bytes than the provider's."""
    return lay_out_files(tmp_path / "files", OWN, jpg=photo, wav=film)


@pytest.fixture
def site(root: Path) -> str:
    return substituted(shipped("media-gateway-files.conf"), {"/srv/media-gateway;": f"{root};"})


@pytest.fixture
async def edge(edges: Edges, site: str, tmp_path: Path) -> Edge:
    return await edges.start(site, config=operator_file(tmp_path))


async def refused(edge: Edge, link: str, status: int, kind: str, **headers: str) -> None:
    """Check the refusal as the gateway's own problem, and for HEAD as well."""
    reply = await edge.get(link, **headers)
    assert (reply.status, reply.json["type"]) == (status, f"urn:media-gateway:problem:{kind}")
    assert (reply.headers["Cache-Control"], OWN in reply.body) == ("no-store", False)
    assert (await edge.gateway.head(link)).status == status


async def test_a_good_link_opens_nginx_s_own_file(edge: Edge, photo: Media, film: Media, sandbox: Sandbox) -> None:
    for media, extension in ((photo, b"jpg"), (film, b"wav")):
        link = edge.link(media)
        reply = await edge.get(link)
        assert (reply.status, reply.body) == (200, OWN + extension)
        assert reply.headers["Content-Type"] == media.content_type
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in reply.headers["Content-Security-Policy"]
        assert seconds_left(link) - 2 <= max_age(reply) <= seconds_left(link) + 1
        assert "Content-Disposition" not in reply.headers
    assert sandbox.requests == ()


async def test_the_link_s_own_name_and_disposition_are_kept_to(edge: Edge, photo: Media) -> None:
    reply = await edge.get(edge.link(photo, filename="наш отпуск.jpg", disposition="attachment"))
    direct = await edge.get(
        edge.link(photo, filename="наш отпуск.jpg", disposition="attachment").replace(edge.gateway.url, edge.direct)
    )
    assert (reply.status, reply.body) == (200, OWN + b"jpg")
    assert reply.headers["Content-Disposition"] == direct.headers["Content-Disposition"]
    assert reply.headers["Content-Disposition"].startswith("attachment; filename=")


async def test_head_ranges_and_validation(edge: Edge, photo: Media) -> None:
    link = edge.link(photo)
    head = await edge.gateway.head(link)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(OWN) + 3))
    etag = head.headers["ETag"]
    assert etag.startswith('"')
    part = await edge.get(link, Range="bytes=2-5", If_Range=etag)
    assert (part.status, part.body) == (206, OWN[2:6])
    assert (await edge.get(link, Range="bytes=9999-")).status == 416
    unchanged = await edge.get(link, If_None_Match=etag)
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", etag)
    assert max_age(unchanged) <= seconds_left(link) + 1


async def test_each_refusal_is_the_gateway_s(edge: Edge, photo: Media, film: Media) -> None:
    good = edge.link(photo)
    await refused(edge, tampered(good), 403, "link-signature-invalid")
    await refused(edge, good.replace(photo.sid, film.sid), 403, "link-signature-invalid")
    await refused(edge, good.partition("?")[0], 403, "link-malformed")
    await refused(edge, good.replace("/media/", "/media//"), 403, "link-malformed")
    await refused(edge, edge.link(photo, not_before=int(time.time()) + 100), 403, "link-claim-unmet")
    await refused(edge, past(edge.gateway, photo), 410, "link-expired")
    await revoke(edge.gateway, photo)
    await refused(edge, good, 403, "link-revoked")
    await revoke(edge.gateway, photo, lift=True)
    assert (await edge.get(good)).status == 200


async def test_a_refusal_holds_for_ranges_and_conditions(edge: Edge, photo: Media) -> None:
    etag = (await edge.get(edge.link(photo))).headers["ETag"]
    for headers in ({"Range": "bytes=0-1"}, {"If_None_Match": etag}):
        await refused(edge, past(edge.gateway, photo), 410, "link-expired", **headers)
        await refused(edge, tampered(edge.link(photo)), 403, "link-signature-invalid", **headers)


async def test_a_media_deleted_through_the_gateway_is_not_served(edge: Edge, photo: Media) -> None:
    link = edge.link(photo)
    assert (await edge.get(link)).status == 200
    assert (await delete(edge.gateway, path(photo, ".json"))).status == 204
    await refused(edge, link, 404, "media-not-found")


async def test_a_client_s_own_word_opens_nothing(edge: Edge, photo: Media, film: Media) -> None:
    good, wanted = edge.link(photo), edge.link(film)
    for headers in spoofs(good):
        for url in (tampered(wanted), wanted.partition("?")[0], past(edge.gateway, film)):
            reply = await edge.gateway.ask("GET", url, headers=headers)
            assert reply.status in {403, 410}
            assert OWN not in reply.body
        reply = await edge.gateway.ask("GET", good, headers=headers)
        assert (reply.status, reply.body) == (200, OWN + b"jpg")
        assert max_age(reply) <= seconds_left(good) + 1
        assert "Content-Disposition" not in reply.headers


async def test_the_question_itself_is_not_for_clients(edge: Edge, photo: Media) -> None:
    named = {"X-Original-URI": target(edge.link(photo))}
    for asked, status in (("/media-gateway-auth", 404), ("/auth", 403)):
        assert (await edge.gateway.ask("GET", asked, headers=named)).status == status


async def test_no_file_is_reached_but_by_its_media_s_name(edge: Edge, photo: Media, root: Path) -> None:
    (root / "media" / "secret.jpg").write_bytes(OWN)
    for place in ("/media/secret.jpg", "/media/%2e%2e/media/secret.jpg", f"/media/{photo.ref}.jpg"):
        await refused(edge, edge.gateway.url + place, 403, "link-malformed")


async def test_a_media_of_which_nginx_has_no_file_is_404(edge: Edge, root: Path, photo: Media) -> None:
    (root / "media" / f"{photo.ref}.jpg").unlink()
    assert (await edge.get(edge.link(photo))).status == 404


async def test_the_client_s_address_is_the_one_that_is_judged(edge: Edge, photo: Media) -> None:
    link = edge.link(photo, ip="127.0.0.2/32")
    assert (await get_from("127.0.0.2", link)).body == OWN + b"jpg"
    assert (await get_from("127.0.0.3", link)).status == 403
    for address in ("127.0.0.1", "127.0.0.3"):
        assert (await get_from(address, link, {"X-Forwarded-For": "127.0.0.2"})).status == 403


async def test_too_many_bad_signatures_are_told_when_to_come_back(edges: Edges, site: str, photo: Media) -> None:
    edge = await edges.start(site, GATEWAY_LIMIT_BAD_SIGNATURES="2")
    assert (await edge.get(tampered(edge.link(photo)))).status == 403
    reply = await edge.get(tampered(edge.link(photo)))
    assert (reply.status, reply.headers["Retry-After"].isdigit()) == (429, True)
    assert (await edge.get(edge.link(photo))).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_file_is_only_read(edge: Edge, photo: Media, method: str) -> None:
    reply = await edge.gateway.ask(method, edge.link(photo), data=b"x")
    assert reply.status == 405
    assert (await edge.get(edge.link(photo))).body == OWN + b"jpg"


async def test_while_the_gateway_is_away_nothing_is_served(edges: Edges, site: str, photo: Media) -> None:
    port = free_port()
    served = await edges.serve(rendered(site, port, f"127.0.0.1:{free_port()}", edges.folder))
    signature = "s" * 43
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/media/{photo.ref}?expires=1&key=k1&signature={signature}") as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert response.headers["Content-Type"] == "application/problem+json"
    await served.stop()
    assert signature not in served.all_logs()


async def test_no_log_of_nginx_s_holds_a_signature(edge: Edge, photo: Media) -> None:
    links = [edge.link(photo, filename="secret-name.jpg"), past(edge.gateway, photo), tampered(edge.link(photo))]
    assert [(await edge.get(link, Referer=link)).status for link in links] == [200, 410, 403]
    await edge.nginx.stop()
    for link in links:
        assert link.rpartition("=")[2] not in edge.nginx.all_logs()
    assert "secret-name" not in edge.nginx.all_logs()
    assert len(edge.nginx.access_log().splitlines()) == 3


async def test_under_a_path_of_a_site(edges: Edges, site: str, photo: Media) -> None:
    moved = substituted(site, {"location /media/ {": "location /gw/media/ {", "location / {": "location /gw/ {"})
    edge = await edges.start(moved, mount="/gw")
    link = edge.link(photo)
    assert "/gw/media/" in link
    assert (await edge.get(link)).body == OWN + b"jpg"
    await refused(edge, tampered(link), 403, "link-signature-invalid")
    assert (await edge.get(edge.gateway.url + "/healthz")).status == 200
