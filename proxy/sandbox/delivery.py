"""Bytes on their way out, as conditions and a range ask for them and as faults spoil them."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from typing import assert_never

from aiohttp import web

from proxy.errors import StoreError
from proxy.sandbox.conditions import (
    NotModified,
    Part,
    PreconditionFailed,
    Selection,
    Unsatisfiable,
    Whole,
    parse_date,
    select,
)
from proxy.sandbox.documents import storage_error
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


async def before_answer(request: web.Request, rule: FaultRule | None, stall_limit: float) -> Status | None:
    """Carry out the faults that can befall any answer, and return an error that the origin is to put in its own form.

    Raises `Abandoned` if there is to be no answer. A stall ends after `stall_limit` seconds.
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


async def send_media(request: web.Request, state: State, media: Media, rule: FaultRule | None) -> web.StreamResponse:
    """Answer a GET or HEAD with a media, as its conditions and range ask and as `rule` spoils it.

    Raises `Abandoned` if the connection was closed within the body, `StoreError` if the media's file cannot be read.
    """
    fault = rule.fault if rule else None
    headers = {
        "ETag": media.etag,
        "Last-Modified": formatdate(media.date_created, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": media.content_type,
    }
    size = media.length
    selection: Selection
    if isinstance(fault, Oversize):
        size, selection = fault.size, Whole()
    else:
        modified = parse_date(dressed(request, "Last-Modified", headers["Last-Modified"]))
        selection = select(request.headers, dressed(request, "ETag", media.etag), modified, size)
    match selection:
        case Whole():
            return await _send(request, web.StreamResponse(headers=headers), state, media, rule, 0, size)
        case Part(first, last):
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            response = web.StreamResponse(status=206, headers=headers)
            return await _send(request, response, state, media, rule, first, last + 1)
        case NotModified():
            return web.Response(status=304, headers={name: headers[name] for name in ("ETag", "Last-Modified")})
        case PreconditionFailed():
            return _refusal(412, "PreconditionFailed", "At least one of the preconditions did not hold.")
        case Unsatisfiable():
            return _refusal(
                416,
                "InvalidRange",
                "The requested range is not satisfiable.",
                {"Content-Range": f"bytes */{size}"},
            )
        case _:
            assert_never(selection)


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return answer(storage_error(code, message), status, headers)


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    state: State,
    media: Media,
    rule: FaultRule | None,
    start: int,
    stop: int,
) -> web.StreamResponse:
    fault = rule.fault if rule else None
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
            # The server frames by the length, of which the client is not told: only the close ends the body.
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
