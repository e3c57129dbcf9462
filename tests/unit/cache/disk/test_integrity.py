"""Bodies are checked beside their readers, and no reader waits for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from proxy.bounded_table import BoundedTable
from proxy.cache.checksum import checksum
from proxy.cache.disk.files import BodyCheck
from proxy.cache.disk.folder import Folder
from proxy.cache.disk.integrity import BodyChecker
from proxy.cache.entry import Entry
from proxy.errors import StoreError

Entries = Callable[..., Entry]


def check_of(checker: BodyChecker, entry: Entry, path: Path) -> BodyCheck:
    """Return the check of a body, which has one."""
    check = checker.watch(entry, path)
    assert check is not None
    return check


class Dropping:
    """A `drop` that notes the generations, and fails if it is told to."""

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.error: StoreError | None = None

    async def __call__(self, generation: str) -> None:
        self.dropped.append(generation)
        if self.error is not None:
            raise self.error


@pytest.fixture
def dropping() -> Dropping:
    return Dropping()


@pytest.fixture
async def checker(dropping: Dropping, tmp_path: Path) -> AsyncIterator[BodyChecker]:
    with ThreadPoolExecutor(2) as threads:
        checker = BodyChecker(threads, dropping, Folder(tmp_path))
        yield checker
        await checker.close()


def entry_of(entries: Entries, content: bytes) -> Entry:
    return msgspec.structs.replace(entries(len(content)), checksum=checksum(content))


async def test_a_sound_body_is_trusted_from_then_on(
    checker: BodyChecker, dropping: Dropping, entries: Entries, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"sound")
    entry = entry_of(entries, b"sound")
    check = check_of(checker, entry, path)
    assert checker.watch(entry, path) is check
    await check.ended.wait()
    assert not check.damaged
    path.unlink()
    again = check_of(checker, entry, path)
    assert again.ended.is_set()
    assert dropping.dropped == []


@pytest.mark.parametrize("fails", [False, True])
async def test_a_damaged_body_is_dropped(
    checker: BodyChecker, dropping: Dropping, entries: Entries, tmp_path: Path, fails: bool
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"damage")
    entry = entry_of(entries, b"sound")
    dropping.error = StoreError(note="read-only") if fails else None
    check = check_of(checker, entry, path)
    await check.ended.wait()
    assert check.damaged
    assert dropping.dropped == [entry.generation]


async def test_a_body_that_has_gone_is_not_waited_for(checker: BodyChecker, entries: Entries, tmp_path: Path) -> None:
    check = check_of(checker, entries(), tmp_path / "gone")
    await check.ended.wait()
    assert not check.damaged
    assert checker._waiting == {}


async def test_closing_frees_readers_even_of_checks_that_have_not_begun(
    checker: BodyChecker, entries: Entries, tmp_path: Path
) -> None:
    checks = [checker.watch(entries(), tmp_path / "body") for _ in range(3)]
    await checker.close()
    assert [check is not None and check.ended.is_set() for check in checks] == [True] * 3
    assert checker.watch(entries(), tmp_path / "body") is None
    assert checker._waiting == {}


async def test_waiting_and_remembered_checks_are_bounded(
    checker: BodyChecker, entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.disk.integrity._WAITING", 2)
    monkeypatch.setattr(checker, "_sound", BoundedTable(2))
    watched = [checker.watch(entries(), tmp_path / "body") for _ in range(3)]
    assert [check is not None and check.ended.is_set() for check in watched[:2]] == [False, False]
    assert watched[2] is None
    for generation in ("aa", "bb", "aa", "cc"):
        checker.trust(generation)
    assert [generation for generation, _ in checker._sound.pairs()] == ["aa", "cc"]
