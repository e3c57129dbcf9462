"""Lists in pages: the query that chooses a page, the filters by date, and the URIs that lead to its neighbours."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar
from urllib.parse import parse_qsl, quote

_DEFAULT_SIZE: Final = 50
_MAX_SIZE: Final = 1_000
_FIELD_LIMIT: Final = 50
_DAY: Final = 86_400
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_TOKEN: Final = re.compile(r"P([AB])([0-9a-f]{32})", re.ASCII)
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?",
    re.ASCII,
)
_FILTERS: Final = ("DateCreated", "DateCreated<", "DateCreated>")


class Listed(Protocol):
    """An item of a list: a number that orders it for ever, and the moment when it was made."""

    @property
    def number(self) -> int: ...

    @property
    def date_created(self) -> int: ...


T = TypeVar("T", bound=Listed)


class QueryError(Exception):
    """A query that the provider answers with 400 and code 20001. The text is for the client."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter by date: its parameter and value as sent, and the Unix time at which the value begins."""

    name: str
    text: str
    start: float

    @classmethod
    def parse(cls, name: str, text: str) -> Filter:
        """Parse a date or an ISO 8601 date-time, in UTC unless it says otherwise. Raises `QueryError`."""
        if not _MOMENT.fullmatch(text):
            raise QueryError("Invalid date value.")
        try:
            moment = dt.datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=dt.UTC)
            return cls(name, text, moment.timestamp())
        except (ValueError, OverflowError) as error:
            raise QueryError("Invalid date value.") from error

    def admits(self, date_created: int) -> bool:
        """Return whether an item that was made then passes."""
        match self.name:
            case "DateCreated<":
                return date_created <= self.start
            case "DateCreated>":
                return date_created >= self.start
            case _:
                day = self.start - self.start % _DAY
                return day <= date_created < day + _DAY

    def __str__(self) -> str:
        return f"{quote(self.name, safe='')}={quote(self.text, safe='')}"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The beginning of a page: after the item of that rank, or else before it."""

    rank: int
    after: bool

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Parse a page token. Raises `QueryError`."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            raise QueryError("Invalid PageToken.")
        return cls(int(match[2], 16) - (1 << 64), match[1] == "A")

    def __str__(self) -> str:
        return f"P{'A' if self.after else 'B'}{self.rank + (1 << 64):032x}"


@dataclass(frozen=True, slots=True)
class Query:
    """A request for a page of a list."""

    size: int
    page: int
    cursor: Cursor | None
    filters: tuple[Filter, ...]

    @classmethod
    def parse(cls, text: str, filters: Sequence[str] = _FILTERS) -> Query:
        """Parse a raw query string; parameters that no list knows are passed over. Raises `QueryError`."""
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELD_LIMIT)
        except ValueError as error:
            raise QueryError("Too many parameters.") from error
        last = dict(pairs)
        size = _integer(last.get("PageSize", str(_DEFAULT_SIZE)), "PageSize")
        if size < 1:
            raise QueryError("Invalid PageSize.")
        page = _integer(last.get("Page", "0"), "Page")
        token = last.get("PageToken")
        if page and not token:
            raise QueryError("PageToken is required for paging.")
        return cls(
            min(size, _MAX_SIZE),
            page,
            Cursor.parse(token) if token else None,
            tuple(Filter.parse(name, value) for name, value in pairs if name in filters),
        )

    def admits(self, date_created: int) -> bool:
        """Return whether an item that was made then passes every filter."""
        return all(one.admits(date_created) for one in self.filters)


def _integer(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise QueryError(f"Invalid {name}.")
    return int(text)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, and the cursors of the pages beside it."""

    items: tuple[T, ...]
    query: Query
    previous: Cursor | None
    next: Cursor | None

    @property
    def start(self) -> int:
        """The place of the first item in the whole list, counted from 0."""
        return self.query.page * self.query.size if self.items else 0

    @property
    def end(self) -> int:
        """The place of the last item in the whole list; 0 for an empty page."""
        return self.start + len(self.items) - 1 if self.items else 0


def paginate(items: Sequence[T], query: Query, *, newest_first: bool = False) -> Page[T]:
    """Return the page that `query` asks for; `items` stand in the order in which they were made.

    A page begins at a rank and not at a count, so that an item that is added or deleted meanwhile neither repeats nor
    hides another one.
    """
    sign = -1 if newest_first else 1
    ranked = sorted((sign * item.number, item) for item in items if query.admits(item.date_created))
    cursor = query.cursor
    if cursor is None:
        wanted = ranked[: query.size]
    elif cursor.after:
        wanted = [pair for pair in ranked if pair[0] > cursor.rank][: query.size]
    else:
        wanted = [pair for pair in ranked if pair[0] < cursor.rank][-query.size :]
    before = bool(wanted) and ranked[0][0] < wanted[0][0]
    beyond = bool(wanted) and ranked[-1][0] > wanted[-1][0]
    return Page(
        tuple(item for _, item in wanted),
        query,
        Cursor(wanted[0][0], after=False) if before else None,
        Cursor(wanted[-1][0], after=True) if beyond else None,
    )


@dataclass(frozen=True, slots=True)
class PageUris:
    """The URIs of a page and its neighbours, with everything that was asked inside them."""

    this: str
    first: str
    previous: str | None
    next: str | None


def uris(page: Page[T], path: str, *, page_first: bool = False) -> PageUris:
    """Return the URIs under `path`; `page_first` writes `Page` before `PageSize`, as SignalWire does."""
    query = page.query

    def uri(number: int, cursor: Cursor | None) -> str:
        paging = [f"PageSize={query.size}", f"Page={number}"]
        if page_first:
            paging.reverse()
        token = [f"PageToken={cursor}"] if cursor else []
        return f"{path}?{'&'.join([*map(str, query.filters), *paging, *token])}"

    return PageUris(
        uri(query.page, query.cursor),
        uri(0, None),
        uri(max(query.page - 1, 0), page.previous) if page.previous else None,
        uri(query.page + 1, page.next) if page.next else None,
    )
