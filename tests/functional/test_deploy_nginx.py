"""The shipped nginx site in front of a real gateway: what it passes unharmed, sets, refuses and writes down."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from proxy.links import LinkMinter
from proxy.sandbox import Media, Sandbox
from tests.functional.configuring import identifiers
from tests.functional.edges import UPSTREAM, Edge, Edges, get_from, rendered, shipped
from tests.functional.harness import CLIENT, KEY, Gateways, Reply, environment
from tests.functional.nginx import substituted, taken_in
from tests.functional.serving import serving
from tests.ports import free_port

pytestmark = pytest.mark.system("nginx")

SITE = shipped("media-gateway.conf")
AUTHORIZATION = {"Authorization": aiohttp.encode_basic_auth(*CLIENT)}
ROOT_LOCATION = """    location / {
        proxy_pass http://media_gateway;
    }
"""
SOCKET = "server unix:/run/media-gateway.sock;"
KEPT, STRIPPED = "# The path kept:", "# The path taken away:"


def mounted(note: str) -> str:
    """Return the site with the mount path's location below this note in place of the root's."""
    head, found, tail = SITE.partition(note)
    assert found
    block, brace, rest = tail.partition("    # }\n")
    assert brace
    return substituted(head + taken_in(block + brace, "location /gw/ {") + rest, {ROOT_LOCATION: ""})


@pytest.fixture
async def edge(edges: Edges) -> Edge:
    return await edges.start(SITE)


async def test_a_signed_link_gives_the_gateway_s_bytes_and_fields(edge: Edge, photo: Media) -> None:
    link = edge.link(photo)
    reply = await edge.get(link)
    assert (reply.status, reply.body) == (200, photo.read())
    direct = await edge.get(link.replace(edge.gateway.url, edge.direct))
    assert _shared_fields(reply) == _shared_fields(direct)
    assert reply.headers["Cache-Status"].startswith("media-gateway;")
    assert reply.headers["Cache-Control"].startswith("private, max-age=")


def _shared_fields(reply: Reply) -> dict[str, str]:
    """Return the fields of an answer but for those of one exchange or one moment."""
    own = {"date", "server", "connection", "x-request-id", "cache-status", "age", "cache-control"}
    return {name.lower(): value for name, value in reply.headers.items() if name.lower() not in own}


async def test_a_range_passes_and_comes_back_as_206(edge: Edge, photo: Media) -> None:
    reply = await edge.get(edge.link(photo), Range="bytes=100-199")
    assert (reply.status, reply.body) == (206, photo.read()[100:200])
    assert reply.headers["Content-Range"] == f"bytes 100-199/{photo.length}"


async def test_several_or_unsatisfiable_ranges_are_the_gateway_s_to_answer(edge: Edge, photo: Media) -> None:
    link = edge.link(photo)
    several = await edge.get(link, Range="bytes=0-1,50000-50001")
    assert (several.status, several.headers["Content-Type"].partition(";")[0]) == (206, "multipart/byteranges")
    beyond = await edge.get(link, Range=f"bytes={photo.length}-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{photo.length}")


async def test_the_entity_tag_stays_strong_and_validates(edge: Edge, photo: Media) -> None:
    link = edge.link(photo)
    etag = (await edge.get(link, Accept_Encoding="gzip")).headers["ETag"]
    assert etag.startswith('"')
    again = await edge.get(link, If_None_Match=etag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    part = await edge.get(link, Range="bytes=0-9", If_Range=etag)
    assert (part.status, part.body) == (206, photo.read()[:10])


async def test_head_says_the_length_and_sends_no_body(edge: Edge, photo: Media) -> None:
    reply = await edge.gateway.head(edge.link(photo))
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", str(photo.length))


@pytest.mark.parametrize(
    "filename", ["наш отпуск.jpg", "a b+c.jpg", "up/../down.jpg", "50%.jpg", "a&b=c?d#e.jpg", "//x;y.jpg", "日本.jpg"]
)
async def test_percent_encoded_claims_pass_unharmed(edge: Edge, photo: Media, filename: str) -> None:
    link = edge.link(photo, filename=filename)
    reply = await edge.get(link)
    direct = await edge.get(link.replace(edge.gateway.url, edge.direct))
    assert (reply.status, reply.body) == (200, photo.read())
    assert reply.headers["Content-Disposition"] == direct.headers["Content-Disposition"]


@pytest.mark.parametrize("spoiled", ["/media//", "/media/./", "/media/x/../", "/%6dedia/"])
async def test_a_path_is_judged_as_it_was_sent(edge: Edge, photo: Media, spoiled: str) -> None:
    good = edge.link(photo)
    assert (await edge.get(good)).status == 200
    reply = await edge.get(good.replace("/media/", spoiled))
    assert reply.status in {403, 404}


@pytest.mark.parametrize("note", [KEPT, STRIPPED])
async def test_a_mount_path_works_kept_and_taken_away(edges: Edges, photo: Media, note: str) -> None:
    edge = await edges.start(mounted(note), mount="/gw")
    link = edge.link(photo, filename="наш/a b.jpg", disposition="attachment")
    assert "/gw/media/" in link
    reply = await edge.get(link)
    assert (reply.status, reply.body) == (200, photo.read())
    assert (await edge.get(edge.gateway.url + "/healthz")).status == 200
    assert (await edge.get(link.replace("/media/", "//media/"))).status in {403, 404}


async def test_the_taken_away_path_is_the_rest_as_sent(edges: Edges, photo: Media) -> None:
    """The gateway knows the mount too: one that it does not know shows that nginx takes it away."""
    edge = await edges.start(mounted(STRIPPED))
    link = edge.link(photo, filename="50% / a.jpg")
    reply = await edge.get(link.replace("/media/", "/gw/media/"))
    assert (reply.status, reply.body) == (200, photo.read())


async def test_the_client_s_address_is_forwarded(edge: Edge, photo: Media) -> None:
    link = edge.link(photo, ip="127.0.0.2/32")
    good = await get_from("127.0.0.2", link)
    assert (good.status, good.body) == (200, photo.read())
    assert (await get_from("127.0.0.3", link)).status == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.3"])
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_a_client_that_says_it_was_forwarded_gains_nothing(
    edge: Edge, photo: Media, address: str, name: str
) -> None:
    """127.0.0.1 is itself trusted, so a member before it would be believed if nginx appended to the list."""
    link = edge.link(photo, ip="127.0.0.2/32")
    claimed = "for=127.0.0.2" if name == "Forwarded" else "127.0.0.2"
    assert (await get_from(address, link, {name: claimed})).status == 403


async def test_one_request_id_is_in_answer_and_nginx_s_log(edge: Edge, photo: Media) -> None:
    reply = await edge.get(edge.link(photo), X_Request_Id="chosen-by-the-client")
    await edge.nginx.stop()
    assert f"id={reply.headers['X-Request-Id']} " in edge.nginx.access_log()


async def test_a_refusal_passes_as_the_gateway_s_problem(edge: Edge, photo: Media) -> None:
    link = edge.link(photo)
    altered = link.replace("expires=", "expires=1")
    for url, status in ((altered, 403), (_expired(edge, photo), 410)):
        reply = await edge.get(url)
        assert (reply.status, reply.json["status"]) == (status, status)
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert reply.headers["Cache-Control"] == "no-store"


def _expired(edge: Edge, photo: Media) -> str:
    minter = edge.gateway.minter
    return type(minter)(edge.gateway.url, minter.keys, minter.policy, clock=lambda: 1_000_000_000).url(photo.ref)


async def test_a_mint_passes_in_both_directions(edge: Edge, photo: Media) -> None:
    document = {"media": [identifiers(photo.ref)]}
    reply = await edge.gateway.ask("POST", "/links", json=document, headers=AUTHORIZATION)
    assert reply.status == 201
    links = reply.json["links"]
    assert isinstance(links, list)
    assert (await edge.get(links[0]["url"])).body == photo.read()


async def test_the_gateway_refuses_a_request_that_is_too_large(edge: Edge) -> None:
    reply = await edge.gateway.ask(
        "POST",
        "/links",
        data=io.BytesIO(b" " * 1_100_000),
        headers=AUTHORIZATION | {"Content-Type": "application/json"},
    )
    assert (reply.status, reply.headers["Content-Type"]) == (413, "application/problem+json")


async def test_a_slow_reader_s_film_never_touches_nginx_s_disk(edge: Edge, film: Media) -> None:
    link = URL(edge.link(film), encoded=True)
    reader, writer = await _connect_with_a_small_window(link)
    writer.write(f"GET {link.raw_path_qs} HTTP/1.1\r\nHost: {link.authority}\r\nConnection: close\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"\r\nContent-Length: {film.length}\r\n".encode() in head
    assert body == film.read()
    assert edge.nginx.buffered_on_disk() is False


async def _connect_with_a_small_window(url: URL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (url.host, url.port))
    return await asyncio.open_connection(sock=connection, limit=8192)


async def test_connections_to_the_gateway_are_kept(edge: Edge, photo: Media) -> None:
    """Whatever the client's own connection does."""
    link = edge.link(photo)
    senders: set[int] = set()
    for _ in range(3):
        await edge.get(link, Connection="close")
        senders |= _connected_to(edge.port)
    assert len(senders) == 1


