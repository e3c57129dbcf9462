from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

import pytest
from aiohttp import ClientResponse, ClientSession
from yarl import URL

from proxy.sandbox import Media, Sandbox, SandboxOptions

Ask = Callable[..., Awaitable[ClientResponse]]


class HeldClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_server_logs_an_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.WARNING] == []


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def set_clock(clock: HeldClock) -> Callable[[float], None]:
    def set_clock(now: float) -> None:
        clock.now = now

    return set_clock


@pytest.fixture
def options(clock: HeldClock) -> SandboxOptions:
    return SandboxOptions(clock=clock)


@pytest.fixture
async def sandbox(options: SandboxOptions) -> AsyncIterator[Sandbox]:
    async with Sandbox(options) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(auto_decompress=False) as session:
        yield session


@pytest.fixture
def ask(session: ClientSession) -> Ask:
    """Ask as written: no redirect is followed, no octet of the URL changed; the body is read."""

    async def ask(method: str, url: str, headers: Mapping[str, str] | None = None) -> ClientResponse:
        response = await session.request(method, URL(url, encoded=True), headers=headers, allow_redirects=False)
        await response.read()
        return response

    return ask


@pytest.fixture
def api(sandbox: Sandbox, ask: Ask) -> Ask:
    """Ask the API with credentials; a path follows the account, a whole URL stands for itself."""
    prefix = "/2010-04-01/Accounts/" if sandbox.account_sid.startswith("AC") else "/api/laml/2010-04-01/Accounts/"

    async def api(path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> ClientResponse:
        url = path if path.startswith("http") else f"{sandbox.api_url}{prefix}{sandbox.account_sid}{path}"
        return await ask(method, url, {"Authorization": sandbox.authorization, **(headers or {})})

    return api


@pytest.fixture
def fetch(sandbox: Sandbox, ask: Ask, api: Ask) -> Ask:
    """Fetch bytes as a good client does: one redirect, credentials on the first hop only."""

    async def fetch(media: Media, method: str = "GET", headers: Mapping[str, str] | None = None) -> ClientResponse:
        first = await api(sandbox.media_url(media))
        location = first.headers.get("Location")
        return await ask(method, location, headers) if location else first

    return fetch


@pytest.fixture
def photo(sandbox: Sandbox) -> Media:
    """Return the first media of the conversation: a JPEG of about 100 KB."""
    return sandbox.messages[0].media[0]
