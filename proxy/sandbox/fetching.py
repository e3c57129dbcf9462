"""Fetching the files that a message's `MediaUrl` names, from anywhere: loopback and private addresses too.

As the provider's hints say, a file is kept where its answer has an `ETag` or `Last-Modified` and allows storing, and
is used again: for its max-age, or a day where the answer does not say. After `Cache-Control: no-cache`, or when that
time is over, the web server is asked with the validators, and may answer 304 or send a new version.
"""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Final, Self, assert_never

import aiohttp
import msgspec
from yarl import URL

from proxy.model import Clock
from proxy.sandbox.ledger import Fetched
from proxy.sandbox.messages import Attachment
from proxy.sandbox.refusals import Refusal, Refused
from proxy.sandbox.storage import Storage
from proxy.semantics.caching import Forward, Refuse, Reuse, ReuseStale, Validate, decide
from proxy.semantics.content_coding import Coding, content_coding
from proxy.semantics.fields import Fields, is_safe_value
from proxy.semantics.freshening import Mismatch, freshen
from proxy.semantics.freshness import FreshnessPolicy
from proxy.semantics.stored import Storable, StoredMetadata, Validators, storable
from proxy.upstream.transport import received

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HOP_LIMIT: Final = 5
_URL_LIMIT: Final = 4_000
_CONNECT_SECONDS: Final = 5.0
_TOTAL_SECONDS: Final = 15.0
_STEP: Final = 65_536
_PLAIN: Final = re.compile(r"[!-~]*", re.ASCII)
_NOTHING: Final = Fields()
_DAY: Final = 86_400.0
_POLICY: Final = FreshnessPolicy(default_lifetime=_DAY, heuristic_cap=_DAY, heuristic_floor=_DAY)
_SENT: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "media-gateway-sandbox"}


def content_type(text: str | None) -> str:
    """A media's type as it was given. Raises `Refused` where it is none."""
    value = (text or "").strip()
    kind, slash, rest = value.partition("/")
    if not (kind and slash and rest and len(value) <= 255 and value.isascii() and is_safe_value(value)):
        raise Refused(Refusal.NO_CONTENT_TYPE)
    return value


def media_url(text: str) -> URL:
    """A `MediaUrl`: absolute, http or https, up to 4,000 characters. Raises `Refused`."""
    try:
        # As it was written, so that a signature in it stays good; what cannot stand in a request is encoded first.
        url = URL(text, encoded=_PLAIN.fullmatch(text) is not None)
    except ValueError as error:
        raise Refused(Refusal.BAD_MEDIA_URL) from error
    if url.scheme not in ("http", "https") or not url.host or len(text) > _URL_LIMIT:
        raise Refused(Refusal.BAD_MEDIA_URL)
    return url.with_fragment(None)


class Fetcher:
    """An async context manager; fetches within its scope, and keeps what it may in `storage`.

    At most 5 redirects, 5 seconds to connect and 15 in all for each file.
    """

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # No connection stays open between two messages.
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers=_SENT,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: URL, allowance: int) -> Attachment:
        """The file at `url`, of `allowance` octets at most. Raises `Refused`, and `StoreError` where the disk fails."""
        name = url.name or "media"
        try:
            async with asyncio.timeout(_TOTAL_SECONDS):
                for _ in range(_HOP_LIMIT + 1):
                    found = await self._hop(url, allowance)
                    if not isinstance(found, URL):
                        return Attachment(found[0], name, found[1])
                    url = found
        # A malformed address that leads on is found by aiohttp or yarl, as a ValueError of one kind or another.
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Refused(Refusal.NOT_FETCHED) from error
        raise Refused(Refusal.NOT_FETCHED)

    async def _hop(self, url: URL, allowance: int) -> URL | tuple[str, bytes]:
        """Where a redirect leads, or the type and the octets."""
        # RFC 9111 §3.5: the answer to a request with credentials is not for others.
        keeps = url.user is None and url.password is None
        kept = await self._storage.recall(str(url)) if keeps else None
        stored = msgspec.json.decode(kept.metadata, type=StoredMetadata) if kept else None
        validators = _question(stored, self._clock())
        if kept is not None and stored is not None and validators is None:
            return _file(stored.fields, kept.octets, allowance)
        assert self._session is not None, "the fetcher is used within its scope"
        requested_at = self._clock()
        async with self._session.get(url, headers=_conditions(validators), allow_redirects=False) as response:
            fields = received(response)
            if response.status in _REDIRECTS:
                return _leads_to(url, fields)
            if response.status == 304 and kept is not None and stored is not None:
                fresh = freshen(stored, fields, requested_at=requested_at, answered_at=self._clock())
                if isinstance(fresh, Mismatch):
                    raise Refused(Refusal.NOT_FETCHED)
                await self._keep(url, fresh, kept.octets)
                return _file(fresh.fields, kept.octets, allowance)
            if response.status != 200 or content_coding(fields) is not Coding.NONE:
                raise Refused(Refusal.NOT_FETCHED)
            octets = await _read(response, allowance)
        found = _file(fields, octets, allowance)
        if keeps:
            answered_at = self._clock()
            metadata = StoredMetadata.received(fields, _NOTHING, requested_at=requested_at, answered_at=answered_at)
            await self._keep(url, metadata, octets)
        return found

    async def _keep(self, url: URL, metadata: StoredMetadata, octets: bytes) -> None:
        if metadata.validators and isinstance(storable(200, metadata.fields), Storable):
            await self._storage.remember(str(url), Fetched(msgspec.json.encode(metadata), octets))
        else:
            await self._storage.forget(str(url))


def _question(stored: StoredMetadata | None, now: float) -> Validators | None:
    """The validators to ask with, none for a file anew; None where the stored file is used unasked."""
    decision = decide(stored, _NOTHING, now, _POLICY, presented=_NOTHING)
    match decision:
        case Reuse():
            return None
        case Validate() | ReuseStale():
            return stored.validators if stored else Validators()
        case Forward() | Refuse():
            return Validators()
        case _:
            assert_never(decision)


def _conditions(validators: Validators | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    if validators is not None and validators.etag is not None:
        headers["If-None-Match"] = validators.etag
    if validators is not None and validators.last_modified is not None:
        headers["If-Modified-Since"] = validators.last_modified
    return headers


def _leads_to(url: URL, fields: Fields) -> URL:
    location = fields.single("Location")
    if not location:
        raise Refused(Refusal.NOT_FETCHED)
    # Followed octet for octet, so that a signature in it stays good.
    target = url.join(URL(location, encoded=True)).with_fragment(None)
    if target.scheme not in ("http", "https") or not target.host or len(location) > _URL_LIMIT:
        raise Refused(Refusal.NOT_FETCHED)
    return target


async def _read(response: aiohttp.ClientResponse, allowance: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(_STEP):
        size += len(part)
        if size > allowance:
            raise Refused(Refusal.TOO_LARGE)
        parts.append(part)
    return b"".join(parts)


def _file(fields: Fields, octets: bytes, allowance: int) -> tuple[str, bytes]:
    if len(octets) > allowance:
        raise Refused(Refusal.TOO_LARGE)
    return content_type(fields.single("Content-Type")), octets
