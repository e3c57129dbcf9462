"""The table in which the workers of a folder note what was asked for."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.cache.redis import validations
from proxy.cache.redis.validations import PLACES, TurnTable

KEY, OTHER = "AC/MM/ME", "AC/MM/MF"
NOW = 1_700_000_000.0


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[TurnTable, TurnTable]]:
    """Yield two workers' views of one folder's table."""
    with closing(TurnTable(tmp_path)) as one, closing(TurnTable(tmp_path)) as other:
        yield one, other


def test_one_worker_of_a_folder_has_the_turn(pair: tuple[TurnTable, TurnTable]) -> None:
    one, other = pair
    assert one.at(KEY) == other.at(KEY) == 0
    assert one.begin(KEY, NOW, again=False)
    assert not other.begin(KEY, NOW, again=False)
    assert not other.begin(KEY, NOW, again=True)
    assert other.at(KEY) == NOW
    assert other.begin(OTHER, NOW, again=False)


def test_an_ended_turn_goes_to_a_worker_that_needs_it(
    pair: tuple[TurnTable, TurnTable],
) -> None:
    one, other = pair
    assert one.begin(KEY, NOW, again=False)
    one.end(KEY)
    assert other.at(KEY) == NOW
    assert not other.begin(KEY, NOW + 9, again=False)
    assert other.begin(KEY, NOW + 9, again=True)
    assert not one.begin(KEY, NOW + 9, again=True)


def test_a_turn_ends_with_its_period(pair: tuple[TurnTable, TurnTable]) -> None:
    one, other = pair
    assert one.begin(KEY, NOW, again=False)
    assert other.begin(KEY, NOW + 13, again=False)
    assert one.at(KEY) == NOW + 13


def test_a_place_belongs_to_the_last_media_that_took_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(validations, "PLACES", 1)
    with closing(TurnTable(tmp_path)) as table:
        assert table.begin(KEY, NOW, again=False)
        assert table.begin(OTHER, NOW, again=False)
        assert (table.at(KEY), table.at(OTHER)) == (0, NOW)


def test_the_table_is_as_large_however_many_media_there_are(tmp_path: Path) -> None:
    with closing(TurnTable(tmp_path)) as table:
        for number in range(1_000):
            assert table.begin(f"AC/MM/ME{number}", NOW, again=False)
    status = (tmp_path / "asked").stat()
    assert (status.st_size, status.st_mode & 0o777) == (PLACES * 16, 0o600)
    # A hole in a mapped file kills the process where the disk is full.
    assert status.st_blocks * 512 >= status.st_size


def test_a_full_folder_leaves_a_worker_its_own_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with closing(TurnTable(tmp_path)) as one, closing(TurnTable(None)) as other:
        assert one.begin(KEY, NOW, again=False)
        assert one.at(KEY) == NOW
        assert other.begin(KEY, NOW, again=False)


def test_a_symbolic_link_to_the_table_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"")
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "asked").symlink_to(target)
    with closing(TurnTable(folder)) as table:
        assert table.begin(KEY, NOW, again=False)
    assert target.read_bytes() == b""
