"""Delivery of a granted media: open it, decide what the conditions and ranges ask for, and send that."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, assert_never

from aiohttp import HttpVersion11, web

from proxy.cache.body import BLOCK, Body, FileBody
from proxy.cache.counters import OUTCOMES
from proxy.cache.result import CacheResult
from proxy.erasure import BlockKind
from proxy.errors import MediaNotFound, PreconditionRefused, RangeRefused, StoreError, UpstreamError
from proxy.model import Clock
from proxy.semantics import conditional, ranges
from proxy.semantics.conditional import NotModified, PreconditionFailed, Proceed
from proxy.semantics.disposition import lacks_charset
from proxy.semantics.fields import Fields
from proxy.semantics.ranges import Multipart, Multiple, Single, Unsatisfiable, Whole
from proxy.web.exchange import EXCHANGE, ServerTiming
from proxy.web.http.sending import begin, finish, write
from proxy.web.media.headers import AnswerFields, Grant
from proxy.web.services.gateway import GATEWAY

_log: Final = logging.getLogger("media_gateway.web")
_SLOW_BLOCK: Final = 65_536
"""Bytes read at a time for a client that let a block wait for `_SLOW_SECONDS`: that much of its answer is in RAM."""
_SLOW_SECONDS: Final = 0.05
_BUFFERED: Final = BLOCK
"""Bytes of the longest body that goes out with its head in one write, if it comes soon."""
_SOON_SECONDS: Final = 0.1
"""Time for which the first bytes of such a body are held back for the last ones."""

Headers = Callable[[], dict[str, str]]
"""A maker of an answer's fields, as they are at the moment of the call."""


class SendFile(Protocol):
    """A sender of stored files past this process's memory, which the server provides if it can."""

    async def __call__(
        self, request: web.Request, status: int, headers: Headers, body: FileBody, first: int, size: int
    ) -> web.StreamResponse | None:
        """Answer with `size` bytes, at least one, from `first`; return None if the answer has to go the ordinary way.

        Raises `StoreError` if the file cannot be read, and `ClientGone`.
        """
        ...


FILE_SENDER: Final[web.AppKey[SendFile]] = web.AppKey("file_sender")


async def deliver(
    request: web.Request, grant: Grant, timing: ServerTiming | None = None, block_kinds: BlockKind | None = None
) -> web.StreamResponse:
    """Answer a `GET` or `HEAD` with the granted media; `block_kinds`: as in `Engine.open`.

    Raises the errors of preconditions, ranges and the upstream in `proxy.errors`.
    """
    gateway = request.app[GATEWAY]
    media, engine = gateway.media, gateway.media.engine
    if grant.ref.account not in media.accounts:
        raise MediaNotFound
    known, fields = request[EXCHANGE], Fields(tuple(request.headers.items()))
    young = media.young_messages.meet(grant.ref)
    attempt = 1
    while True:
        opening = engine.open(grant.ref, fields, young=young, attempt=attempt, block_kinds=block_kinds)
        async with opening as opened:
            # A later attempt has to ask again.
            block_kinds = None
            if timing is not None:
                timing.mark("open")
                known.timing = timing
            known.cache = OUTCOMES[opened.counter]
            known.reused = opened.representation if opened.status.hit else None
            try:
                return await _answer(request, fields, gateway.clock, grant, opened)
            except (UpstreamError, StoreError) as error:
                following = engine.next_attempt(opened, error)
                if following is None or known.answer is not None:
                    raise
                attempt = following
                if isinstance(error, StoreError):
                    # A stored body that cannot be read costs a read at the upstream, but not the answer.
                    _log.warning("A stored body could not be read and is dropped: %s", error.note)
                    await engine.drop(grant.ref, opened.representation.generation)


async def _answer(
    request: web.Request, fields: Fields, clock: Clock, grant: Grant, opened: CacheResult
) -> web.StreamResponse:
    soon = _loop_time() + _SOON_SECONDS
    if lacks_charset(opened.representation.metadata.fields.single("Content-Type")):
        await _come_whole(opened.body, opened.representation.length, soon)
    answer_fields = AnswerFields(grant, opened, clock)
    selected, now = answer_fields.selected, clock()
    match conditional.evaluate(request.method, fields, selected, now):
        case NotModified():
            return web.Response(status=304, headers=answer_fields.not_modified())
        case PreconditionFailed():
            raise PreconditionRefused
        case Proceed():
            pass
        case _ as never:
            assert_never(never)
    length = await _length(request, opened, soon)
    resolution = ranges.resolve(request.method, fields, length, selected, now)
    match resolution:
        case Whole():
            return await _send(request, partial(answer_fields.whole, length), 200, opened.body, 0, length, soon)
        case Single():
            assert length is not None
            if opened.in_order:
                await _pass_over(opened.body, resolution.first)
            part = partial(answer_fields.part, resolution, length)
            return await _send(request, part, 206, opened.body, resolution.first, resolution.size, soon)
        case Multiple() if opened.in_order:
            # A Range may be ignored (RFC 9110 §14.2), and these parts may lie in any order.
            return await _send(request, partial(answer_fields.whole, length), 200, opened.body, 0, length, soon)
        case Multiple():
            assert length is not None
            framed = ranges.multipart(resolution.parts, length, answer_fields.content_type, secrets.token_hex(16))
            return await _send_parts(request, partial(answer_fields.parts, framed), opened.body, framed)
        case Unsatisfiable():
            assert length is not None
            raise RangeRefused(ranges.unsatisfied_range(length))
        case _:
            assert_never(resolution)


