"""The words of the provider's API when it refuses a call: four fields, in JSON or XML. Pure.

Only what may be shown to a client is taken over: no URL of the upstream's, no credential, nothing unprintable.
"""

from __future__ import annotations

import base64
import re
from typing import Final
from xml.sax.saxutils import unescape

import msgspec

from proxy.errors import UpstreamRefused
from proxy.reasons import reason_phrase
from proxy.upstream.providers import Account

MAX_REFUSAL_BYTES: Final = 65_536
"""The longest body of a refusal that is read."""

_MORE_INFO: Final = "https://www.twilio.com/docs/errors/"
_LONGEST_MESSAGE: Final = 500
_CODES: Final = range(1, 1_000_000)
_MISREAD: Final = frozenset({401, 403, 404, 408, 410, 429})
_ELEMENT: Final = re.compile(r"<(Code|Message|MoreInfo)>([^<>]{0,2000})</\1>")
_QUOTES: Final = {"&quot;": '"', "&apos;": "'"}
# A page about the error: no query, no user, no port.
_PAGE: Final = re.compile(r"https://(?P<host>[a-z0-9.-]{1,100})/[A-Za-z0-9/._~#-]{0,200}")


class _RefusalFields(msgspec.Struct):
    code: object = None
    message: object = None
    more_info: object = None


def is_refusal(status: int) -> bool:
    """Return whether a status refuses the call itself, and would refuse it again: not its credentials or rate."""
    return 400 <= status < 500 and status not in _MISREAD


def refused(account: Account, status: int, body: bytes) -> UpstreamRefused:
    """Return the error for a refusal with that body; what the body does not say is made up from the status."""
    said = _read(body)
    code = _code(said.code) or 20_000 + status
    phrase = reason_phrase(status) or "The request was refused"
    return UpstreamRefused(
        status, code, _message(account, said.message) or phrase, _page(account, said.more_info) or more_info(code)
    )


def more_info(code: int) -> str:
    """Return the page about an error's code."""
    return f"{_MORE_INFO}{code}"


def _read(body: bytes) -> _RefusalFields:
    try:
        return msgspec.json.decode(body, type=_RefusalFields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = {name: unescape(text, _QUOTES) for name, text in _ELEMENT.findall(body.decode("utf-8", "replace"))}
        return _RefusalFields(found.get("Code"), found.get("Message"), found.get("MoreInfo"))


def _code(said: object) -> int | None:
    match said:
        case bool():
            return None
        case int():
            code = said
        case str() if re.fullmatch(r"[0-9]{1,6}", said, re.ASCII):
            code = int(said)
        case _:
            return None
    return code if code in _CODES else None


def _message(account: Account, said: object) -> str | None:
    if not isinstance(said, str):
        return None
    text = " ".join(said.split())
    # Before it is cut: the beginning of a secret is one too.
    shown = text.isprintable() and "://" not in text and not _tells_of(account, text)
    return text[:_LONGEST_MESSAGE] if shown else None


def _page(account: Account, said: object) -> str | None:
    match = _PAGE.fullmatch(said) if isinstance(said, str) else None
    return match[0] if match is not None and not _tells_of(account, match[0]) else None


def _tells_of(account: Account, text: str) -> bool:
    """Return whether a text holds the account's password, plain or as it is sent (RFC 7617 §2), or its origin."""
    sent = base64.b64encode(f"{account.username}:{account.password}".encode()).decode()
    return any(told.lower() in text.lower() for told in (account.password, sent.rstrip("="), account.origin.host))
