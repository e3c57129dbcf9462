"""Several gateways' caches on one real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.unit.cache.redis.nodes import Nodes


@pytest.fixture
def settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no erasure wait for its run to be old enough: what a test starts is there before it erases."""
    monkeypatch.setattr("proxy.cache.redis.log.SETTLING_SECONDS", 0)


@pytest.fixture
async def nodes(tmp_path: Path, settling: None) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        yield Nodes(stack, tmp_path)
