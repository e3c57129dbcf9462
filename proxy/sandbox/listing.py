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
    """What stands in a list: a number that orders it for ever, and the moment it was made."""

    @property
    def number(self) -> int: ...

    @property
    def date_created(self) -> int: ...


T = TypeVar("T", bound=Listed)


class QueryError(Exception):
    """A query that the provider answers with 400 and code 20001. The text is for the client."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A filter's value: its text as sent, and the Unix time it begins at."""

    text: str
    start: float

    @classmethod
    def parse(cls, text: str) -> Moment:
        """A date or an ISO 8601 date-time, UTC unless it says otherwise. Raises `QueryError`."""
        if not _MOMENT.fullmatch(text):
            raise QueryError("Invalid date value.")
        try:
            moment = dt.datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=dt.UTC)
            return cls(text, moment.timestamp())
        except (ValueError, OverflowError) as error:
            raise QueryError("Invalid date value.") from error


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: after, or else before, the item of that rank."""

    rank: int
    after: bool

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """From a page token. Raises `QueryError`."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            raise QueryError("Invalid PageToken.")
        return cls(int(match[2], 16) - (1 << 64), match[1] == "A")

    def __str__(self) -> str:
        return f"P{'A' if self.after else 'B'}{self.rank + (1 << 64):032x}"


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a list."""

    size: int
    page: int
    cursor: Cursor | None
    filters: tuple[tuple[str, Moment], ...]

    @classmethod
    def parse(cls, text: str, filters: Sequence[str] = _FILTERS) -> Query:
        """From a raw query string; parameters that no list knows are passed over. Raises `QueryError`."""
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
            tuple((name, Moment.parse(value)) for name, value in pairs if name in filters),
        )

    def admits(self, date_created: int) -> bool:
        """Whether something made then passes every filter."""
        return all(_passes(name, moment, date_created) for name, moment in self.filters)


def _integer(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise QueryError(f"Invalid {name}.")
    return int(text)


def _passes(name: str, moment: Moment, date_created: int) -> bool:
    match name:
        case "DateCreated<":
            return date_created <= moment.start
        case "DateCreated>":
            return date_created >= moment.start
        case _:
            day = moment.start - moment.start % _DAY
            return day <= date_created < day + _DAY


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, and what leads to the pages beside it."""

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
    """The page that `query` asks for, of items in the order they were made or the opposite.

    A page begins at a rank and not at a count, so that what is added or deleted meanwhile neither repeats nor hides
    another item.
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
    """The URIs of a page and its neighbours, everything that was asked inside them."""

    this: str
    first: str
    previous: str | None
    next: str | None


def uris(page: Page[T], path: str, *, page_first: bool = False) -> PageUris:
    """URIs under `path`; `page_first` writes `Page` before `PageSize`, as SignalWire does."""
    query = page.query

    def uri(number: int, cursor: Cursor | None) -> str:
        paging = [f"PageSize={query.size}", f"Page={number}"]
        if page_first:
            paging.reverse()
        filters = [f"{quote(name, safe='')}={quote(moment.text, safe='')}" for name, moment in query.filters]
        token = [f"PageToken={cursor}"] if cursor else []
        return f"{path}?{'&'.join(filters + paging + token)}"

    return PageUris(
        uri(query.page, query.cursor),
        uri(0, None),
        uri(max(query.page - 1, 0), page.previous) if page.previous else None,
        uri(query.page + 1, page.next) if page.next else None,
    )
