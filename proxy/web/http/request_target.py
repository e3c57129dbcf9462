"""Request targets as they were sent, octet for octet."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

# RFC 9112 §3.2.2: a target may come in absolute-form, and means the same without scheme and authority.
_AUTHORITY: Final = re.compile(r"\A(?i:https?)://([^/?#]*)")


def request_target(request: web.Request) -> str:
    """Return path and query, nothing decoded."""
    return origin_form(request.raw_path)


def authority(target: str) -> str | None:
    """Return the host and port that a target in absolute-form names, which count in place of `Host`'s; else None."""
    match = _AUTHORITY.match(target)
    return None if match is None else match[1]


def origin_form(target: str) -> str:
    """Return path and query of any target, nothing decoded."""
    return _AUTHORITY.sub("", target, count=1)