def _connected_to(port: int) -> set[int]:
    """Return the ports at the other end of the connections with this port of this machine."""
    return {
        connection.laddr.port
        for connection in psutil.net_connections("tcp4")
        if connection.laddr
        and connection.raddr
        and connection.raddr.port == port
        and connection.status == psutil.CONN_ESTABLISHED
    }


async def test_a_unix_socket_serves_as_upstream(edges: Edges, sandbox: Sandbox, photo: Media, tmp_path: Path) -> None:
    port = free_port()
    site = substituted(taken_in(SITE, SOCKET), {f"    {UPSTREAM}\n": "", SOCKET: UPSTREAM})
    # The path of a socket has at most 107 bytes; a test's own folder can be longer.
    with tempfile.TemporaryDirectory() as folder:
        url, listen = f"http://127.0.0.1:{port}", f"unix:{folder}/gateway.sock"
        settings = environment(
            sandbox, tmp_path, GATEWAY_PUBLIC_URL=url, GATEWAY_LISTEN=listen, GATEWAY_TRUSTED_PROXIES="unix"
        )
        async with serving(settings):
            await edges.serve(rendered(site, port, listen, edges.folder))
            link = LinkMinter(url, KEY).url(photo.ref, ip="127.0.0.2/32")
            assert (await get_from("127.0.0.2", link)).body == photo.read()
            assert (await get_from("127.0.0.3", link, {"X-Forwarded-For": "127.0.0.2"})).status == 403


