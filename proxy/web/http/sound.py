"""Rules for every request, whatever route it takes: its host is one, and its body is not too large."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web

from proxy.errors import BadRequest, ContentTooLarge, GatewayError
from proxy.semantics.hosts import is_host
from proxy.web.context import GATEWAY
from proxy.web.http.problems import problem
from proxy.web.http.request_target import authority


def require_sound(request: web.Request) -> None:
    """Raise `BadRequest` where the request's host is not one, and `ContentTooLarge` where its body will be too large.

    The body is not waited for. One of unsaid length is measured as it is read.
    """
    named = authority(request.raw_path)
    if not all(map(is_host, request.headers.getall("Host", ()))) or not (named is None or is_host(named)):
        raise BadRequest("The host of the request is not a host.")
    if _announces_too_much(request):
        raise ContentTooLarge(f"At most {request.app[GATEWAY].body_bytes} bytes are read.")


def _announces_too_much(request: web.Request) -> bool:
    return (request.content_length or 0) > request.app[GATEWAY].body_bytes


async def expect(request: web.Request) -> None:
    """Answer `Expect: 100-continue` (RFC 9110 §10.1.1), but where the body is not wanted: its refusal follows.

    Raises `HTTPExpectationFailed` for another expectation.
    """
    if request.version < HttpVersion11 or _announces_too_much(request):
        return
    if request.headers["Expect"].lower() != "100-continue":
        raise web.HTTPExpectationFailed
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # No byte of the answer has gone out yet.
    request.writer.output_size = 0


@web.middleware
async def sound_alone(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Require the same where nothing else is done for a request, and answer errors."""
    try:
        require_sound(request)
        return await handler(request)
    except GatewayError as error:
        return problem(error, secrets.token_hex(16))
