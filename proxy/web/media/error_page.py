"""Errors of signed links: a page for a person who opens the link, and problem details for everyone else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from aiohttp import web

from proxy.errors import (
    GatewayError,
    LinkClaimUnmet,
    LinkError,
    LinkExpired,
    LinkRevoked,
    MediaNotFound,
    MethodNotAllowed,
    Overloaded,
    PreconditionRefused,
    RangeRefused,
    StoreError,
    TooManyRequests,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.reasons import reason_phrase
from proxy.semantics.fields import Fields
from proxy.semantics.navigation import NEGOTIATED, wants_page
from proxy.web.http.problems import SERVER, problem

# Read once at import, as reading blocks.
_PAGE: Final = files("proxy.web.media").joinpath("error_page.html").read_text("utf-8")
_STYLE: Final = re.findall(r"<style>(.*?)</style>", _PAGE, re.DOTALL)
_TEMPLATE: Final = Template(_PAGE)
_CUT_LINK: Final = "M9 17H7A5 5 0 0 1 7 7h1M15 7h2a5 5 0 0 1 3.5 8.5M8 12h3M3 3l18 18"
_MISSING_FILE: Final = "M14 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V8zM14 3v5h5M12 11v4M12 18h.01"
_AGAIN: Final = '<a href="">Try again</a>\n'


def _hashed(style: str) -> str:
    """Return the source expression that allows exactly this style (CSP Level 3 §2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"


_POLICY: Final = (
    f"default-src 'none'; style-src {' '.join(map(_hashed, _STYLE))}; base-uri 'none'; form-action 'none'; sandbox"
)


@dataclass(frozen=True, slots=True)
class _Words:
    """The words for an error: what happened, and what to do. `again`: opening the same link again may help."""

    title: str
    what: str
    advice: str
    again: bool = False


_UNKNOWN: Final = _Words(
    "This link cannot be checked right now",
    "The server cannot tell at the moment whether it still opens the file.",
    "Try again in a few minutes.",
    again=True,
)
_FAILED: Final = _Words(
    "Something went wrong",
    "The file could not be shown.",
    "Try again in a few minutes. If it still fails, tell the person who sent you the link.",
    again=True,
)
_WORDS: Final[tuple[tuple[tuple[type[GatewayError], ...], _Words], ...]] = (
    (
        (LinkExpired,),
        _Words(
            "This link has expired",
            "Links to private files work for a limited time, and this one has run out.",
            "Open it again from where you found it, or ask for a new link.",
        ),
    ),
    (
        (LinkRevoked,),
        _Words(
            "This link was withdrawn",
            "The file is no longer shared through this link.",
            "If you still need the file, ask the person who sent you the link.",
        ),
    ),
    (
        (LinkClaimUnmet,),
        _Words(
            "This link does not work here or now",
            "It was made for another network, or for a later time.",
            "Try it on the network that it was made for, try again later, or ask for a new link.",
        ),
    ),
    (
        (LinkError,),
        _Words(
            "This link is not valid",
            "It may have been cut short or changed on its way, for example by a mail program.",
            "Open it again from where you found it, or ask for a new link.",
        ),
    ),
    (
        (MediaNotFound,),
        _Words(
            "This file is not available",
            "It was deleted, or it has not arrived yet.",
            "If it was sent a moment ago, try again in a minute. If not, ask the person who sent you the link.",
            again=True,
        ),
    ),
    (
        (MethodNotAllowed,),
        _Words(
            "This link can only be opened",
            "It gives you a file. Nothing can be sent to it.",
            "Open the link in a new window.",
        ),
    ),
    (
        (PreconditionRefused,),
        _Words(
            "This is not the version that was asked for",
            "The file has changed, or your browser remembers another version of it.",
            "Try again to get the file as it is now.",
            again=True,
        ),
    ),
    (
        (RangeRefused,),
        _Words(
            "This file has no such part",
            "The part that was asked for begins after the end of the file.",
            "Try again to get the whole file.",
            again=True,
        ),
    ),
    (
        (TooManyRequests,),
        _Words(
            "Too many attempts",
            "Too many invalid links were opened from your network.",
            "Wait a minute, then open the link again from where you found it.",
        ),
    ),
    (
        (
            Overloaded,
            UpstreamBusy,
            StoreError,
        ),
        _Words(
            "Too busy right now",
            "The file cannot be fetched at the moment. The link itself is good.",
            "Wait a little, then try again.",
            again=True,
        ),
    ),
    (
        (UpstreamTimeout,),
        _Words(
            "This took too long",
            "The service that stores the file did not answer in time. The link itself is good.",
            "Wait a little, then try again.",
            again=True,
        ),
    ),
    (
        (UpstreamError,),
        _Words(
            "The file could not be fetched",
            "The service that stores it gave no usable answer. The link itself is good.",
            "Try again in a few minutes. If it still fails, tell the person who sent you the link.",
            again=True,
        ),
    ),
)
"""Words by kind of error; the first that fits counts."""


def error_answer_for(request: web.Request) -> Callable[[GatewayError, str], web.Response]:
    """Return the maker of answers to the errors of one request for a signed link: an `Exchange.refusal`."""
    answer = error_page if wants_page(Fields.of(request.headers.items())) else problem

    def negotiated(error: GatewayError, request_id: str) -> web.Response:
        response = answer(error, request_id)
        response.headers["Vary"] = NEGOTIATED
        return response

    return negotiated


def error_page(error: GatewayError, request_id: str) -> web.Response:
    """Return an error as a page. Its words are the gateway's own; of the request it repeats the id alone."""
    words = _words_for(error)
    page = _TEMPLATE.substitute(
        icon=_CUT_LINK if isinstance(error, LinkError) else _MISSING_FILE,
        title=escape(words.title),
        what=escape(words.what),
        advice=escape(words.advice),
        again=_AGAIN if words.again else "",
        status=error.status,
        request_id=escape(request_id),
    )
    return web.Response(
        status=error.status,
        reason=reason_phrase(error.status),
        body=page.encode(),
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Content-Language": "en",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "no-referrer",
            "Server": SERVER,
            "X-Request-Id": request_id,
            **error.headers,
        },
    )


def _words_for(error: GatewayError) -> _Words:
    if isinstance(error, LinkRevoked) and error.detail:
        return _UNKNOWN
    return next((words for kinds, words in _WORDS if isinstance(error, kinds)), _FAILED)
