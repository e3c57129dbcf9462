"""Creating a message as an application does: a form with `To`, `From` and `Body`, and media by address or upload.

`MediaUrl` may stand several times. Beside what the provider takes, `multipart/form-data` may carry the files
themselves, as parts named `Media`; those come first. All media of a message are 10 at most, and 5 MB (5 x 1024 x 1024
octets) in all; the form around them has 1 MiB and 100 fields at most, and comes in within a minute.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, MultipartReader, web
from yarl import URL

from proxy.sandbox.fetching import Fetcher, content_type, media_url
from proxy.sandbox.messages import Attachment, Direction, Draft, Message
from proxy.sandbox.refusals import Refusal, Refused
from proxy.sandbox.storage import Storage

MEDIA_LIMIT: Final = 10
"""Files that a message takes, as with the providers."""
MEDIA_BYTES: Final = 5 * 1024 * 1024
"""Octets that the files of a message have in all, at most, as with the providers."""

_FORM_BYTES: Final = 2**20
_FIELD_LIMIT: Final = 100
_BODY_LIMIT: Final = 1_600
_AT_ONCE: Final = 8
_FORM_SECONDS: Final = 60.0
_STEP: Final = 65_536
_UNTYPED: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class _Form:
    """A form's text fields, as often as they stand, and its files."""

    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[Attachment, ...] = ()

    def last(self, name: str) -> str:
        """Return the last value of a field that is to stand once, or an empty text if there is none."""
        return next((value for key, value in reversed(self.fields) if key == name), "")

    def all(self, name: str) -> list[str]:
        """Return the values of a field that may stand several times, without empty ones."""
        return [value for key, value in self.fields if key == name and value]


class Creation:
    """The creation of messages in one storage, 8 at once; the others wait.

    Methods raise `Refused` if the provider would not take the message, and `StoreError` if the disk fails; then nothing
    is kept. `now` is Unix time in seconds.
    """

    def __init__(self, storage: Storage, fetcher: Fetcher) -> None:
        self._storage = storage
        self._fetcher = fetcher
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def from_form(self, request: web.Request, now: float) -> Message:
        """Create the message that a request's form asks for."""
        async with self._turn:
            form = await _read_form(request)
            to, sender, service = (form.last(name).strip() for name in ("To", "From", "MessagingServiceSid"))
            body = form.last("Body")
            if not to:
                raise Refused(Refusal.NO_TO)
            if not (sender or service):
                raise Refused(Refusal.NO_FROM)
            media: list[Attachment | URL] = [*form.files, *map(media_url, form.all("MediaUrl"))]
            if not (body or media):
                raise Refused(Refusal.NO_CONTENT)
            draft = Draft(sender, to, body, Direction.OUTBOUND_API, int(now), messaging_service_sid=service or None)
            return await self._add(draft, media)

    async def inbound(self, from_: str, to: str, body: str, media: Sequence[Attachment | URL], now: float) -> Message:
        """Create a message as if it came in now, its media given as they are or by address."""
        async with self._turn:
            return await self._add(Draft(from_, to, body, Direction.INBOUND, int(now)), media)

    async def _add(self, draft: Draft, media: Sequence[Attachment | URL]) -> Message:
        if len(draft.body) > _BODY_LIMIT:
            raise Refused(Refusal.BODY_TOO_LONG)
        if len(media) > MEDIA_LIMIT:
            raise Refused(Refusal.TOO_MANY_MEDIA)
        allowance = MEDIA_BYTES - sum(len(one.octets) for one in media if isinstance(one, Attachment))
        if allowance < 0:
            raise Refused(Refusal.TOO_LARGE)
        attachments: list[Attachment] = []
        for one in media:
            if isinstance(one, Attachment):
                attachments.append(one)
            else:
                attachments.append(await self._fetcher.fetch(one, allowance))
                allowance -= len(attachments[-1].octets)
        return await self._storage.add(dataclasses.replace(draft, media=tuple(attachments)))


async def _read_form(request: web.Request) -> _Form:
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            match request.content_type:
                case "application/x-www-form-urlencoded":
                    text = (await _read_body(request)).decode("utf-8", "replace")
                    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELD_LIMIT, errors="replace")
                    return _Form(tuple(pairs))
                case "multipart/form-data":
                    return await _read_parts(await request.multipart())
                case _:
                    return _Form()
    except (ValueError, TimeoutError, web.RequestPayloadError) as error:
        raise Refused(Refusal.BAD_FORM) from error


async def _read_body(request: web.Request) -> bytes:
    octets = bytearray()
    async for chunk in request.content.iter_chunked(_STEP):
        octets += chunk
        if len(octets) > _FORM_BYTES:
            raise Refused(Refusal.BAD_FORM)
    return bytes(octets)


async def _read_parts(reader: MultipartReader) -> _Form:
    fields: list[tuple[str, str]] = []
    files: list[Attachment] = []
    text_left, media_left = _FORM_BYTES, MEDIA_BYTES
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or len(fields) >= _FIELD_LIMIT:
            raise Refused(Refusal.BAD_FORM)
        if part.name == "Media":
            if len(files) >= MEDIA_LIMIT:
                raise Refused(Refusal.TOO_MANY_MEDIA)
            octets = await _read_part(part, media_left, Refusal.TOO_LARGE)
            media_left -= len(octets)
            kind = content_type(part.headers.get("Content-Type", _UNTYPED))
            files.append(Attachment(kind, part.filename or "media", octets))
        else:
            octets = await _read_part(part, text_left, Refusal.BAD_FORM)
            text_left -= len(octets)
            fields.append((part.name or "", octets.decode("utf-8", "replace")))
    return _Form(tuple(fields), tuple(files))


async def _read_part(part: BodyPartReader, limit: int, refusal: Refusal) -> bytes:
    octets = bytearray()
    while chunk := await part.read_chunk(_STEP):
        octets += chunk
        if len(octets) > limit:
            raise Refused(refusal)
    return bytes(octets)
