"""The express lane's reading of a request: its bytes cut apart, and the fields that may be passed over."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import HttpVersion11
from aiohttp.http import RawRequestMessage

from proxy.http_server.express.memo import Head
from proxy.semantics.fields import EntityTag
from proxy.telemetry.access_log import agent_words, client_words
from proxy.web.exchange import Exchange

_VERSION: Final = b" HTTP/1.1\r\n"
_END: Final = b"\r\n\r\n"
LONGEST_START: Final = 1_024
LONGEST_HEAD: Final = 2_048
_RANGE: Final = re.compile(rb"\r\n[Rr]ange: (bytes=[0-9]{0,18}-[0-9]{0,18})(?=\r\n)")
_MOST_FIELDS: Final = 64
_KEEP_ALIVE: Final = ("connection", "keep-alive")
_DIRECTIVES: Final = ("cache-control", "pragma")
PASSED_OVER: Final = frozenset(
    {
        "accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "cookie", "device-memory",
        "dnt", "downlink", "ect", "forwarded", "host", "if-none-match", "keep-alive", "pragma", "priority", "referer",
        "rtt", "save-data", "sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform", "sec-fetch-dest", "sec-fetch-mode",
        "sec-fetch-site", "sec-fetch-storage-access", "sec-fetch-user", "sec-gpc", "upgrade-insecure-requests",
        "user-agent", "via", "viewport-width", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip",
    }
)  # fmt: skip
"""Fields that no answer with a media depends on, or that a rule here is about. Others may matter (RFC 9110 §5.1)."""


def cut(octets: bytes) -> tuple[bytes, bytes, str] | None:
    """Cut the octets of one request into its start, its fields without a line of one range, and the value of that line.

    The start is the method, a space and the target. The fields begin with ` HTTP/1.1` and end with the empty line. The
    value is empty if there is no such line. Return None unless the octets are exactly one head: their first empty line
    has to be their end (RFC 9112 §2.1) before anything is cut out of them. Bytes after it belong to a body or to
    another message, even if they look like a field line.
    """
    place = octets.find(_VERSION)
    if place < 0 or octets.find(_END) + len(_END) != len(octets):
        return None
    start, block = octets[:place], octets[place:]
    if b"ange:" not in block:
        return start, block, ""
    line = _RANGE.search(block)
    if line is None:
        return start, block, ""
    return start, block[: line.start()] + block[line.end() :], line[1].decode()


def read_head(message: RawRequestMessage, known: Exchange, *, ranges: int, directives: bool) -> Head | None:
    """Read the fields of an accepted request; return None if one of them may matter to an answer.

    The caller sees to so many `ranges`, fields of that name. With `directives`, `Cache-Control` of a request matters.
    """
    if message.version != HttpVersion11 or message.should_close or message.upgrade or message.chunked:
        return None
    fields = message.headers
    if len(fields) > _MOST_FIELDS or len(fields.getall("Range", ())) != ranges:
        return None
    for name, value in fields.items():
        lowered = name.lower()
        matters = lowered not in PASSED_OVER and lowered != "range" and (lowered, value.lower()) != _KEEP_ALIVE
        if matters or (lowered in _DIRECTIVES and directives):
            return None
    etag = None
    if "If-None-Match" in fields:
        # RFC 9110 §13.1.2: the comparison is weak, so only the opaque part counts.
        tags = fields.getall("If-None-Match")
        etag = EntityTag.parse(tags[0])
        if etag is None or len(tags) > 1:
            return None
    agent = fields.get("User-Agent")
    named = known.client is not None and "X-Forwarded-For" in fields
    return Head(
        None if etag is None else etag.opaque,
        agent_words(agent),
        client_words(known.client) if named else None,
    )
