"""The one bounded table: which pairs stay, and which goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.bounded_table import BoundedTable


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8))), st.integers(1, 5))
def test_a_table_holds_the_pairs_that_were_used_last(steps: list[tuple[bool, int]], most: int) -> None:
    table: BoundedTable[int, str] = BoundedTable(most)
    used: list[int] = []
    for puts, key in steps:
        if puts:
            table.put(key, str(key))
        assert table.use(key) == (str(key) if puts or key in used[-most:] else None)
        if puts or key in used[-most:]:
            used = [*(other for other in used if other != key), key][-most:]
        assert len(table) == len(used)


def test_the_pair_that_was_put_first_goes() -> None:
    table: BoundedTable[str, int] = BoundedTable(2)
    assert table.put("a", 1) is None
    assert table.put("b", 2) is None
    assert table.put("a", 3) is None
    assert table.put("c", 4) == ("b", 2)
    assert table.pairs() == (("a", 3), ("c", 4))


def test_get_and_first_make_no_pair_newer() -> None:
    table: BoundedTable[str, int] = BoundedTable(2)
    assert [table.first("a", 1), table.first("b", 2), table.first("a", 9)] == [1, 2, 1]
    assert table.get("a") == 1
    table.put("c", 3)
    assert ("a" in table, table.get("a"), table.get("b")) == (False, None, 2)


def test_what_is_taken_out_or_cleared_is_gone() -> None:
    table: BoundedTable[str, int] = BoundedTable(3)
    for place, key in enumerate("abc"):
        table.put(key, place)
    assert (table.pop("b"), table.pop("b"), len(table)) == (1, None, 2)
    table.clear()
    assert (len(table), table.pairs()) == (0, ())
