from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from proxy.cache.fills.fill import Fill, FillBody
from tests.faults.origin import FaultyOrigin
from tests.faults.serving import Joins, gateway_over
from tests.functional.harness import RunningGateway


class Start(Protocol):
    """The starter of gateways over the origin, with these settings changed; they end with the test."""

    async def __call__(self, **overrides: str) -> RunningGateway: ...


Within = Callable[..., AbstractAsyncContextManager[RunningGateway]]


@pytest.fixture
async def origin() -> AsyncIterator[FaultyOrigin]:
    async with FaultyOrigin().serving() as serving:
        yield serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the cache folder of every gateway of the test."""
    return tmp_path / "cache"


@pytest.fixture
def within(origin: FaultyOrigin, folder: Path) -> Within:
    """Start a gateway over the origin within a scope."""
    return partial(gateway_over, origin, folder)


@pytest.fixture
async def start(within: Within) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def begin(**overrides: str) -> RunningGateway:
            return await stack.enter_async_context(within(**overrides))

        yield begin


@pytest.fixture
async def gateway(start: Start) -> RunningGateway:
    return await start()


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> Joins:
    joins, join = Joins(), Fill.join

    def joined(fill: Fill) -> FillBody:
        joins.add()
        return join(fill)

    monkeypatch.setattr(Fill, "join", joined)
    return joins
