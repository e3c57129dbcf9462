"""Redaction: secrets that open a media or an account (signatures, credentials, signed URLs) never reach a log."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"
"""The replacement of a secret."""

# A character of base64url, plain or percent-encoded.
_CHARACTER: Final = r"(?:[A-Za-z0-9_-]|%(?:2[Dd]|3[0-9]|4[1-9A-Fa-f]|5[0-9AFaf]|6[1-9A-Fa-f]|7[0-9Aa]))"
# A parameter or field by its name, a Basic credential, the user part of a URL, and anything that can hold a signature
# (43 characters of base64url), anywhere: a link may be mangled and its signature still good.
_SECRETS: Final = re.compile(
    r"(?P<name>(?=[sSkKpPxXtT])(?i:signature|key-pair-id|policy|x-amz-[a-z-]+|token|secret|password)(?:=|%3[dD]))[^&#\s\"']*"
    r"|(?P<scheme>(?=[bB])(?i:basic|bearer)\s+)[A-Za-z0-9+/=._~-]{6,}"
    r"|(?P<user>://)[^/@\s\"']+@"
    rf"|(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_%-]){_CHARACTER}{{43,}}+"
)


def redact(text: str) -> str:
    """Return the text without its secrets."""
    return _SECRETS.sub(_hide, text)


def _hide(match: re.Match[str]) -> str:
    if match["name"]:
        return match["name"] + HIDDEN
    if match["scheme"]:
        return match["scheme"] + HIDDEN
    if match["user"]:
        return match["user"] + HIDDEN + "@"
    return HIDDEN
