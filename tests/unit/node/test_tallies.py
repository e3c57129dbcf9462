"""Counts by key within a minute, in a table of a fixed size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.node.tallies import WINDOW_SECONDS, Tallies


@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=2), st.floats(0, 30)), max_size=60))
def test_a_key_is_counted_over_all_rows_within_its_minute(events: list[tuple[int, str, float]]) -> None:
    tallies = Tallies(3, sets=64)
    now, began, counts = 1_000_000.0, dict[str, int](), dict[str, int]()
    for row, key, step in events:
        now += step
        second = int(now)
        if key not in began or second - began[key] >= WINDOW_SECONDS:
            began[key], counts[key] = second, 0
        # With so many sets, no two of the few keys push each other out.
        if len(counts) <= 8:
            assert tallies.add(row, key, now) == (counts[key], WINDOW_SECONDS - (second - began[key]))
        counts[key] += 1


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(-100, 100)), max_size=80))
def test_counts_stay_bounded_however_many_keys_there_are(events: list[tuple[str, float]]) -> None:
    tallies = Tallies(1, sets=1)
    now = 1_000_000.0
    for number, (key, step) in enumerate(events):
        now += step
        before, left = tallies.add(0, key, now)
        assert 0 <= before <= number
        assert 0 < left <= WINDOW_SECONDS


def test_the_key_whose_minute_began_first_makes_room() -> None:
    tallies = Tallies(1, sets=1)
    for number in range(9):
        tallies.add(0, str(number), 1_000_000.0 + number)
    assert tallies.add(0, "8", 1_000_010.0)[0] == 1
    assert tallies.add(0, "1", 1_000_010.0)[0] == 1
    assert tallies.add(0, "0", 1_000_010.0)[0] == 0


def test_a_count_does_not_run_into_what_stands_beside_it() -> None:
    tallies = Tallies(1, sets=1)
    tallies.add(0, "a", 1_000_000.0)
    cells = tallies._rows[0]
    cells[0] |= (1 << 20) - 1
    assert tallies.add(0, "a", 1_000_000.0)[0] == (1 << 20) - 1
    assert tallies.add(0, "a", 1_000_000.0) == ((1 << 20) - 1, WINDOW_SECONDS)
