"""Purges of a CDN in front, for what was erased: one task, a bounded queue, a few tries for each call."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from proxy.erasure import Reach
from proxy.model import AccountSid, MediaRef, MessageRef
from proxy.semantics.targeted import cache_tag
from proxy.telemetry.request_context import request_facts
from proxy.upstream.transport import USER_AGENT

_log: Final = logging.getLogger("media_gateway.cdn")

TAGS_PER_CALL: Final = 30
"""Tags in one call: what the strictest of the well-known CDNs takes."""
QUEUED_CALLS: Final = 1_000
TRIES: Final = 3
_WAITS: Final = (1.0, 4.0)
_TRY_SECONDS: Final = 10.0
_EVERYTHING: Final = b'{"purge_everything": true}'


@dataclass(frozen=True, slots=True)
class PurgePlace:
    """The place that purges are sent to: an origin, path and query as written, and the field that authorises them."""

    origin: str
    target: str = field(repr=False)
    header: tuple[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Call:
    body: bytes
    tags: tuple[str, ...]
    asked_by: Mapping[str, str] = field(default_factory=request_facts)
    """The log's fields of the request that erased this."""


class CdnPurges:
    """The purges of `place`, in the background; without a place nothing is sent.

    An async context manager: leaving it waits at most `drain_seconds` for what is still to be sent. `sleep` waits
    between tries, and is for tests to hold.
    """

    def __init__(
        self,
        place: PurgePlace | None,
        *,
        drain_seconds: float,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._place = place
        self._drain_seconds = drain_seconds
        self._sleep = sleep
        self._calls: deque[_Call] = deque()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._scope = AsyncExitStack()
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._place is not None:
            session = await self._scope.enter_async_context(
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=_TRY_SECONDS),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    headers={"User-Agent": USER_AGENT},
                )
            )
            self._worker = asyncio.create_task(self._work(self._place, session), name="cdn purges")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._scope:
            if self._worker is None:
                return
            try:
                async with asyncio.timeout(self._drain_seconds):
                    await self._idle.wait()
            except TimeoutError:
                _log.error("%d purges were not told to the CDN before the end", len(self._calls) + 1)
            self._worker.cancel()
            await asyncio.wait({self._worker})

    def purge(self, reaches: Iterable[Reach]) -> None:
        """Have the CDN drop what was erased. Returns at once.

        If too much waits already, the oldest purge is dropped.
        """
        if self._worker is None:
            return
        named = dict.fromkeys(map(_tag, reaches))
        if None in named:
            self._queue(_Call(_EVERYTHING, ()))
            return
        tags = tuple(tag for tag in named if tag is not None)
        for first in range(0, len(tags), TAGS_PER_CALL):
            some = tags[first : first + TAGS_PER_CALL]
            self._queue(_Call(json.dumps({"tags": some}).encode(), some))

    def _queue(self, call: _Call) -> None:
        if len(self._calls) >= QUEUED_CALLS:
            dropped = self._calls.popleft()
            _log.warning(
                "too many purges wait for the CDN; it is not told to drop %s",
                _said(dropped),
                extra={"facts": dropped.asked_by},
            )
        self._calls.append(call)
        self._idle.clear()
        self._more.set()

    async def _work(self, place: PurgePlace, session: aiohttp.ClientSession) -> None:
        while True:
            await self._more.wait()
            while self._calls:
                await self._tell(place, session, self._calls.popleft())
            self._more.clear()
            self._idle.set()

    async def _tell(self, place: PurgePlace, session: aiohttp.ClientSession, call: _Call) -> None:
        failed = ""
        for number in range(TRIES):
            if number:
                await self._sleep(_WAITS[number - 1])
            failed = await _post(place, session, call)
            if not failed:
                return
        _log.error(
            "the CDN at %s was not told to drop %s: %s",
            place.origin,
            _said(call),
            failed,
            extra={"facts": call.asked_by},
        )


async def _post(place: PurgePlace, session: aiohttp.ClientSession, call: _Call) -> str:
    """Try once; return why that failed, or nothing. aiohttp's message holds the URL, so only its kind is repeated."""
    headers = {"Content-Type": "application/json"}
    if call.tags:
        headers["Surrogate-Key"] = " ".join(call.tags)
    if place.header is not None:
        headers[place.header[0]] = place.header[1]
    url = URL(place.origin + place.target, encoded=True)
    try:
        async with session.post(url, data=call.body, headers=headers, allow_redirects=False) as response:
            return "" if 200 <= response.status < 300 else f"it answered {response.status}"
    except (aiohttp.ClientError, OSError) as error:
        return type(error).__name__


def _tag(reach: Reach) -> str | None:
    """Return the tag of every answer with a media that is reached; None for everything."""
    match str(reach).split("/"):
        case [account, message, media]:
            return cache_tag(MediaRef.parse(account, message, media))
        case [account, message]:
            return cache_tag(MessageRef.parse(account, message))
        case [account] if account != "*":
            return cache_tag(AccountSid.parse(account))
        case _:
            return None


def _said(call: _Call) -> str:
    return ", ".join(call.tags) or "everything"
