from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.processes.service import serving_alone
from proxy.sandbox import Message, Sandbox
from proxy.settings import load
from tests.clients.drivers import Drivers
from tests.clients.libraries import Kind, Library
from tests.clients.systems import Place, System, gateway_at, gateway_environment, upstream_of
from tests.ports import free_port

MADE = 1_773_144_000  # 10 March 2026, 12:00 UTC


@pytest.fixture(params=list(System), ids=str)
def system(request: pytest.FixtureRequest) -> System:
    """Return each system that the documents describe."""
    found: System = request.param
    return found


@pytest.fixture(scope="session")
def drivers() -> Iterator[Drivers]:
    """Yield the processes of the libraries: to load one takes longer than most tests, and no call leaves a trace."""
    begun = Drivers()
    yield begun
    begun.end()


@pytest.fixture(params=list(Kind), ids=lambda kind: kind.value)
def library(request: pytest.FixtureRequest, drivers: Drivers) -> Library:
    """Return each provider's Python library."""
    return Library(drivers.of(*request.param.command))


@pytest.fixture
async def sandbox(system: System) -> AsyncIterator[Sandbox]:
    async with Sandbox(system.options) as started:
        yield started


@pytest.fixture
async def message(sandbox: Sandbox) -> Message:
    """Return a message with five media of several types, made at noon of 10 March 2026."""
    return await sandbox.add_message(
        [
            ("image/jpeg", b"\xff\xd8\xff" + bytes(range(256)) * 40),
            ("image/png", b"\x89PNG\r\n\x1a\n" + b"p" * 900),
            ("audio/ogg; codecs=opus", b"OggS" + b"o" * 5_000),
            ("application/pdf", b"%PDF-1.7\n" + b"%" * 100),
            ("text/vcard", b"BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Ada\r\nEND:VCARD\r\n"),
        ],
        date_created=MADE,
    )


@pytest.fixture
def upstream(sandbox: Sandbox) -> Place:
    """Return the provider itself."""
    return upstream_of(sandbox)


@pytest.fixture
async def gateway(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Place]:
    """Yield a gateway in front of the provider."""
    loaded = await asyncio.to_thread(load, gateway_environment(sandbox, tmp_path / "cache"))
    async with serving_alone(loaded) as settings:
        yield gateway_at(str(settings.public_url), sandbox)


@pytest.fixture
async def redirecting(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Place]:
    """Yield a gateway that answers a fetch of bytes with a redirect to a link of its own."""
    environ = gateway_environment(sandbox, tmp_path / "redirecting", GATEWAY_CONTENT_MODE="redirect")
    async with serving_alone(await asyncio.to_thread(load, environ)) as settings:
        yield gateway_at(str(settings.public_url), sandbox)


@pytest.fixture
async def mounted(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Place]:
    """Yield a gateway whose public URL has a path."""
    listen = f"127.0.0.1:{free_port()}"
    public = {"GATEWAY_LISTEN": listen, "GATEWAY_PUBLIC_URL": f"http://{listen}/gateway"}
    environ = gateway_environment(sandbox, tmp_path / "mounted", **public)
    async with serving_alone(await asyncio.to_thread(load, environ)) as settings:
        yield gateway_at(str(settings.public_url), sandbox)


@pytest.fixture
def places(upstream: Place, gateway: Place) -> tuple[Place, Place]:
    """Return the two places at which a library has to find the same."""
    return upstream, gateway
