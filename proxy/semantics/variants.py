"""Stored responses and the request fields that select them (RFC 9111 §4.1).

What selects is the request that the gateway sends upstream, never a client's: its fields are constant
(`Accept-Encoding: identity`), so the variants of a media collapse into one.
"""

from __future__ import annotations

import enum
from typing import Final, Literal

from proxy.semantics.fields import TOKEN, Fields, split_list


class _Any(enum.Enum):
    ANY = "*"


ANY: Final = _Any.ANY
"""The result of `vary` for `Vary: *`: no request selects the response."""

VaryNames = frozenset[str] | Literal[_Any.ANY]
Selection = tuple[tuple[str, str | None], ...]
"""Names in lower case and order, each with its normalised value; None if the request has no such field."""

# The credentials are those of the account that is part of a media's identity, and are never stored; conditions belong
# to one exchange, fields of the connection to one hop.
_NOT_SELECTING: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "connection", "host", "if-none-match", "if-modified-since"}
)
_NO_NAMES: Final = frozenset[str]()
# Lists of which neither order nor case has a meaning.
_UNORDERED: Final = frozenset({"accept-encoding", "accept-language", "accept-charset"})


def vary(fields: Fields) -> VaryNames:
    """Return the names of `Vary` in lower case; `ANY` if a member is `*` or not a field name (RFC 9110 §12.5.5)."""
    value = fields.combined("Vary")
    if not value:
        return _NO_NAMES
    names = frozenset(member.lower() for member in split_list(value))
    if "*" in names or not all(TOKEN.fullmatch(name) for name in names):
        return ANY
    return names


def selecting(request: Fields) -> Fields:
    """Return the fields of an upstream request that are stored beside its answer: no credentials, no conditions."""
    return Fields(tuple((name, value) for name, value in request if name.lower() not in _NOT_SELECTING))


def selection(fields: Fields, request: Fields) -> Selection | None:
    """Return the secondary key of a response with these fields to that request; None if nothing can select it."""
    names = vary(fields)
    if isinstance(names, _Any):
        return None
    return tuple((name, _normalised(name, request)) for name in sorted(names - _NOT_SELECTING))


def selects(fields: Fields, original: Fields, presented: Fields) -> bool:
    """Return whether `presented` selects the response with these fields, which answered `original` (§4.1)."""
    if not vary(fields):
        return True
    wanted = selection(fields, original)
    return wanted is not None and wanted == selection(fields, presented)


def _normalised(name: str, request: Fields) -> str | None:
    value = request.combined(name)
    if value is None:
        return None
    members = split_list(value)
    if name in _UNORDERED:
        members = sorted(member.lower().replace(" ", "") for member in members)
    return ", ".join(members)
