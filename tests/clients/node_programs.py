"""Node and curl, run against the provider's stand-in itself and against a gateway over it."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from yarl import URL

from proxy.processes.service import serving_alone
from proxy.sandbox import Media, Message, Sandbox
from proxy.settings import load
from tests.clients.drivers import Drivers
from tests.clients.systems import Place, System, gateway_at, gateway_environment, upstream_of
from tests.functional.harness import RunningGateway

HERE: Final = Path(__file__).parent
NODE: Final = HERE / "node"
NODE_MODULES: Final = NODE / "node_modules"


class Side(enum.StrEnum):
    """The server that a program speaks with."""

    PROVIDER = "provider"
    GATEWAY = "gateway"


@dataclass(frozen=True)
class Target:
    """A provider with one message of five media, and the place where programs find it: its own, or a gateway's."""

    sandbox: Sandbox
    place: Place
    message: Message
    gateway: RunningGateway | None = None

    @property
    def first(self) -> Media:
        return self.message.media[0]

    @property
    def sids(self) -> list[str]:
        """The identifiers of the five media, oldest first."""
        return [media.sid for media in self.message.media]


MOMENT: Final = dt.datetime(2026, 3, 4, 12, 30, 15, tzinfo=dt.UTC)
"""The time at which the message came."""


@asynccontextmanager
async def serving(side: Side, system: System, folder: Path, **settings: str) -> AsyncIterator[Target]:
    """Yield the provider's stand-in, alone or with a gateway in front of it."""
    async with Sandbox(system.options) as sandbox:
        message = await sandbox.add_message(
            [("image/jpeg", bytes([number]) * 40_000) for number in range(5)], date_created=MOMENT.timestamp()
        )
        if side is Side.PROVIDER:
            yield Target(sandbox, upstream_of(sandbox), message)
            return
        loaded = await asyncio.to_thread(load, gateway_environment(sandbox, folder / "cache", **settings))
        async with serving_alone(loaded) as bound, aiohttp.ClientSession(auto_decompress=False) as session:
            gateway = RunningGateway(bound, session)
            yield Target(sandbox, gateway_at(gateway.url, sandbox), message, gateway)


@dataclass(frozen=True)
class Ended:
    """The end of a program, and its output."""

    code: int
    output: bytes
    complaints: str


async def run(
    command: Sequence[str], environ: Mapping[str, str], *, given: bytes = b"", folder: Path | None = None
) -> Ended:
    """Run a program to its end, with PATH and `environ` alone."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
    )
    output, complaints = await process.communicate(given)
    assert process.returncode is not None
    return Ended(process.returncode, output, complaints.decode())


def require_node_modules() -> None:
    """Skip, or if everything is required fail, without the libraries that `npm ci` installs."""
    if (NODE_MODULES / ".package-lock.json").exists():
        return
    missing = "npm ci has not been run in tests/clients/node"
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{missing}, and REQUIRE_ALL=1", pytrace=False)
    pytest.skip(missing)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one call: its value, or the error's properties."""

    value: object = None
    error: Mapping[str, object] | None = None


async def call_library(
    node: str,
    order: Mapping[str, object],
    calls: Sequence[Mapping[str, object]],
    environ: Mapping[str, str],
    drivers: Drivers,
) -> list[Outcome]:
    """Call the library of `order`, in a process of its own if it needs an environment; see calls.js."""
    command, given = (node, str(NODE / "calls.js")), json.dumps({**order, "calls": calls}).encode()
    if environ:
        ended = await run(command, environ, given=given)
        assert (ended.code, ended.complaints) == (0, ""), ended
        output = ended.output
    else:
        driver = drivers.of(*command)
        output = await driver.outcome(given)
        assert driver.complaints == ""
    outcomes: list[dict[str, object]] = json.loads(output)
    found: list[Outcome] = []
    for outcome in outcomes:
        error = outcome.get("error")
        assert error is None or isinstance(error, dict)
        found.append(Outcome(outcome.get("value"), error))
    assert len(found) == len(calls)
    return found


@asynccontextmanager
async def tls_in_front(url: str, folder: Path, openssl: str) -> AsyncIterator[tuple[str, Path]]:
    """Yield an end of TLS in front of a plain origin: its `host:port`, and the certificate to trust."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    made = await run(
        (openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=space.test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)),
        {},
    )  # fmt: skip
    assert made.code == 0, made.complaints
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(context.load_cert_chain, certificate, key)
    inner = URL(url)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(inner.host, inner.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, inner_writer))
            group.create_task(_pump(inner_reader, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", certificate


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while octets := await reader.read(65_536):
            writer.write(octets)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()
