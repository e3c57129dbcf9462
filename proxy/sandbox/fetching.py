"""Fetching the files that a message's `MediaUrl` names, from anywhere: loopback and private addresses too.

As the provider's hints say, a file is kept if its answer has an `ETag` or `Last-Modified` and allows storing, and is
used again: for its max-age, or a day if the answer does not say. After `Cache-Control: no-cache`, or when that time is
over, the web server is asked with the validators, and may answer 304 or send a new version. A sandbox keeps 100 files
and 100 MiB at most, in memory, and drops those used longest ago.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.model import Clock
from proxy.sandbox.conditions import is_same_weakly, parse_date, parse_etags
from proxy.sandbox.messages import Attachment
from proxy.sandbox.refusals import Refusal, Refused

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HOP_LIMIT: Final = 5
_URL_LIMIT: Final = 4_000
_CONNECT_SECONDS: Final = 5.0
_TOTAL_SECONDS: Final = 15.0
_STEP: Final = 65_536
_PLAIN: Final = re.compile(r"[!-~]*", re.ASCII)
_DIRECTIVE: Final = re.compile(r'([a-z-]+)(?:="?([0-9]{1,9}))?', re.ASCII)
# Values of `Content-Encoding` that name no coding of the octets; object stores send the last three.
_UNCODED: Final = frozenset({"", "identity", "aws-chunked", "binary", "utf-8"})
_DAY: Final = 86_400
_KEPT_LIMIT: Final = 100
_KEPT_BYTES: Final = 100 * 2**20
_SENT: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "media-gateway-sandbox"}


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A fetched file: the fields of its answer, and its octets."""

    headers: CIMultiDictProxy[str]
    octets: bytes

    def attachment(self, name: str, allowance: int) -> Attachment:
        if len(self.octets) > allowance:
            raise Refused(Refusal.TOO_LARGE)
        return Attachment(content_type(self.headers.get("Content-Type")), name, self.octets)

    @property
    def directives(self) -> dict[str, str]:
        """The cache directives (RFC 9111 §5.2) and their numbers."""
        return dict(_DIRECTIVE.findall(",".join(self.headers.getall("Cache-Control", ())).lower()))

    @property
    def conditions(self) -> dict[str, str]:
        """The request fields that ask whether the file is still the same; none if its answer had no validator."""
        conditions = {}
        if parse_etags(etag := self.headers.get("ETag", "")):
            conditions["If-None-Match"] = etag
        if parse_date(modified := self.headers.get("Last-Modified", "")) is not None:
            conditions["If-Modified-Since"] = modified
        return conditions

    @property
    def may_be_kept(self) -> bool:
        barred = self.directives.keys() & {"no-store", "private"} or "*" in self.headers.get("Vary", "")
        return bool(self.conditions) and not barred

    @property
    def lifetime(self) -> int:
        """The seconds for which it is used again without asking (RFC 9111 §4.2)."""
        directives = self.directives
        if "no-cache" in directives:
            return 0
        given = self.headers.get("Age", "")
        age = int(given) if given.isdecimal() else 0
        for name in ("s-maxage", "max-age"):
            if directives.get(name):
                return int(directives[name]) - age
        if "Expires" in self.headers:
            expires, date = (parse_date(self.headers.get(name)) for name in ("Expires", "Date"))
            return 0 if expires is None or date is None else expires - date - age
        return _DAY - age

    def confirmed(self, headers: CIMultiDictProxy[str]) -> _Fetched:
        """Return this file with the fields of a 304 (RFC 9111 §3.2). Raises `Refused` if that is about another one."""
        etag = headers.get("ETag")
        if etag is not None and not is_same_weakly(etag, self.headers.get("ETag", etag)):
            raise Refused(Refusal.NOT_FETCHED)
        merged = CIMultiDict(self.headers)
        merged.update({name: value for name, value in headers.items() if not name.lower().startswith("content-")})
        return _Fetched(CIMultiDictProxy(merged), self.octets)


