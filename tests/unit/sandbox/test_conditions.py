from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.sandbox.conditions import NotModified, Part, PreconditionFailed, Selection, Unsatisfiable, Whole, select
from proxy.semantics.fields import format_date

TAG = '"abc"'
MADE = 1_700_000_000
SIZE = 1_000


def ask(*lines: tuple[str, str], etag: str | None = TAG, made: int | None = MADE) -> Selection:
    return select(CIMultiDict(lines), etag, made, SIZE)


EARLIER, SAME, LATER = (format_date(MADE + shift) for shift in (-10, 0, 10))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), Whole()),
        ((("If-Match", TAG),), Whole()),
        ((("If-Match", "*"),), Whole()),
        ((("If-Match", f"W/{TAG}"),), PreconditionFailed()),
        ((("If-Match", '"other"'), ("If-Unmodified-Since", LATER)), PreconditionFailed()),
        ((("If-Unmodified-Since", EARLIER),), PreconditionFailed()),
        ((("If-Unmodified-Since", SAME),), Whole()),
        ((("If-None-Match", TAG),), NotModified()),
        ((("If-None-Match", f'"other", W/{TAG}'),), NotModified()),
        ((("If-None-Match", "*"),), NotModified()),
        ((("If-None-Match", '"other"'), ("If-Modified-Since", LATER)), Whole()),
        ((("If-Modified-Since", SAME),), NotModified()),
        ((("If-Modified-Since", EARLIER),), Whole()),
        ((("If-Modified-Since", "yesterday"),), Whole()),
        ((("Range", "bytes=0-0"), ("If-None-Match", TAG)), NotModified()),
    ],
)
def test_rfc9110_13_2_2_preconditions_in_order(lines: tuple[tuple[str, str], ...], expected: Selection) -> None:
    assert ask(*lines) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", Part(0, 0)),
        ("bytes=10-19", Part(10, 19)),
        ("Bytes=990-", Part(990, 999)),
        ("bytes=-10", Part(990, 999)),
        ("bytes=-5000", Part(0, 999)),
        ("bytes=990-5000", Part(990, 999)),
        ("bytes=1000-", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=20-10", Whole()),
        ("bytes=-", Whole()),
        ("bytes=0-1,4-5", Whole()),
        ("lines=0-1", Whole()),
        (f"bytes={'9' * 19}-", Whole()),
    ],
)
def test_rfc9110_14_1_2_a_single_range(value: str, expected: Selection) -> None:
    assert ask(("Range", value)) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (TAG, Part(0, 1)),
        (f"W/{TAG}", Whole()),
        ('"other"', Whole()),
        (SAME, Part(0, 1)),
        (LATER, Whole()),
        ("never", Whole()),
    ],
)
def test_rfc9110_13_1_5_if_range_wants_an_exact_match(condition: str, expected: Selection) -> None:
    assert ask(("Range", "bytes=0-1"), ("If-Range", condition)) == expected


def test_a_weak_entity_tag_validates_and_resumes_nothing() -> None:
    weak = f"W/{TAG}"
    assert ask(("If-None-Match", weak), etag=weak) == NotModified()
    assert ask(("If-Match", weak), etag=weak) == PreconditionFailed()
    assert ask(("Range", "bytes=0-1"), ("If-Range", weak), etag=weak) == Whole()


def test_without_validators_only_the_star_matches() -> None:
    assert ask(("If-None-Match", TAG), etag=None, made=None) == Whole()
    assert ask(("If-None-Match", "*"), etag=None, made=None) == NotModified()
    assert ask(("If-Modified-Since", LATER), etag=None, made=None) == Whole()
    assert ask(("If-Unmodified-Since", EARLIER), etag=None, made=None) == Whole()
    assert ask(("Range", "bytes=0-1"), ("If-Range", "never"), etag=None, made=None) == Whole()
    assert ask(("Range", "bytes=0-1"), ("If-Range", TAG), etag=None, made=None) == Whole()


@given(st.integers(0, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
def test_a_part_never_leaves_the_representation(size: int, first: int | None, last: int | None) -> None:
    value = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    selection = select({"Range": value}, TAG, MADE, size)
    wanted = range(size)
    match selection:
        case Part(start, end):
            assert 0 <= start <= end < size
            if first is not None:
                assert list(wanted[start : end + 1]) == [
                    place for place in wanted if place >= first and (last is None or place <= last)
                ]
            else:
                assert last is not None
                assert list(wanted[start : end + 1]) == list(wanted[-last:])
        case Unsatisfiable():
            assert (first is not None and first >= size) or (first is None and (last == 0 or size == 0))
        case Whole():
            assert (first is None and last is None) or (first is not None and last is not None and last < first)
        case _:
            raise AssertionError(selection)
