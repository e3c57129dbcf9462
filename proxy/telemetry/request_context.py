"""Which request the work under way is for, so that each line of the log about it can say so.

It holds for the task of a request and for every task that is begun there. A fill, a deletion or a check that outlives
its request therefore carries the id of the request that started it, whoever joined it later.
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
    """Say of the lines that are written meanwhile which request they are about."""
    facts = {"request_id": request_id} if trace_id is None else {"request_id": request_id, "trace_id": trace_id}
    token = _current.set(facts)
    try:
        yield
    finally:
        _current.reset(token)


def request_facts() -> Mapping[str, str]:
    """Return `request_id` and, where it is known, `trace_id` of the request that is being worked for; else nothing."""
    return _current.get()
