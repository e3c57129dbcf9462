from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest
from playwright.async_api import Browser, async_playwright

from proxy.sandbox import Sandbox
from tests.browser.visiting import ARGUMENTS, DESK, Visit
from tests.functional.harness import Gateways, RunningGateway


class Visiting(Protocol):
    def __call__(
        self,
        gateway: RunningGateway | None = None,
        *,
        size: tuple[int, int] = DESK,
        client: tuple[str, str] | None = None,
    ) -> Awaitable[Visit]: ...


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as started:
        yield started


@pytest.fixture
async def gateways(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        yield Gateways(stack, sandbox, tmp_path / "cache")


@pytest.fixture
async def gateway(gateways: Gateways) -> RunningGateway:
    return await gateways.start(open_console=True)


@pytest.fixture
async def browser(program_path: Callable[[str], str]) -> AsyncIterator[Browser]:
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(executable_path=program_path("chromium"), args=ARGUMENTS) as started,
    ):
        yield started


@pytest.fixture
async def visiting(browser: Browser, gateway: RunningGateway) -> Visiting:
    """Open a page of its own, without a cookie or a cached answer; `client` are the credentials that it is given."""
    own = gateway

    async def visit(
        gateway: RunningGateway | None = None, *, size: tuple[int, int] = DESK, client: tuple[str, str] | None = None
    ) -> Visit:
        context = await browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            http_credentials=None if client is None else {"username": client[0], "password": client[1]},
        )
        context.set_default_timeout(60_000)
        return Visit(await context.new_page(), gateway or own)

    return visit


@pytest.fixture
async def console(visiting: Visiting) -> Visit:
    """Return the console on a desk, loaded."""
    visit = await visiting()
    await visit.open_console()
    return visit
