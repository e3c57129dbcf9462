"""`GET` and `HEAD` of a signed link: verify, open, decide what to send, send it."""

from __future__ import annotations

import secrets
from typing import Final, assert_never

from aiohttp import HttpVersion11, web

from proxy.cache.body import BLOCK, Body
from proxy.cache.engine import Opened
from proxy.errors import (
    GatewayError,
    LinkClaimUnmet,
    LinkError,
    LinkExpired,
    MediaNotFound,
    MethodNotAllowed,
    PreconditionRefused,
    RangeRefused,
    StoreError,
    TooManyRequests,
    UpstreamError,
)
from proxy.links import VerifiedLink, verify
from proxy.semantics import conditional, ranges
from proxy.semantics.conditional import NotModified, PreconditionFailed, Proceed
from proxy.semantics.fields import Fields
from proxy.semantics.ranges import Multipart, Multiple, Single, Unsatisfiable, Whole
from proxy.web.context import EXCHANGE, GATEWAY, Gateway
from proxy.web.headers import Answering
from proxy.web.middleware import Aborted

METHODS: Final = ("GET", "HEAD", "OPTIONS")
_BUFFERED: Final = BLOCK
"""A body of at most this many bytes goes out with its head in one write."""


async def deliver(request: web.Request) -> web.StreamResponse:
    """The media that a signed link opens.

    Raises what `proxy.errors` has for links, preconditions, ranges and the upstream.
    """
    if request.method == "OPTIONS":
        return web.Response(status=204, headers={"Allow": ", ".join(METHODS)})
    if request.method not in METHODS:
        raise MethodNotAllowed(METHODS)
    gateway = request.app[GATEWAY]
    link = _verified(request, gateway)
    if gateway.accounts.get(link.ref.account) is None:
        raise MediaNotFound
    fields = Fields(tuple((name, value) for name, value in request.headers.items()))
    fresh = gateway.newcomers.is_fresh(link.ref.parent)
    attempt = 1
    while True:
        async with gateway.engine.open(link.ref, fields, fresh=fresh, attempt=attempt) as opened:
            try:
                return await _answer(request, fields, gateway, link, opened)
            except (UpstreamError, StoreError) as error:
                # Nothing has gone out yet, or the connection would have been cut.
                following = gateway.engine.next_attempt(opened, error)
                if following is None:
                    raise
                attempt = following


def _verified(request: web.Request, gateway: Gateway) -> VerifiedLink:
    known = request[EXCHANGE]
    try:
        return verify(
            request.raw_path,
            keys=gateway.keys,
            policy=gateway.policy,
            now=gateway.clock(),
            client=known.client,
            mount=gateway.mount,
        )
    except (LinkExpired, LinkClaimUnmet):
        raise
    except LinkError:
        # Only what bears no good signature counts against its sender.
        wait = gateway.bad_links.fail(str(known.client))
        if wait:
            raise TooManyRequests("Too many links with bad signatures.", retry_after=wait) from None
        raise


async def _answer(
    request: web.Request, fields: Fields, gateway: Gateway, link: VerifiedLink, opened: Opened
) -> web.StreamResponse:
    now = gateway.clock()
    answering = Answering(link, opened, now, shared_caches=gateway.shared_caches)
    selected = answering.selected
    match conditional.evaluate(request.method, fields, selected, now):
        case NotModified():
            return web.Response(status=304, headers=answering.not_modified())
        case PreconditionFailed():
            raise PreconditionRefused
        case Proceed():
            pass
        case _ as never:
            assert_never(never)
    length = opened.representation.length
    measured = request.method == "GET" and ("Range" in fields or request.version < HttpVersion11)
    if length is None and measured and not opened.in_order:
        # Neither a suffix nor Content-Range can be said before the end is known, and to a client of HTTP/1.0 an
        # answer without a length would end like one that was cut off.
        length = await opened.body.measure()
    resolution = ranges.resolve(request.method, fields, length, selected, now)
    match resolution:
        case Whole():
            return await _send(request, answering.whole(length), 200, opened.body, 0, length)
        case Single():
            assert length is not None
            headers = answering.part(resolution, length)
            return await _send(request, headers, 206, opened.body, resolution.first, resolution.size)
        case Multiple() if opened.in_order:
            # A Range may be ignored (RFC 9110 §14.2), and these parts may lie in any order.
            return await _send(request, answering.whole(length), 200, opened.body, 0, length)
        case Multiple():
            assert length is not None
            framed = ranges.multipart(resolution.parts, length, answering.content_type, secrets.token_hex(16))
            return await _send_parts(request, answering.parts(framed), opened.body, framed)
        case Unsatisfiable():
            assert length is not None
            raise RangeRefused(ranges.unsatisfied_range(length))
        case _:
            assert_never(resolution)


async def _send(
    request: web.Request, headers: dict[str, str], status: int, body: Body, first: int, size: int | None
) -> web.StreamResponse:
    """One run of bytes from `first`; `size` None is all of a body whose length is not known."""
    if request.method == "HEAD":
        return await _send_head(request, headers, status)
    if size is not None and size <= _BUFFERED:
        return web.Response(status=status, headers=headers, body=await _read_all(body, first, size))
    # The first bytes are read before the head goes out: a fill that fails before them can still be answered.
    block = await body.read(first, BLOCK if size is None else min(BLOCK, size))
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    if block:
        await response.write(block)
        await _send_run(request, response, body, first + len(block), None if size is None else size - len(block))
    await response.write_eof()
    return response


async def _send_parts(
    request: web.Request, headers: dict[str, str], body: Body, framed: Multipart
) -> web.StreamResponse:
    response = web.StreamResponse(status=206, headers=headers)
    await response.prepare(request)
    for part in framed.parts:
        await response.write(part.head)
        await _send_run(request, response, body, part.span.first, part.span.size)
    await response.write(framed.tail)
    await response.write_eof()
    return response


async def _send_run(
    request: web.Request, response: web.StreamResponse, body: Body, offset: int, size: int | None
) -> None:
    """Send `size` bytes, or all there are; a failure cuts the connection, so that a part is not taken for the whole."""
    left = size
    while left is None or left > 0:
        try:
            block = await body.read(offset, BLOCK if left is None else min(BLOCK, left))
        except GatewayError as error:
            raise _cut(request, error.kind) from error
        if not block:
            if left is None:
                return
            raise _cut(request, "the stored body is shorter than its entry says")
        await response.write(block)
        offset += len(block)
        left = None if left is None else left - len(block)


def _cut(request: web.Request, reason: str) -> Aborted:
    if request.transport is not None:
        request.transport.abort()
    return Aborted(reason)


async def _read_all(body: Body, first: int, size: int) -> bytes:
    blocks: list[bytes] = []
    offset, end = first, first + size
    while offset < end:
        block = await body.read(offset, end - offset)
        if not block:
            raise StoreError(note="a stored body is shorter than its entry says")
        blocks.append(block)
        offset += len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


async def _send_head(request: web.Request, headers: dict[str, str], status: int) -> web.StreamResponse:
    """A head alone: `web.Response` would put its own length in place of the representation's."""
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    await response.write_eof()
    return response
