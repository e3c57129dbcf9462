from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.sandbox import Media, Sandbox, SandboxOptions
from tests.functional.edges import Edges
from tests.functional.express import HeldClock, Start, Station, station
from tests.functional.harness import Gateways, RunningGateway, environment


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions()) as started:
        yield started


@pytest.fixture
async def gateways(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        yield Gateways(stack, sandbox, tmp_path / "cache")


@pytest.fixture
async def gateway(gateways: Gateways) -> RunningGateway:
    return await gateways.start()


@pytest.fixture
async def start(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Start]:
    """Start gateways whose clock is held; those of one test share a folder, as workers do."""
    async with AsyncExitStack() as stack:

        async def begin(clock: HeldClock | None = None, **overrides: str) -> Station:
            return await stack.enter_async_context(
                station(environment(sandbox, tmp_path / "cache", **overrides), clock)
            )

        yield begin


@pytest.fixture
def photo(sandbox: Sandbox) -> Media:
    """Return a JPEG of the sandbox's."""
    return next(media for message in sandbox.messages for media in message.media if media.content_type == "image/jpeg")


@pytest.fixture
def film(sandbox: Sandbox) -> Media:
    """Return the sandbox's largest media, 5 MB."""
    return max((media for message in sandbox.messages for media in message.media), key=lambda media: media.length)


@pytest.fixture
async def edges(gateways: Gateways, program_path: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Edges]:
    async with AsyncExitStack() as stack:
        yield Edges(stack, gateways, program_path("nginx"), tmp_path / "nginx")
