"""The erasures of a folder: numbers that only grow, for every worker, and what they cover."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.cache.disk.index import Index
from proxy.cache.disk.invalidations_table import Epoch
from proxy.cache.disk.responses_table import ResponseRow
from proxy.cache.invalidation.policy import Erase


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path)
    index.open()
    yield index
    index.close()


@pytest.fixture
def epochs(tmp_path: Path) -> Iterator[tuple[Epoch, Epoch]]:
    """Yield the epochs of two workers."""
    first, second = Epoch(tmp_path / "epoch"), Epoch(tmp_path / "epoch")
    first.open()
    second.open()
    with closing(first), closing(second):
        yield first, second


def row(epoch: int, generation: str) -> ResponseRow:
    return ResponseRow(generation, 1, epoch, b"metadata")


def test_what_one_worker_publishes_all_see(epochs: tuple[Epoch, Epoch]) -> None:
    first, second = epochs
    first.publish(7)
    assert second.current == 7


def test_numbers_published_out_of_turn_leave_the_later_one(epochs: tuple[Epoch, Epoch]) -> None:
    first, second = epochs
    second.publish(9)
    first.publish(8)
    assert (first.current, second.current) == (9, 9)


def test_an_erasure_is_told_also_where_files_cannot_be_locked(
    epochs: tuple[Epoch, Epoch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    first, second = epochs
    first.publish(7)
    assert second.current == 7


def test_an_epoch_may_be_closed_before_it_was_opened(tmp_path: Path) -> None:
    Epoch(tmp_path / "none").close()


def test_a_number_exceeds_the_published_one_after_a_clock_change(index: Index) -> None:
    published = index.epoch() + 10**12
    number = index.apply(Erase("a/"), 1_000.0, published)
    assert number > published
    assert index.apply(Erase("b/"), 1_000.0) > number


def test_what_an_erasure_covers_is_removed_before_it_is_forgotten(index: Index) -> None:
    before = index.epoch()
    for key in ("a/b/c", "a/b/d", "a/x/c", "b/b/c"):
        assert index.put(key, row(before, key.replace("/", "")), used=1.0).done
    erased = index.apply(Erase("a/b/"), 1_000.0)
    assert index.put("a/b/d", row(erased, "new"), used=1.0).done
    index.apply(Erase("b/b/c"), 1_000.0)
    index.forget_erasures(4_000_000_000.0)
    assert {key: index.get(key) is not None for key in ("a/b/c", "a/b/d", "a/x/c", "b/b/c")} == {
        "a/b/c": False,
        "a/b/d": True,
        "a/x/c": True,
        "b/b/c": False,
    }
    assert not index.knows("abc")
    assert index.erased("a/b/d", before)
    assert not index.erased("a/b/d", index.epoch())


def test_an_index_after_a_loss_begins_above_the_published_number(
    index: Index, epochs: tuple[Epoch, Epoch], tmp_path: Path
) -> None:
    epoch, _ = epochs
    # As where the clock was ahead, and is set back now.
    number = index.apply(Erase("a/"), 5_000_000_000.0, epoch.current)
    epoch.publish(number)
    for path in tmp_path.glob("index-*"):
        path.unlink()
    assert index.erased("a/b/c", number - 1)
    assert epoch.current == index.epoch() > number
    # What is stored from now on is from after it.
    assert index.put("a/b/c", row(epoch.current, "abc"), used=1.0).done
