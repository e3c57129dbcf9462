"""Rules that every request has to meet, whatever its path: its host is valid, and its body is not too large."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web

from proxy.errors import BadRequest, ContentTooLarge, GatewayError
from proxy.semantics.hosts import is_host
from proxy.web.http.problems import problem
from proxy.web.http.request_target import authority
from proxy.web.services.gateway import GATEWAY


def require_admissible(request: web.Request) -> None:
    """Raise `BadRequest` if the request names an invalid host, and `ContentTooLarge` if its body will be too large.

    The body is not waited for. A body that does not announce its length is measured while it is read.
    """
    named = authority(request.raw_path)
    if not all(map(is_host, request.headers.getall("Host", ()))) or not (named is None or is_host(named)):
        raise BadRequest("The request does not name a valid host.")
    if _announces_too_much(request):
        raise ContentTooLarge(f"The body may have at most {_body_bytes(request)} bytes.")


def _announces_too_much(request: web.Request) -> bool:
    return (request.content_length or 0) > _body_bytes(request)


def _body_bytes(request: web.Request) -> int:
    return request.app[GATEWAY].requests.body_bytes


async def answer_expectation(request: web.Request) -> None:
    """Answer `Expect: 100-continue` (RFC 9110 §10.1.1), unless the body is too large: its refusal follows.

    Raises `HTTPExpectationFailed` for any other expectation.
    """
    if request.version < HttpVersion11 or _announces_too_much(request):
        return
    if request.headers["Expect"].lower() != "100-continue":
        raise web.HTTPExpectationFailed
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # No byte of the answer has gone out yet.
    request.writer.output_size = 0


@web.middleware
async def admission(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Run a handler after these checks alone, and answer its errors."""
    try:
        require_admissible(request)
        return await handler(request)
    except GatewayError as error:
        return problem(error, secrets.token_hex(16))
