"""What every request goes through: an id, the client's address, the log line, and errors made into answers."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final

from aiohttp import web

from proxy.errors import (
    BadRequest,
    ContentTooLarge,
    GatewayError,
    MethodNotAllowed,
    NotFound,
    UpstreamError,
)
from proxy.semantics.forwarding import client_address
from proxy.telemetry.access import Access, log_access
from proxy.web.context import EXCHANGE, GATEWAY, Address, Exchange
from proxy.web.cors import allow
from proxy.web.problems import problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log: Final = logging.getLogger("media_gateway.web")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_SERVER: Final = "media-gateway"


class Aborted(ConnectionResetError):
    """The connection was cut on purpose, so that a part is not taken for the whole; aiohttp lets it pass in silence."""


@web.middleware
async def exchange(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run the handler, answer its errors, write the log line."""
    began = time.perf_counter()
    known = request[EXCHANGE] = _meet(request)
    response: web.StreamResponse | None = None
    kind: str | None = None
    try:
        response = await handler(request)
    except Aborted:
        known.aborted = True
        raise
    except (GatewayError, web.HTTPException) as raised:
        error = _translated(raised)
        if isinstance(error, UpstreamError) and error.note:
            _log.warning("%s: %s", error.kind, error.note)
        kind = error.kind
        response = problem(error, known.request_id)
    except ConnectionResetError:
        known.aborted = True
        raise
    except Exception:
        # A fault of ours: the whole of it to the log, nothing of it to the client.
        _log.exception("A request failed")
        error = GatewayError("The request could not be answered.")
        kind = error.kind
        response = problem(error, known.request_id)
    finally:
        log_access(_access(request, known, response, kind, time.perf_counter() - began))
    return response


async def finish_head(request: web.Request, response: web.StreamResponse) -> None:
    """The fields of every answer; a signal of aiohttp's that runs just before a head is written."""
    known = request.get(EXCHANGE)
    response.headers["Server"] = _SERVER
    if known is not None:
        response.headers["X-Request-Id"] = known.request_id
    gateway = request.app[GATEWAY]
    allow(request, response, gateway.cors, gateway.mount)
    if gateway.readiness.draining:
        response.force_close()


def _meet(request: web.Request) -> Exchange:
    gateway = request.app[GATEWAY]
    peer = _peer(request)
    client = client_address(peer, tuple(request.headers.getall("X-Forwarded-For", ())), gateway.trusted)
    given = request.headers.get("X-Request-Id", "")
    believed = peer in gateway.trusted and _REQUEST_ID.fullmatch(given)
    return Exchange(given if believed else secrets.token_hex(16), client)


def _peer(request: web.Request) -> Address | None:
    """The address of the connection's other end; None for a unix socket."""
    remote = request.remote
    return ip_address(remote.partition("%")[0]) if remote else None


def _translated(raised: GatewayError | web.HTTPException) -> GatewayError:
    match raised:
        case GatewayError():
            return raised
        case web.HTTPMethodNotAllowed():
            return MethodNotAllowed(sorted(raised.allowed_methods))
        case web.HTTPRequestEntityTooLarge():
            return ContentTooLarge()
        case web.HTTPNotFound():
            return NotFound()
        case _:
            return BadRequest()


def _access(
    request: web.Request, known: Exchange, response: web.StreamResponse | None, kind: str | None, seconds: float
) -> Access:
    return Access(
        request_id=known.request_id,
        client=None if known.client is None else str(known.client),
        method=request.method,
        target=request.raw_path,
        status=0 if response is None else response.status,
        sent=0 if response is None or not response.prepared else response.body_length,
        seconds=seconds,
        user_agent=request.headers.get("User-Agent"),
        client_id=known.client_id,
        cache=None if response is None else response.headers.get("Cache-Status"),
        kind=kind,
        aborted=known.aborted,
    )