async def _length(request: web.Request, opened: CacheResult, soon: float) -> int | None:
    """Return the length of the representation in bytes; None if it is not known soon and not needed."""
    length = opened.representation.length
    if length is not None:
        return length
    measured = request.method == "GET" and ("Range" in request.headers or request.version < HttpVersion11)
    # A suffix range and Content-Range need the length. A client of HTTP/1.0 could not tell the end of an answer without
    # a length from a cut.
    if (measured and not opened.in_order) or await _come_whole(opened.body, None, soon):
        return await opened.body.measure()
    return None


async def _send(
    request: web.Request, headers: Headers, status: int, body: Body, first: int, size: int | None, soon: float
) -> web.StreamResponse:
    """Send `size` bytes from `first`; None sends all of a body whose length is not known.

    A short body is held back for its end until the loop's time is `soon`.
    """
    if request.method == "HEAD":
        return await _send_head(request, headers(), status)
    if size and isinstance(body, FileBody) and (sender := request.app.get(FILE_SENDER)) is not None:
        sent = await sender(request, status, headers, body, first, size)
        if sent is not None:
            return sent
    if size is not None and size <= _BUFFERED and await body.come(first + size, soon - _loop_time()):
        content = await _read_all(body, first, size)
        return web.Response(status=status, headers=headers(), body=content)
    if size is not None:
        body.expect(first, first + size)
    # The first bytes are read before the head goes out: a fill that fails before them can still be answered.
    ahead = await _read_block(body, first, size)
    response = web.StreamResponse(status=status, headers=headers())
    await begin(request, response)
    sending = _send_run(request, response, body, first, size, ahead)
    # Otherwise a slow client would keep the first block in RAM until it has the last one.
    del ahead
    await sending
    await finish(response)
    return response


async def _send_parts(request: web.Request, headers: Headers, body: Body, framed: Multipart) -> web.StreamResponse:
    body.expect(framed.parts[0].span.first, framed.parts[0].span.first + framed.parts[0].span.size)
    ahead = await _read_block(body, framed.parts[0].span.first, framed.parts[0].span.size)
    response = web.StreamResponse(status=206, headers=headers())
    await begin(request, response)
    for part in framed.parts:
        await _write(request, response, part.head)
        body.expect(part.span.first, part.span.first + part.span.size)
        sending = _send_run(request, response, body, part.span.first, part.span.size, ahead)
        ahead = b""
        await sending
    await _write(request, response, framed.tail)
    await finish(response)
    return response


async def _send_run(
    request: web.Request,
    response: web.StreamResponse,
    body: Body,
    offset: int,
    size: int | None,
    ahead: bytes | memoryview,
) -> None:
    """Send `size` bytes from `offset`, or all; `ahead` holds the first of them if they have been read already."""
    block, left, most = ahead, size, BLOCK
    del ahead
    clock = asyncio.get_running_loop().time
    while left is None or left > 0:
        block = block or await _read_block(body, offset, left, most)
        if not block:
            return
        began = clock()
        await _write(request, response, block)
        most = BLOCK if clock() - began < _SLOW_SECONDS else _SLOW_BLOCK
        offset += len(block)
        left = None if left is None else left - len(block)
        block = b""


async def _come_whole(body: Body, length: int | None, soon: float) -> bool:
    """Wait for a short body until the loop's time is `soon`; return whether it has come whole."""
    if not body.whole and (length is None or length <= _BUFFERED):
        await body.come(_BUFFERED + 1, soon - _loop_time())
    return body.whole


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


async def _write(request: web.Request, response: web.StreamResponse, block: bytes | memoryview) -> None:
    await write(response, block)
    request[EXCHANGE].sent += len(block)


async def _read_block(body: Body, offset: int, left: int | None, most: int = BLOCK) -> bytes | memoryview:
    """Read at most `most` of the `left` bytes. None says that the end is not known: only then may no byte be left."""
    block = await body.read(offset, most if left is None else min(most, left))
    if left and not block:
        raise StoreError(note="a stored body is shorter than its entry says")
    return block


async def _pass_over(body: Body, size: int) -> None:
    """Read and drop the first `size` bytes of a body that is read in order, so that the next ones can come."""
    offset = 0
    while offset < size:
        offset += len(await _read_block(body, offset, size - offset))


async def _read_all(body: Body, first: int, size: int) -> bytes:
    blocks: list[bytes | memoryview] = []
    offset, end = first, first + size
    while offset < end:
        block = await _read_block(body, offset, end - offset)
        blocks.append(block)
        offset += len(block)
    only = blocks[0] if len(blocks) == 1 else None
    return only if isinstance(only, bytes) else b"".join(blocks)


async def _send_head(request: web.Request, headers: dict[str, str], status: int) -> web.StreamResponse:
    """Send a head alone: `web.Response` would put its own length in place of the representation's."""
    response = web.StreamResponse(status=status, headers=headers)
    await begin(request, response)
    await finish(response)
    return response
