"""The target of a request as it was sent, octet for octet."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

# RFC 9112 §3.2.2: a target may come in absolute-form, and is then the same without scheme and authority.
_AUTHORITY: Final = re.compile(r"\A(?i:https?)://[^/?#]*")


def request_target(request: web.Request) -> str:
    """Path and query, nothing decoded."""
    return _AUTHORITY.sub("", request.raw_path, count=1)
