"""The meaning of an answer's status and fields, before a byte of its body is believed. Pure.

A cache that takes a part for the whole serves it to every reader. So a body is accepted only if its end is told
beforehand or is marked: one Content-Length, or the chunked coding, and never both (RFC 9112 §6.3).
"""

from __future__ import annotations

import math
import re
from typing import Final, assert_never

from proxy.errors import (
    MediaNotFound,
    SubaccountRefused,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefusedCredentials,
    UpstreamTooLarge,
)
from proxy.semantics.content_coding import Coding, Unknown, content_coding
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FreshnessPolicy, negative_lifetime
from proxy.upstream.retry import Cause, Setback, parse_retry_after

_LENGTH: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_UNBOUNDED: Final = FreshnessPolicy(default_lifetime=0, negative_lifetime=math.inf, negative_maximum=math.inf)
"""A policy without bounds: the cache bounds how long it remembers a 404; here only what the 404 itself says counts."""


def body_length(fields: Fields, most: int) -> int | None:
    """Return the announced length of a body in bytes, or None if it is chunked.

    Raises `UpstreamMalformed` for a body whose end cannot be told, and `UpstreamTooLarge` for one that announces more
    than `most` bytes.
    """
    lengths = set(fields.all("Content-Length"))
    transfer = fields.combined("Transfer-Encoding")
    if transfer is not None:
        if lengths or transfer.lower() != "chunked":
            raise UpstreamMalformed(note="the body has a transfer coding beside a length, or one that is not chunked")
        return None
    if not lengths:
        # Ended by the connection's close: the whole cannot be told from a part (RFC 9112 §8).
        raise UpstreamMalformed(note="the body is ended by the connection's close alone")
    value = lengths.pop()
    if lengths or not _LENGTH.fullmatch(value):
        raise UpstreamMalformed(note="the Content-Length is malformed, or there are two")
    length = int(value)
    if length > most:
        raise UpstreamTooLarge(note=f"{length} bytes announced, {most} allowed")
    return length


def body_coding(fields: Fields) -> Coding:
    """Return the content coding that has to be undone.

    Raises `UpstreamMalformed` for one that is not undone here, with a detail that names it.
    """
    match content_coding(fields):
        case Coding() as coding:
            return coding
        case Unknown(shown):
            said = f"The upstream sent the media in a content coding that the gateway does not decode: {shown}"
            raise UpstreamMalformed(said, note="the body has a content coding, and none was asked for")
        case _ as never:
            assert_never(never)


def failure(
    status: int, fields: Fields, *, credentials: bool, now: float, subaccount: bool = False
) -> Setback | UpstreamError:
    """Return what to raise for a status that does not answer what was asked.

    `credentials` says whether the request carried them: only then does a 401 or 403 speak of the account's own. For a
    `subaccount`, which any client can make up, that status means that there is none.
    """
    note = f"the {'origin' if credentials else 'redirect target'} answered {status}"
    match status:
        case 401 | 403 if credentials and subaccount:
            # Remembered as a 404 is.
            return SubaccountRefused(memory=negative_lifetime(404, fields, now, _UNBOUNDED), note=note)
        case 401 | 403 if credentials:
            return UpstreamRefusedCredentials(note=note)
        case 403:
            return Setback(UpstreamError(note=note), Cause.STALE_LOCATION)
        case 404:
            return Setback(_not_found(status, fields, now, note), Cause.NOT_FOUND)
        case 410:
            return _not_found(status, fields, now, note)
        case 429:
            wait = parse_retry_after(fields, now)
            named = None if wait is None else max(1, math.ceil(wait))
            return Setback(UpstreamBusy(retry_after=named, rate_limited=True, note=note), Cause.BUSY, wait)
        case 502 | 503 | 504:
            return Setback(UpstreamError(note=note), Cause.UNAVAILABLE, parse_retry_after(fields, now))
        case _ if status < 400:
            return UpstreamMalformed(note=note)
        case _:
            return UpstreamError(note=note)


def _not_found(status: int, fields: Fields, now: float, note: str) -> MediaNotFound:
    return MediaNotFound(memory=negative_lifetime(status, fields, now, _UNBOUNDED), note=note)
