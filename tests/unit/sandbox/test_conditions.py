from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.sandbox.conditions import Selection, select
from proxy.semantics.fields import format_date

TAG = '"abc"'
MADE = 1_700_000_000
SIZE = 1_000

WHOLE = Selection(200, range(SIZE))
UNCHANGED, REFUSED, OUT_OF_RANGE = (Selection(status) for status in (304, 412, 416))


def part(first: int, last: int) -> Selection:
    return Selection(206, range(first, last + 1))


def ask(*lines: tuple[str, str], etag: str | None = TAG, made: int | None = MADE) -> Selection:
    return select(CIMultiDict(lines), etag, made, SIZE)


EARLIER, SAME, LATER = (format_date(MADE + shift) for shift in (-10, 0, 10))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), WHOLE),
        ((("If-Match", TAG),), WHOLE),
        ((("If-Match", "*"),), WHOLE),
        ((("If-Match", f"W/{TAG}"),), REFUSED),
        ((("If-Match", '"other"'), ("If-Unmodified-Since", LATER)), REFUSED),
        ((("If-Unmodified-Since", EARLIER),), REFUSED),
        ((("If-Unmodified-Since", SAME),), WHOLE),
        ((("If-None-Match", TAG),), UNCHANGED),
        ((("If-None-Match", f'"other", W/{TAG}'),), UNCHANGED),
        ((("If-None-Match", "*"),), UNCHANGED),
        ((("If-None-Match", '"other"'), ("If-Modified-Since", LATER)), WHOLE),
        ((("If-Modified-Since", SAME),), UNCHANGED),
        ((("If-Modified-Since", EARLIER),), WHOLE),
        ((("If-Modified-Since", "yesterday"),), WHOLE),
        ((("Range", "bytes=0-0"), ("If-None-Match", TAG)), UNCHANGED),
    ],
)
def test_rfc9110_13_2_2_preconditions_in_order(lines: tuple[tuple[str, str], ...], expected: Selection) -> None:
    assert ask(*lines) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", part(0, 0)),
        ("bytes=10-19", part(10, 19)),
        ("Bytes=990-", part(990, 999)),
        ("bytes=-10", part(990, 999)),
        ("bytes=-5000", part(0, 999)),
        ("bytes=990-5000", part(990, 999)),
        ("bytes=1000-", OUT_OF_RANGE),
        ("bytes=-0", OUT_OF_RANGE),
        ("bytes=20-10", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=0-1,4-5", WHOLE),
        ("lines=0-1", WHOLE),
        (f"bytes={'9' * 19}-", WHOLE),
    ],
)
def test_rfc9110_14_1_2_a_single_range(value: str, expected: Selection) -> None:
    assert ask(("Range", value)) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (TAG, part(0, 1)),
        (f"W/{TAG}", WHOLE),
        ('"other"', WHOLE),
        (SAME, part(0, 1)),
        (LATER, WHOLE),
        ("never", WHOLE),
    ],
)
def test_rfc9110_13_1_5_if_range_wants_an_exact_match(condition: str, expected: Selection) -> None:
    assert ask(("Range", "bytes=0-1"), ("If-Range", condition)) == expected


def test_a_weak_entity_tag_validates_and_resumes_nothing() -> None:
    weak = f"W/{TAG}"
    assert ask(("If-None-Match", weak), etag=weak) == UNCHANGED
    assert ask(("If-Match", weak), etag=weak) == REFUSED
    assert ask(("Range", "bytes=0-1"), ("If-Range", weak), etag=weak) == WHOLE


def test_without_validators_only_the_star_matches() -> None:
    assert ask(("If-None-Match", TAG), etag=None, made=None) == WHOLE
    assert ask(("If-None-Match", "*"), etag=None, made=None) == UNCHANGED
    assert ask(("If-Modified-Since", LATER), etag=None, made=None) == WHOLE
    assert ask(("If-Unmodified-Since", EARLIER), etag=None, made=None) == WHOLE
    assert ask(("Range", "bytes=0-1"), ("If-Range", "never"), etag=None, made=None) == WHOLE
    assert ask(("Range", "bytes=0-1"), ("If-Range", TAG), etag=None, made=None) == WHOLE


@given(st.integers(0, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
def test_a_part_never_leaves_the_representation(size: int, first: int | None, last: int | None) -> None:
    value = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    status, octets = select({"Range": value}, TAG, MADE, size)
    wanted = range(size)
    match status:
        case 206:
            assert 0 <= octets[0] <= octets[-1] < size
            if first is not None:
                assert list(octets) == [place for place in wanted if place >= first and (last is None or place <= last)]
            else:
                assert last is not None
                assert list(octets) == list(wanted[-last:])
        case 416:
            assert (first is not None and first >= size) or (first is None and (last == 0 or size == 0))
        case 200:
            assert octets == wanted
            assert (first is None and last is None) or (first is not None and last is not None and last < first)
        case _:
            raise AssertionError(status)