class _Kept:
    """The files that are kept, by their addresses, the one used longest ago first."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[_Fetched, float]] = {}

    def get(self, url: str) -> tuple[_Fetched, float] | None:
        """Return a file, and the Unix time until which it is used without asking."""
        found = self._files.pop(url, None)
        if found is not None:
            self._files[url] = found
        return found

    def put(self, url: str, file: _Fetched, now: float) -> None:
        """Keep a file in place of the last one from that address, or neither if it may not be kept."""
        self._files.pop(url, None)
        if not file.may_be_kept:
            return
        self._files[url] = file, now + file.lifetime
        while len(self._files) > _KEPT_LIMIT or sum(len(one.octets) for one, _ in self._files.values()) > _KEPT_BYTES:
            del self._files[next(iter(self._files))]


def content_type(text: str | None) -> str:
    """Return a media's type as it was given. Raises `Refused` if it is not one."""
    value = (text or "").strip()
    kind, slash, rest = value.partition("/")
    if not (kind and slash and rest and len(value) <= 255 and value.isascii() and value.isprintable()):
        raise Refused(Refusal.NO_CONTENT_TYPE)
    return value


def media_url(text: str) -> URL:
    """Parse a `MediaUrl`: absolute, http or https, up to 4,000 characters. Raises `Refused`."""
    try:
        # As it was written, so that a signature in it stays valid; other characters than a request's are encoded first.
        url = URL(text, encoded=_PLAIN.fullmatch(text) is not None)
    except ValueError as error:
        raise Refused(Refusal.BAD_MEDIA_URL) from error
    if url.scheme not in ("http", "https") or not url.host or len(text) > _URL_LIMIT:
        raise Refused(Refusal.BAD_MEDIA_URL)
    return url.with_fragment(None)


class Fetcher:
    """An async context manager that fetches within its scope, and keeps what it may.

    At most 5 redirects, 5 seconds to connect and 15 in all for each file.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept = _Kept()
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
        """Return the file at `url`, of `allowance` octets at most. Raises `Refused`."""
        name = url.name or "media"
        try:
            async with asyncio.timeout(_TOTAL_SECONDS):
                for _ in range(_HOP_LIMIT + 1):
                    found = await self._hop(url, name, allowance)
                    if isinstance(found, Attachment):
                        return found
                    url = found
        # A malformed address that leads on is found by aiohttp or yarl, as a ValueError of one kind or another.
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Refused(Refusal.NOT_FETCHED) from error
        raise Refused(Refusal.NOT_FETCHED)

    async def _hop(self, url: URL, name: str, allowance: int) -> URL | Attachment:
        """Return the file, or the address to which a redirect leads."""
        # RFC 9111 §3.5: the answer to a request with credentials is not for others.
        keeps = url.user is None and url.password is None
        kept, until = (self._kept.get(str(url)) if keeps else None) or (None, 0.0)
        if kept is not None and self._clock() < until:
            return kept.attachment(name, allowance)
        assert self._session is not None, "the fetcher is used within its scope"
        conditions = kept.conditions if kept is not None else {}
        async with self._session.get(url, headers=conditions, allow_redirects=False) as response:
            if response.status in _REDIRECTS:
                return _target(url, response.headers.get("Location", ""))
            if response.status == 304 and kept is not None:
                file = kept.confirmed(response.headers)
            elif response.status == 200 and response.headers.get("Content-Encoding", "").lower() in _UNCODED:
                file = _Fetched(response.headers, await _read(response, allowance))
            else:
                raise Refused(Refusal.NOT_FETCHED)
        attachment = file.attachment(name, allowance)
        if keeps:
            self._kept.put(str(url), file, self._clock())
        return attachment


def _target(url: URL, location: str) -> URL:
    # Followed octet for octet, so that a signature in it stays valid.
    target = url.join(URL(location, encoded=True)).with_fragment(None)
    if not location or target.scheme not in ("http", "https") or not target.host or len(location) > _URL_LIMIT:
        raise Refused(Refusal.NOT_FETCHED)
    return target


async def _read(response: aiohttp.ClientResponse, allowance: int) -> bytes:
    octets = bytearray()
    async for part in response.content.iter_chunked(_STEP):
        octets += part
        if len(octets) > allowance:
            raise Refused(Refusal.TOO_LARGE)
    return bytes(octets)