@pytest.mark.system("openssl")
async def test_tls_as_the_comments_say(edges: Edges, gateways: Gateways, photo: Media, tmp_path: Path) -> None:
    certificate, plain, secure = tmp_path / "media.example.com", free_port(), free_port()
    certificate.mkdir()
    _make_certificate(certificate)
    gateway = await gateways.start(GATEWAY_PUBLIC_URL=f"https://127.0.0.1:{secure}")
    tls = substituted(taken_in(SITE, "listen 443 ssl http2;"), {"    listen 80;\n    listen [::]:80;\n": ""})
    site = substituted(
        rendered(taken_in(tls, "server {"), plain, str(gateway.settings.listen), edges.folder),
        {
            "    listen [::]:443 ssl http2;\n": "",
            "listen 443 ssl": f"listen 127.0.0.1:{secure} ssl",
            "/etc/ssl/media.example.com": str(certificate),
        },
    )
    await edges.serve(site)
    trust = ssl.create_default_context(cafile=str(certificate / "fullchain.pem"))
    link = gateway.link(photo.ref)
    reply = await gateway.ask("GET", link, ssl=trust)
    assert (reply.status, reply.body) == (200, photo.read())
    in_the_clear = await gateway.get(link.replace(f"https://127.0.0.1:{secure}", f"http://127.0.0.1:{plain}"))
    assert (in_the_clear.status, in_the_clear.headers.get("Location")) == (403, None)


