"""A real nginx with one of the shipped sites in front of a real gateway."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from proxy.links import LinkMinter
from proxy.sandbox import Media
from proxy.settings import TcpAddress
from tests.functional.configuring import client_table, identifiers, write_config
from tests.functional.harness import KEY, Gateways, Reply, RunningGateway
from tests.functional.nginx import RunningNginx, nginx, substituted
from tests.ports import free_port

UPSTREAM = "server 127.0.0.1:8080;"


def shipped(name: str) -> str:
    """Return a site as it is shipped."""
    return (Path(__file__).parents[2] / "deploy/nginx" / name).read_text()


@dataclass(frozen=True)
class Edge:
    """A gateway behind nginx. The gateway's `url`, and with it each link, is nginx's."""

    gateway: RunningGateway
    nginx: RunningNginx

    @property
    def direct(self) -> str:
        """The gateway's own address."""
        return f"http://{self.gateway.settings.listen}"

    @property
    def port(self) -> int:
        """The port of `direct`."""
        assert isinstance(self.gateway.settings.listen, TcpAddress)
        return self.gateway.settings.listen.port

    def link(self, media: Media, **claims: str | int) -> str:
        return self.gateway.link(media.ref, **claims)

    async def get(self, url: str, **headers: str) -> Reply:
        return await self.gateway.get(url, **headers)


async def get_from(address: str, url: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Ask as a client at this address of the loopback network."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
        session.get(URL(url, encoded=True), headers=headers) as response,
    ):
        return Reply(response.status, response.headers, await response.read())


def rendered(site: str, port: int, upstream: str, folder: Path) -> str:
    """Return the site at a port of this machine's, before `upstream`, with its logs in `folder`."""
    return substituted(
        site,
        {
            "    listen [::]:80;\n": "",
            "listen 80;": f"listen 127.0.0.1:{port};",
            UPSTREAM: f"server {upstream};",
            "/var/log/nginx": str(folder),
        },
    )


class Edges:
    """Starts gateways behind nginx; all of them end with the test."""

    def __init__(self, stack: AsyncExitStack, gateways: Gateways, program: str, folder: Path) -> None:
        self._stack = stack
        self._gateways = gateways
        self._program = program
        self._folder = folder

    async def start(self, site: str, *, mount: str = "", config: Path | None = None, **settings: str) -> Edge:
        port = free_port()
        forwarding = {
            "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{port}{mount}",
            "GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
        }
        gateway = await self._gateways.start(open_console=False, config=config, **(forwarding | settings))
        text = rendered(site, port, str(gateway.settings.listen), self._folder)
        return Edge(gateway, await self.serve(text))

    async def serve(self, text: str) -> RunningNginx:
        """Start an nginx over this very text."""
        return await self._stack.enter_async_context(nginx(self._program, text, self._folder))

    @property
    def folder(self) -> Path:
        """The folder that nginx writes to."""
        return self._folder


OPERATOR = ("operator", "o" * 40)


def lay_out_files(folder: Path, body: bytes, **media: Media) -> Path:
    """Write files of a server's own: for each media, by its extension, other bytes than the provider's."""
    for extension, one in media.items():
        file = folder / "media" / f"{one.ref}.{extension}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body + extension.encode())
    return folder


def operator_file(folder: Path) -> Path:
    """Write a configuration file with a client that may erase and revoke everything."""
    return write_config(folder, client_table(OPERATOR, "purge revoke"))


async def revoke(gateway: RunningGateway, media: Media, *, lift: bool = False) -> None:
    """Revoke through the server in front of the gateway."""
    reply = await gateway.post("/revoke", {"media": [identifiers(media.ref)], "lift": lift}, OPERATOR)
    assert reply.status == 204


def past(gateway: RunningGateway, media: Media) -> str:
    """Return a link with a good signature that has expired."""
    return LinkMinter(gateway.url, KEY, clock=lambda: time.time() - 1_000).url(media.ref)


def tampered(link: str) -> str:
    """Return the link with another first character in its signature."""
    head, _, signature = link.rpartition("signature=")
    return f"{head}signature={'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def target(link: str) -> str:
    """Return path and query of a link."""
    return URL(link, encoded=True).raw_path_qs


def seconds_left(link: str) -> float:
    """Return the seconds until the link ends."""
    return int(URL(link).query["expires"]) - time.time()


def max_age(reply: Reply) -> int:
    """Return the seconds for which the browser alone may keep an answer."""
    match = re.fullmatch(r"private, max-age=(\d+)", reply.headers["Cache-Control"])
    assert match is not None, reply.headers["Cache-Control"]
    return int(match[1])


def spoofs(good: str) -> list[dict[str, str]]:
    """Return what a client may send so that a good link of its own is taken for the one that it asks for."""
    opened = target(good)
    return [
        {"X-Original-URI": opened},
        {"X-Forwarded-Uri": opened},
        {"X-Original-URL": good},
        {"X_Original_URI": opened},
        {"X-Original-URI": opened, "X-Forwarded-Uri": opened, "X-Forwarded-For": "127.0.0.1"},
        {"X-Media-Path": URL(good).path, "X-Link-Max-Age": "9999", "X-Link-Disposition": "inline"},
    ]
