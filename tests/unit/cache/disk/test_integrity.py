"""Bodies are checked behind their readers, and nobody waits for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from proxy.bounded_table import BoundedTable
from proxy.cache.checksum import checksum
from proxy.cache.disk.files import Verdict
from proxy.cache.disk.folder import Folder
from proxy.cache.disk.integrity import Verifier
from proxy.cache.entry import Entry
from proxy.errors import StoreError

Entries = Callable[..., Entry]


def check_of(verifier: Verifier, entry: Entry, path: Path) -> Verdict:
    """The check of a body that is checked."""
    verdict = verifier.watch(entry, path)
    assert verdict is not None
    return verdict


class Dropping:
    """Notes what was dropped, and fails where it is told to."""

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
async def verifier(dropping: Dropping, tmp_path: Path) -> AsyncIterator[Verifier]:
    with ThreadPoolExecutor(2) as threads:
        verifier = Verifier(threads, dropping, Folder(tmp_path))
        yield verifier
        await verifier.close()


def entry_of(entries: Entries, content: bytes) -> Entry:
    return msgspec.structs.replace(entries(len(content)), checksum=checksum(content))


async def test_a_sound_body_is_trusted_from_then_on(
    verifier: Verifier, dropping: Dropping, entries: Entries, tmp_path: Path
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"sound")
    entry = entry_of(entries, b"sound")
    verdict = check_of(verifier, entry, path)
    assert verifier.watch(entry, path) is verdict
    await verdict.reached.wait()
    assert not verdict.damaged
    path.unlink()
    again = check_of(verifier, entry, path)
    assert again.reached.is_set()
    assert dropping.dropped == []


@pytest.mark.parametrize("fails", [False, True])
async def test_a_damaged_body_is_dropped(
    verifier: Verifier, dropping: Dropping, entries: Entries, tmp_path: Path, fails: bool
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"damage")
    entry = entry_of(entries, b"sound")
    dropping.error = StoreError(note="read-only") if fails else None
    verdict = check_of(verifier, entry, path)
    await verdict.reached.wait()
    assert verdict.damaged
    assert dropping.dropped == [entry.generation]


async def test_a_body_that_has_gone_is_not_waited_for(verifier: Verifier, entries: Entries, tmp_path: Path) -> None:
    verdict = check_of(verifier, entries(), tmp_path / "gone")
    await verdict.reached.wait()
    assert not verdict.damaged
    assert verifier._waiting == {}


async def test_closing_lets_everyone_go_also_where_the_check_had_not_begun(
    verifier: Verifier, entries: Entries, tmp_path: Path
) -> None:
    verdicts = [verifier.watch(entries(), tmp_path / "body") for _ in range(3)]
    await verifier.close()
    assert [verdict is not None and verdict.reached.is_set() for verdict in verdicts] == [True] * 3
    assert verifier.watch(entries(), tmp_path / "body") is None
    assert verifier._waiting == {}


async def test_what_waits_and_what_is_known_is_bounded(
    verifier: Verifier, entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.disk.integrity._WAITING", 2)
    monkeypatch.setattr(verifier, "_sound", BoundedTable(2))
    watched = [verifier.watch(entries(), tmp_path / "body") for _ in range(3)]
    assert [verdict is not None and verdict.reached.is_set() for verdict in watched[:2]] == [False, False]
    assert watched[2] is None
    for generation in ("aa", "bb", "aa", "cc"):
        verifier.trust(generation)
    assert [generation for generation, _ in verifier._sound.pairs()] == ["aa", "cc"]