def _make_certificate(folder: Path) -> None:
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem"), "-days", "1",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True, capture_output=True,
    )  # fmt: skip


async def test_what_the_gateway_is_told_is_nginx_s_word_alone(edges: Edges) -> None:
    """Seen by an upstream that notes what it is sent: the target byte for byte, the fields about the client."""
    seen: list[web.Request] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", note)
    port = free_port()
    async with TestServer(app) as upstream, aiohttp.ClientSession() as session:
        await edges.serve(rendered(SITE, port, f"127.0.0.1:{upstream.port}", edges.folder))
        target = "/a//b/%2e%2E/%2F/./~?x=%2F&y=a%20b+c&&z=%C3%A9"
        claimed = {
            "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "other.example",
            "Forwarded": "for=203.0.113.9", "X-Original-URI": "/media/x", "X-Forwarded-Uri": "/media/x",
            "X-Request-Id": "chosen-by-the-client", "Range": "bytes=0-1", "If-Range": '"e"',
        }  # fmt: skip
        async with session.get(URL(f"http://127.0.0.1:{port}{target}", encoded=True), headers=claimed) as response:
            assert response.status == 200
    (request,) = seen
    assert request.raw_path == target
    told = {name: request.headers.getall(name, []) for name in (*claimed, "Host")}
    (request_id,) = told.pop("X-Request-Id")
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    host = f"127.0.0.1:{port}"
    assert told == {
        "X-Forwarded-For": ["127.0.0.1"], "X-Forwarded-Proto": ["http"], "X-Forwarded-Host": [host], "Host": [host],
        "Forwarded": [], "X-Original-URI": [], "X-Forwarded-Uri": [], "Range": ["bytes=0-1"], "If-Range": ['"e"'],
    }  # fmt: skip


async def test_no_log_of_nginx_s_holds_a_signature(edge: Edge, photo: Media) -> None:
    link = edge.link(photo, filename="secret-name.jpg")
    signature = link.partition("&signature=")[2]
    path = f"/media/{photo.ref.account}/{photo.ref.message}/{photo.ref.media}"
    assert (await edge.get(link, Referer=link)).status == 200
    mangled = link.replace("?", "%3F").replace("&", "%26").replace("=", "%3D")
    assert (await edge.get(mangled)).status == 403
    await edge.nginx.stop()
    logged = edge.nginx.access_log().splitlines()
    assert [f'"GET {path} HTTP/1.1"' in line for line in logged] == [True, True]
    assert 'cache="media-gateway;' in logged[0]
    assert signature not in edge.nginx.all_logs()
    assert "secret-name" not in edge.nginx.all_logs()


async def test_an_absent_gateway_is_a_problem_and_no_link_logged(
    edges: Edges,
) -> None:
    port = free_port()
    served = await edges.serve(rendered(SITE, port, f"127.0.0.1:{free_port()}", edges.folder))
    signature = "s" * 43
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/media/a/b/c?expires=1&key=k1&signature={signature}") as response,
    ):
        document = json.loads(await response.read())
        assert (response.status, document["status"]) == (503, 503)
        assert response.headers["Content-Type"] == "application/problem+json"
        assert (response.headers["Cache-Control"], response.headers["Retry-After"]) == ("no-store", "5")
    await served.stop()
    assert 'upstream="502 ' in served.access_log()
    assert document["instance"] in served.access_log()
    assert signature not in served.all_logs()


async def test_an_absent_socket_is_logged_without_the_link(edges: Edges, tmp_path: Path) -> None:
    """nginx takes this for a graver fault than a refused connection."""
    port = free_port()
    served = await edges.serve(rendered(SITE, port, f"unix:{tmp_path}/none.sock", edges.folder))
    signature = "s" * 43
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/media/a/b/c?signature={signature}") as response,
    ):
        assert response.status == 503
    await served.stop()
    assert signature not in served.all_logs()
