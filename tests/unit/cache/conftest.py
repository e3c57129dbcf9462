"""Entries, and a clock that a test moves."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from proxy.cache.entry import Entry
from tests.unit.cache.rigs import Rig


class _Entries(Protocol):
    def __call__(self, length: int = 0, generation: str | None = None, etag: str = "tag") -> Entry: ...


@pytest.fixture
def entries() -> _Entries:
    """Makes an entry of a body of that length, under a generation of its own."""

    def make(length: int = 0, generation: str | None = None, etag: str = "tag") -> Entry:
        return Entry(
            version=1,
            generation=generation or secrets.token_hex(16),
            etag=etag,
            length=length,
            checksum="0" * 64,
            epoch=1 << 62,
            fields=(("Content-Type", "image/jpeg"), ("Last-Modified", "Tue, 15 Nov 1994 12:45:26 GMT")),
            presented=(("Accept-Encoding", "identity"),),
            requested_at=1_000.0,
            answered_at=1_001.0,
        )

    return make


class _Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """Unix time that starts now, for it is compared with the times of files, and stands still until moved."""
    return _Clock()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield Rig(stack, tmp_path / "cache")
