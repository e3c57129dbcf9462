"""The requests that both servers received, kept for tests and for the demo."""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from multidict import CIMultiDict, CIMultiDictProxy


class Origin(enum.StrEnum):
    """One of the two servers."""

    API = "api"
    CDN = "cdn"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request as it came in. `path` and `query` are as sent; `status` is None until, or unless, it is answered."""

    origin: Origin
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    status: int | None = None

    @property
    def fields(self) -> CIMultiDictProxy[str]:
        """The header fields, to be looked up without case."""
        return CIMultiDictProxy(CIMultiDict(self.headers))


class Records:
    """The last requests, oldest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[int, RequestRecord] = {}
        self._numbers = itertools.count()

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(self._entries.values())

    def open(self, record: RequestRecord) -> int:
        """Keep a request that has just come in, and return a number that stands for it in `settle`."""
        number = next(self._numbers)
        self._entries[number] = record
        while len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]
        return number

    def settle(self, number: int, status: int) -> None:
        """Note the status of the answer, unless the record was cleared since."""
        if number in self._entries:
            self._entries[number] = dataclasses.replace(self._entries[number], status=status)

    def clear(self) -> None:
        self._entries.clear()
