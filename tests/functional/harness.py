"""A real gateway on a free port, over a real sandbox upstream on others, and a client for both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from proxy.links import LinkMinter
from proxy.model import MediaRef
from proxy.processes.service import serving_alone
from proxy.sandbox import Sandbox
from proxy.settings import Settings, load
from proxy.telemetry.logs import logging_to

CLIENT = ("backend", "c" * 40)
KEY = f"k1:{'s' * 40}"


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.body)
        return document


@dataclass
class RunningGateway:
    """A gateway that serves, with a client of its own."""

    settings: Settings
    session: aiohttp.ClientSession
    minter: LinkMinter = field(init=False)

    def __post_init__(self) -> None:
        self.minter = LinkMinter(self.url, KEY)

    @property
    def url(self) -> str:
        return str(self.settings.public_url)

    def link(self, ref: MediaRef, **claims: str | int) -> str:
        """Return a link as a backend with the key mints it."""
        return self.minter.url(ref, **claims)  # type: ignore[arg-type]

    async def ask(self, method: str, url: str, **options: object) -> Reply:
        """Send one request; `url` is whole, or a path of the gateway's."""
        target = URL(url if "://" in url else self.url + url, encoded=True)
        async with self.session.request(method, target, **options) as response:  # type: ignore[arg-type]
            return Reply(response.status, response.headers, await response.read())

    async def get(self, url: str, **headers: str) -> Reply:
        return await self.ask("GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def head(self, url: str, **headers: str) -> Reply:
        return await self.ask("HEAD", url, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def post(self, path: str, document: object, client: tuple[str, str] | None = CLIENT, **headers: str) -> Reply:
        """Post a document as JSON, as a client or as none."""
        sent = {
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if client is not None:
            sent["Authorization"] = aiohttp.encode_basic_auth(*client)
        return await self.ask("POST", path, data=json.dumps(document).encode(), headers=sent)

    async def mint(self, document: object, *, client: tuple[str, str] = CLIENT) -> Reply:
        return await self.post("/links", document, client)


def environment(sandbox: Sandbox, folder: Path, **overrides: str) -> dict[str, str]:
    """Return the settings that a gateway over this sandbox is started with."""
    return {
        "TWILIO_ACCOUNT_SID": sandbox.account_sid,
        "TWILIO_AUTH_TOKEN": sandbox.auth_token,
        "GATEWAY_UPSTREAM_URL": sandbox.api_url,
        "GATEWAY_REDIRECT_HOSTS": sandbox.cdn_host,
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_SIGNING_KEYS": KEY,
        "GATEWAY_CLIENTS": ":".join(CLIENT),
        "GATEWAY_CACHE_DIR": str(folder),
        "GATEWAY_DRAIN_SECONDS": "5",
        **overrides,
    }


async def converse(gateway: RunningGateway, octets: bytes) -> bytes:
    """Return all that the gateway answers to these octets, up to its closing the connection."""
    url = URL(gateway.url)
    assert url.host is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(octets)
        return await reader.read()
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def bare(answer: bytes) -> Reply:
    """Return one answer with a body as it came over the wire; the body is what follows the head, frame and all."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = CIMultiDict((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Reply(int(status_line.split(" ")[1]), headers, body)


@dataclass
class Logs:
    """The two logs: whole once the scope of `logged` has ended."""

    access: StringIO
    program: StringIO

    @property
    def lines(self) -> list[str]:
        """The lines of the access log."""
        return self.access.getvalue().splitlines()

    @property
    def entries(self) -> list[dict[str, object]]:
        """The lines of the access log, if it was written as JSON."""
        return [json.loads(line) for line in self.lines]

    @property
    def said(self) -> list[dict[str, object]]:
        """Return the lines of the program's log, if it was written as JSON."""
        return [json.loads(line) for line in self.program.getvalue().splitlines()]


@asynccontextmanager
async def logged(*, as_json: bool = True, level: str = "debug") -> AsyncIterator[Logs]:
    """Yield both logs of what happens meanwhile."""
    logs = Logs(StringIO(), StringIO())
    with ExitStack() as scope:
        scope.enter_context(logging_to(as_json=as_json, level=level, access=logs.access, program=logs.program))
        try:
            yield logs
        finally:
            # The end waits for the thread that writes.
            await asyncio.to_thread(scope.close)


class Gateways:
    """Starts gateways over one sandbox; all of them end with the test."""

    def __init__(self, stack: AsyncExitStack, sandbox: Sandbox, folder: Path) -> None:
        self._stack = stack
        self._sandbox = sandbox
        self._folder = folder

    @property
    def folder(self) -> Path:
        """The cache folder of every gateway that is given no other."""
        return self._folder

    async def start(
        self, *, open_console: bool = False, config: Path | None = None, **overrides: str
    ) -> RunningGateway:
        """Start a gateway with these settings changed; it ends with the test."""
        return await self._stack.enter_async_context(
            self.running(open_console=open_console, config=config, **overrides)
        )

    @asynccontextmanager
    async def running(
        self, *, open_console: bool = False, config: Path | None = None, **overrides: str
    ) -> AsyncIterator[RunningGateway]:
        """Yield such a gateway within a scope."""
        settings = await asyncio.to_thread(load, environment(self._sandbox, self._folder, **overrides), config)
        async with (
            serving_alone(settings, open_console=open_console) as bound,
            aiohttp.ClientSession(auto_decompress=False) as session,
        ):
            yield RunningGateway(bound, session)
