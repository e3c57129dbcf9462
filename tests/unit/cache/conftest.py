"""Entries, and a clock that a test moves."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from proxy.cache.disk.store import DiskStore, open_disk
from proxy.cache.entry import Entry
from tests.unit.cache.rigs import Rig
from tests.unit.cache.scripted import HeldClock


class _Entries(Protocol):
    def __call__(self, length: int = 0, generation: str | None = None, etag: str = "tag") -> Entry: ...


@pytest.fixture
def entries() -> _Entries:
    """Return a function that makes an entry for a body of a given length, under a generation of its own."""

    def make(length: int = 0, generation: str | None = None, etag: str = "tag") -> Entry:
        return Entry(
            version=2,
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


@pytest.fixture
def clock() -> HeldClock:
    """Return a clock that starts now, since it is compared with the times of files, and stands still until moved."""
    return HeldClock(time.time())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def store(folder: Path, clock: HeldClock) -> AsyncIterator[DiskStore]:
    async with open_disk(folder, 10_000_000, clock, min_free_bytes=0) as opened:
        yield opened


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield Rig(stack, tmp_path / "cache")
