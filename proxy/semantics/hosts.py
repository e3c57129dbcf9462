"""A request's host: the grammar of `Host` (RFC 9110 §7.2) and of a target's authority (RFC 9112 §3.2.2)."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final

_REMEMBERED: Final = 1_024
_LAST_PORT: Final = 65_535
# RFC 3986 §3.2.2: a reg-name, which may be empty, or what stands in brackets. An escaped octet of ASCII is refused: it
# has no place in a name, and once decoded it would be a delimiter or hide a name that is compared.
_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<literal>[0-9A-Za-z:.%_~!$&'()*+,;=-]+)\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[89A-Fa-f][0-9A-Fa-f])*)"
    r"(?::(?P<port>[0-9]{0,5}))?",
    re.ASCII,
)
_FUTURE: Final = re.compile(r"[vV][0-9A-Fa-f]+\.[0-9A-Za-z._~!$&'()*+,;=:-]+", re.ASCII)
_ZONE: Final = re.compile(r"%25[0-9A-Za-z._~-]+", re.ASCII)


@lru_cache(_REMEMBERED)
def is_host(value: str) -> bool:
    """Return whether text is `uri-host [ ":" port ]`: a name with any characters of one, an address, or nothing."""
    match = _AUTHORITY.fullmatch(value)
    if match is None or int(match["port"] or 0) > _LAST_PORT:
        return False
    literal = match["literal"]
    return literal is None or _is_literal(literal)


def _is_literal(text: str) -> bool:
    """Return whether text is what RFC 3986 §3.2.2 has in brackets; RFC 6874 adds a zone to an IPv6 address."""
    if _FUTURE.fullmatch(text):
        return True
    address, percent, zone = text.partition("%")
    try:
        IPv6Address(address)
    except AddressValueError:
        return False
    return not percent or _ZONE.fullmatch(percent + zone) is not None
