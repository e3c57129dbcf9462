"""Bytes on their way out, as conditions and a range ask for them and as faults spoil them."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate

from aiohttp import web

from proxy.errors import StoreError
from proxy.sandbox.conditions import Selection, parse_date, select
from proxy.sandbox.documents import storage_error
from proxy.sandbox.fault_board import FaultRule
from proxy.sandbox.faults import (
    Disconnect,
    Fault,
    Headers,
    Overrun,
    Oversize,
    Point,
    Raw,
    StallBody,
    StallHeaders,
    Status,
    Truncate,
    Unlengthed,
)
from proxy.sandbox.messages import Media
from proxy.sandbox.state import State, answer, dress_also, dressed
from proxy.sandbox.storage import MediaFile


class Abandoned(ConnectionError):
    """A connection that was closed on purpose; the server has nothing more to say on it."""


def abandon(request: web.Request, last_words: bytes = b"") -> Abandoned:
    """Close the connection once what was written has gone out, and return the error to be raised."""
    transport = request.transport
    if transport is not None:
        if last_words:
            transport.write(last_words)
        transport.close()
    return Abandoned()


class Failing(Exception):
    """An error that a fault asks for, to be put in the origin's own form."""

    def __init__(self, status: Status) -> None:
        super().__init__()
        self.status = status


async def meet(request: web.Request, state: State, point: Point, media_sid: str | None) -> FaultRule | None:
    """Carry out the faults that can befall any answer, and return the rule that spoils the body of this one.

    Changes of header fields are noted with the request. Raises `Failing`, or `Abandoned` if there is to be no answer.
    """
    met = state.faults.take(point, media_sid, state.now())
    dress_also(request, *met.dressing)
    if met.rule is None:
        return None
    match met.rule.fault:
        case Status() as status:
            raise Failing(status)
        case Disconnect():
            raise abandon(request)
        case Raw(octets):
            raise abandon(request, octets)
        case StallHeaders():
            await met.rule.stall(state.options.stall_limit)
    return met.rule


async def send_media(request: web.Request, state: State, media: Media) -> web.StreamResponse:
    """Answer a GET or HEAD with a media, as its conditions and range ask and as a fault spoils it.

    Raises `Failing`, `Abandoned` if the connection was closed before the end, and `StoreError` if the media's file
    cannot be read.
    """
    rule = await meet(request, state, Point.BYTES, media.sid)
    fault = rule.fault if rule else None
    headers = {
        "ETag": media.etag,
        "Last-Modified": formatdate(media.date_created, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": media.content_type,
    }
    size = media.length
    if isinstance(fault, Oversize):
        size = fault.size
        selection = Selection(200, range(size))
    else:
        modified = parse_date(dressed(request, "Last-Modified", headers["Last-Modified"]))
        selection = select(request.headers, dressed(request, "ETag", media.etag), modified, size)
    match selection.status:
        case 304:
            return web.Response(status=304, headers={name: headers[name] for name in ("ETag", "Last-Modified")})
        case 412:
            return _refusal(412, "PreconditionFailed", "At least one of the preconditions did not hold.")
        case 416:
            headers = {"Content-Range": f"bytes */{size}"}
            return _refusal(416, "InvalidRange", "The requested range is not satisfiable.", headers)
        case 206:
            headers["Content-Range"] = f"bytes {selection.octets[0]}-{selection.octets[-1]}/{size}"
    response = web.StreamResponse(status=selection.status, headers=headers)
    return await _send(request, response, state, media, rule, selection.octets)


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return answer(storage_error(code, message), status, headers)


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    state: State,
    media: Media,
    rule: FaultRule | None,
    octets: range,
) -> web.StreamResponse:
    fault = rule.fault if rule else None
    start, stop = octets.start, octets.stop
    _frame(request, response, fault, stop - start)
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    async with state.storage.reading(media) as file:
        # The file is open, so an error of the disk still finds the answer unsent.
        await response.prepare(request)
        try:
            match fault:
                case StallBody(after):
                    pause = min(start + after, stop)
                    await _write(response, file, start, pause)
                    assert rule is not None
                    await rule.stall(state.options.stall_limit)
                    await _write(response, file, pause, stop)
                case Truncate(after):
                    await _write(response, file, start, min(start + after, stop))
                    raise abandon(request)
                case Overrun(extra):
                    await _write(response, file, start, stop)
                    raise abandon(request, b"!" * extra)
                case _:
                    await _write(response, file, start, stop)
        except StoreError as error:
            raise abandon(request) from error
    await response.write_eof()
    return response


def _frame(request: web.Request, response: web.StreamResponse, fault: Fault | None, length: int) -> None:
    """Announce the body as the fault wants it (RFC 9112 §6)."""
    match fault:
        case Oversize(announced=False) | Unlengthed(chunked=True):
            response.enable_chunked_encoding()
        case Unlengthed():
            # The server frames by the length and does not tell the client: only the close ends the body.
            response.content_length = length
            response.force_close()
            dress_also(request, Headers(drop=("Content-Length",)))
        case _:
            response.content_length = length


async def _write(response: web.StreamResponse, body: MediaFile, start: int, stop: int) -> None:
    while start < stop:
        block = await body.read(start, stop - start)
        await response.write(block)
        start += len(block)
