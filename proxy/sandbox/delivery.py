"""Bytes on their way out: conditions, ranges and the faults that spoil a body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from aiohttp import web

from proxy.sandbox.conditions import NotModified, Part, PreconditionFailed, Selection, Unsatisfiable, Whole, select
from proxy.sandbox.fault_board import FaultRule
from proxy.sandbox.faults import (
    Disconnect,
    Fault,
    Headers,
    Overrun,
    Oversize,
    Raw,
    StallBody,
    StallHeaders,
    Status,
    Truncate,
    Unlengthed,
)
from proxy.sandbox.serialising import storage_error
from proxy.sandbox.state import answer, dress_also, dressed
from proxy.sandbox.storage import Body, Media
from proxy.semantics.fields import Fields, format_date, parse_date

_STEP: Final = 65_536


class Abandoned(ConnectionError):
    """The connection was closed on purpose; the server has nothing more to say on it."""


def abandon(request: web.Request, last_words: bytes = b"") -> Abandoned:
    """Close the connection once what was written has gone out. To be raised."""
    transport = request.transport
    if transport is not None:
        if last_words:
            transport.write(last_words)
        transport.close()
    return Abandoned()


async def before_answer(request: web.Request, rule: FaultRule | None, stall_limit: float) -> Status | None:
    """Carry out the faults that can befall any answer; an error to be put in the origin's own form is returned.

    Raises `Abandoned` where there is to be no answer.
    """
    if rule is None:
        return None
    match rule.fault:
        case Status() as status:
            return status
        case Disconnect():
            raise abandon(request)
        case Raw(octets):
            raise abandon(request, octets)
        case StallHeaders():
            await rule.stall(stall_limit)
    return None


@dataclass(frozen=True, slots=True)
class _Repeated:
    """Octets again and again, up to a size."""

    unit: bytes
    size: int
    sha256: str

    @classmethod
    def of(cls, body: Body, size: int) -> _Repeated:
        octets = body.read() or b"\0"
        return cls(octets * (_STEP // len(octets) + 1), size, body.sha256)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        end = self.size if stop is None else min(stop, self.size)
        parts: list[bytes] = []
        while start < end:
            offset = start % len(self.unit)
            parts.append(self.unit[offset : offset + end - start])
            start += len(parts[-1])
        return b"".join(parts)


async def send_media(
    request: web.Request, media: Media, rule: FaultRule | None, now: float, stall_limit: float
) -> web.StreamResponse:
    """Answer a GET or HEAD with a media, as its conditions and range ask and as `rule` spoils it.

    Raises `Abandoned` where the connection was closed within the body.
    """
    fault = rule.fault if rule else None
    body: Body = media.body
    headers = {
        "ETag": media.etag,
        "Last-Modified": format_date(media.date_created),
        "Accept-Ranges": "bytes",
        "Content-Type": media.content_type,
    }
    selection: Selection
    if isinstance(fault, Oversize):
        body, selection = _Repeated.of(media.body, fault.size), Whole()
    else:
        fields = Fields.of(request.headers.items())
        modified = dressed(request, "Last-Modified", headers["Last-Modified"])
        last_modified = parse_date(modified, now) if modified else None
        selection = select(fields, dressed(request, "ETag", media.etag), last_modified, body.size, now)
    match selection:
        case Whole():
            return await _stream(request, web.StreamResponse(headers=headers), body, (0, body.size), rule, stall_limit)
        case Part(first, last):
            headers["Content-Range"] = f"bytes {first}-{last}/{body.size}"
            response = web.StreamResponse(status=206, headers=headers)
            return await _stream(request, response, body, (first, last + 1), rule, stall_limit)
        case NotModified():
            return web.Response(status=304, headers={name: headers[name] for name in ("ETag", "Last-Modified")})
        case PreconditionFailed():
            return _refusal(412, "PreconditionFailed", "At least one of the preconditions did not hold.")
        case Unsatisfiable():
            return _refusal(
                416,
                "InvalidRange",
                "The requested range is not satisfiable.",
                {"Content-Range": f"bytes */{body.size}"},
            )
        case _:
            assert_never(selection)


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return answer(storage_error(code, message), status, headers)


async def _stream(
    request: web.Request,
    response: web.StreamResponse,
    body: Body,
    span: tuple[int, int],
    rule: FaultRule | None,
    stall_limit: float,
) -> web.StreamResponse:
    start, stop = span
    fault = rule.fault if rule else None
    _frame(request, response, fault, stop - start)
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    await response.prepare(request)
    match fault:
        case StallBody(after):
            pause = min(start + after, stop)
            await _write(response, body, start, pause)
            assert rule is not None
            await rule.stall(stall_limit)
            await _write(response, body, pause, stop)
        case Truncate(after):
            await _write(response, body, start, min(start + after, stop))
            raise abandon(request)
        case Overrun(extra):
            await _write(response, body, start, stop)
            raise abandon(request, b"!" * extra)
        case _:
            await _write(response, body, start, stop)
    await response.write_eof()
    return response


def _frame(request: web.Request, response: web.StreamResponse, fault: Fault | None, length: int) -> None:
    """Announce the body as the fault wants it (RFC 9112 §6)."""
    match fault:
        case Oversize(announced=False) | Unlengthed(chunked=True):
            response.enable_chunked_encoding()
        case Unlengthed():
            # The server frames by the length that it knows, and the client is not told: only the close ends the body.
            response.content_length = length
            response.force_close()
            dress_also(request, Headers(drop=("Content-Length",)))
        case _:
            response.content_length = length


async def _write(response: web.StreamResponse, body: Body, start: int, stop: int) -> None:
    for position in range(start, stop, _STEP):
        await response.write(body.read(position, min(position + _STEP, stop)))
