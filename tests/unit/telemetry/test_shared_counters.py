"""Cells that processes share: rows add up, and what a process has counted outlives it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.shared_counters import Cells

WIDTH = 5
rows = st.lists(st.lists(st.integers(0, 1_000_000), min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=6)


def filled(values: Sequence[Sequence[int]], volatile: Sequence[int] = ()) -> Cells:
    cells = Cells(len(values), WIDTH, volatile)
    for number, row in enumerate(values, 1):
        for place, value in enumerate(row):
            cells.row(number)[place] = value
    return cells


def test_all_is_zero_at_first() -> None:
    assert Cells(3, WIDTH).totals() == [0.0] * WIDTH


@given(rows)
def test_the_totals_are_the_sums_of_the_rows(values: list[list[int]]) -> None:
    assert filled(values).totals() == [sum(column) for column in zip(*values, strict=True)]


@given(rows, st.sets(st.integers(0, WIDTH - 1)), st.data())
def test_a_retired_row_leaves_its_sums_but_no_gauges(
    values: list[list[int]], volatile: set[int], draw: st.DataObject
) -> None:
    cells = filled(values, sorted(volatile))
    gone = draw.draw(st.sets(st.integers(1, len(values))))
    for number in gone:
        cells.retire(number)
        assert list(cells.row(number)) == [0.0] * WIDTH
    for place, total in enumerate(cells.totals()):
        counted = [row[place] for number, row in enumerate(values, 1) if place not in volatile or number not in gone]
        assert total == sum(counted)


def test_there_is_no_row_that_was_not_asked_for() -> None:
    for number in (0, -1, 3):
        with pytest.raises(IndexError):
            Cells(2, WIDTH).row(number)


FORKING = """
import os
from proxy.telemetry.shared_counters import Cells
cells = Cells(1, 5)
pid = os.fork()
if not pid:
    cells.row(1)[2] += 7.0
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert cells.totals()[2] == 7.0
cells.retire(1)
assert (cells.totals()[2], cells.past[2]) == (7.0, 7.0)
"""


def test_a_forked_process_counts_in_the_same_cells() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("before", [1.0, 0.0], ids=["half moved", "moved meanwhile"])
def test_a_reading_that_meets_a_move_is_done_again(monkeypatch: pytest.MonkeyPatch, before: float) -> None:
    cells = filled([[5] * WIDTH])
    cells.past[0] = 5.0  # copied to the past, and not taken out of its row yet

    class Moves:
        """The count of moves: what it was, and since the first reading that of an ended one."""

        readings = 0

        def __getitem__(self, _: int) -> float:
            self.readings += 1
            if self.readings == 1:
                return before
            cells.row(1)[0] = 0.0
            return 2.0

    monkeypatch.setattr(cells, "_moves", Moves())
    assert cells.totals()[0] == 5.0


def test_a_move_that_never_ends_does_not_stop_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = filled([[5] * WIDTH])
    monkeypatch.setattr(cells, "_moves", [1.0])
    assert cells.totals() == [5.0] * WIDTH
