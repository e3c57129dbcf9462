from __future__ import annotations

import calendar
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sandbox.listing import Cursor, Page, Query, QueryError, paginate, uris

DAY = calendar.timegm((2026, 11, 20, 0, 0, 0))


@dataclass(frozen=True)
class Item:
    number: int
    date_created: int = DAY


def numbers(page: Page[Item]) -> list[int]:
    return [item.number for item in page.items]


@pytest.mark.parametrize("size", ["0", "-1", "x", "", "1" * 10, "٣"])
def test_a_bad_page_size_is_refused(size: str) -> None:
    with pytest.raises(QueryError, match="PageSize"):
        Query.parse(f"PageSize={size}")


def test_page_size_is_50_unless_said_and_1000_at_most() -> None:
    assert Query.parse("").size == 50
    assert Query.parse("PageSize=1000").size == 1_000
    assert Query.parse("PageSize=5000").size == 1_000


def test_a_later_page_needs_its_token() -> None:
    with pytest.raises(QueryError, match=r"PageToken is required for paging\."):
        Query.parse("Page=1")
    with pytest.raises(QueryError, match="PageToken"):
        Query.parse("Page=1&PageToken=zzz")
    with pytest.raises(QueryError, match="Page"):
        Query.parse("Page=one")
    assert Query.parse("Page=0").page == 0


def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(QueryError):
        Query.parse("&".join(f"a{number}=1" for number in range(100)))


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2026-13-01", "2026-02-30", "20261120", "2026-W47-5", "2026-11-20T25:00:00Z"]
)
def test_a_bad_date_is_refused(value: str) -> None:
    with pytest.raises(QueryError, match=r"Invalid date value\."):
        Query.parse(f"DateCreated={value}")


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("DateCreated=2026-11-20", DAY, DAY + 86_399),
        ("DateCreated=2026-11-20T09:00:00Z", DAY, DAY + 86_399),
        ("DateCreated%3E=2026-11-20", DAY, None),
        ("DateCreated>=2026-11-20", DAY, None),
        ("DateCreated%3C=2026-11-20", None, DAY),
        ("DateCreated%3E=2026-11-20T09:00:00Z", DAY + 32_400, None),
        ("DateCreated%3C=2026-11-20T09:00:00%2B01:00", None, DAY + 28_800),
        ("DateCreated%3C=2026-11-20T09:00:00", None, DAY + 32_400),
        ("DateCreated%3E=2026-11-20&DateCreated%3C=2026-11-21", DAY, DAY + 86_400),
    ],
)
def test_date_filters_hold_at_their_very_edges(query: str, first: int | None, last: int | None) -> None:
    parsed = Query.parse(query)
    if first is not None:
        assert parsed.admits(first)
        assert not parsed.admits(first - 1)
    if last is not None:
        assert parsed.admits(last)
        assert not parsed.admits(last + 1)


def test_page_uris_hold_everything_that_was_asked() -> None:
    page = paginate([Item(n) for n in range(1, 6)], Query.parse("DateCreated%3E=2026-11-20&PageSize=2&X=1"))
    links = uris(page, "/list.json")
    assert links.this == links.first == "/list.json?DateCreated%3E=2026-11-20&PageSize=2&Page=0"
    assert links.previous is None
    assert links.next is not None
    assert links.next.startswith("/list.json?DateCreated%3E=2026-11-20&PageSize=2&Page=1&PageToken=PA")
    assert (page.start, page.end) == (0, 1)
    assert uris(page, "/l", page_first=True).first == "/l?DateCreated%3E=2026-11-20&Page=0&PageSize=2"


def test_an_empty_page_starts_and_ends_at_0() -> None:
    page = paginate(list[Item](), Query.parse(""))
    assert (page.items, page.start, page.end, page.next, page.previous) == ((), 0, 0, None, None)


def test_a_deletion_between_pages_hides_no_other_item() -> None:
    items = [Item(n) for n in range(1, 7)]
    first = paginate(items, Query.parse("PageSize=2"))
    following = urlsplit(uris(first, "/l").next or "").query
    assert numbers(paginate(items[3:], Query.parse(following))) == [4, 5]
    assert numbers(paginate([items[0], *items[2:]], Query.parse(following))) == [3, 4]


@given(st.integers(-(2**63), 2**63), st.booleans())
def test_a_cursor_reads_back(rank: int, after: bool) -> None:
    assert Cursor.parse(str(Cursor(rank, after))) == Cursor(rank, after)


@settings(max_examples=60)
@given(st.sets(st.integers(1, 500), max_size=30), st.integers(1, 7), st.booleans(), st.integers(0, 500))
def test_walking_forth_and_back_meets_every_admitted_item_once(
    chosen: set[int], size: int, newest_first: bool, threshold: int
) -> None:
    items = [Item(number, DAY + number) for number in chosen]
    minute, second = divmod(threshold, 60)
    query: str | None = f"DateCreated%3E=2026-11-20T00:{minute:02d}:{second:02d}Z&PageSize={size}"
    forth: list[list[int]] = []
    last = paginate(items, Query.parse(query or ""), newest_first=newest_first)
    while query is not None:
        last = paginate(items, Query.parse(query), newest_first=newest_first)
        assert last.query.page == len(forth)
        forth.append(numbers(last))
        following = uris(last, "/l").next
        query = urlsplit(following).query if following else None
    expected = sorted((number for number in chosen if number >= threshold), reverse=newest_first)
    assert [number for page in forth for number in page] == expected
    assert all(len(page) == size for page in forth[:-1])
    back = [numbers(last)]
    while (before := uris(last, "/l").previous) is not None:
        assert dict(parse_qsl(urlsplit(before).query))["Page"] == str(last.query.page - 1)
        last = paginate(items, Query.parse(urlsplit(before).query), newest_first=newest_first)
        back.append(numbers(last))
    assert back[::-1] == forth
