"""The request that the current work is for, so that each log line about that work can name it.

The context holds for the task of a request and for every task that is started from it. So a fill, a deletion or a check
that outlives its request carries the id of the request that started it, even if others joined later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_current: Final[ContextVar[Mapping[str, str]]] = ContextVar("request_facts", default=_NONE)


@contextmanager
def about_request(request_id: str, trace_id: str | None = None) -> Iterator[None]:
    """Name the request in every line that is logged within the scope."""
    facts = {"request_id": request_id} if trace_id is None else {"request_id": request_id, "trace_id": trace_id}
    token = _current.set(facts)
    try:
        yield
    finally:
        _current.reset(token)


def request_facts() -> Mapping[str, str]:
    """Return the `request_id` of the current request, and its `trace_id` if it is known; nothing outside a request."""
    return _current.get()
