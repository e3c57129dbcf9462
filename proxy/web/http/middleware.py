"""The middleware of every request: its id, its client's address, its answer if it fails, and its record."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from aiohttp import web

from proxy.errors import (
    BadRequest,
    ContentTooLarge,
    ExpectationRefused,
    GatewayError,
    MethodNotAllowed,
    NotFound,
)
from proxy.model import IPAddress
from proxy.semantics.trace_context import trace_id
from proxy.semantics.trusted_proxies import client_address
from proxy.telemetry.metrics import CutBy
from proxy.telemetry.request_context import about_request
from proxy.web.exchange import EXCHANGE, Exchange
from proxy.web.http.admission import require_admissible
from proxy.web.http.connection_reset import reset
from proxy.web.http.cors import allow
from proxy.web.http.problems import SERVER, problem
from proxy.web.http.recording import record
from proxy.web.http.sending import ClientGone
from proxy.web.services.gateway import GATEWAY, Gateway

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log: Final = logging.getLogger("media_gateway.web")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_SERVER_ERROR: Final = 500
_PEERS: Final = 1_024


class Aborted(ConnectionResetError):
    """A cut of the connection on purpose, so that the client does not take a part for the whole.

    aiohttp does not log it.
    """


@web.middleware
async def exchange(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run the handler, answer its errors, and record the answer. A failure after the head cuts the connection."""
    began = time.perf_counter()
    gateway = request.app[GATEWAY]
    known = request[EXCHANGE] = _meet(request, gateway)
    with about_request(known.request_id, known.trace_id):
        return await _exchanged(request, handler, gateway, known, began)


async def _exchanged(
    request: web.Request, handler: Handler, gateway: Gateway, known: Exchange, began: float
) -> web.StreamResponse:
    response: web.StreamResponse | None = None
    kind: str | None = None
    cut_by = CutBy.GATEWAY
    try:
        require_admissible(request)
        response = await handler(request)
    except (GatewayError, web.HTTPException) as raised:
        error = translated(raised)
        kind = error.kind
        if error.status >= _SERVER_ERROR and error.note:
            _log.warning("%s: %s", kind, error.note, extra={"facts": error.facts})
        response = _answer(request, known, error)
    except ClientGone:
        cut_by = CutBy.CLIENT
        raise
    except Exception:
        # A fault of the gateway: the log gets all of it at once, after earlier lines, and the client nothing.
        gateway.telemetry.access.flush()
        _log.exception("A request failed")
        kind = GatewayError.kind
        response = _answer(request, known, GatewayError("The request could not be answered."))
    finally:
        if response is None and known.answer is not None:
            gateway.telemetry.metrics.aborted(cut_by)
        record(request, gateway, known, response, kind, time.perf_counter() - began)
    return response


def _answer(request: web.Request, known: Exchange, error: GatewayError) -> web.Response:
    """Return the answer to an error. Raises `Aborted` if another answer is under way, which is then cut off."""
    if known.answer is None:
        return known.refusal(error, known.request_id)
    reset(request.transport)
    raise Aborted(error.kind) from error


async def finish_head(request: web.Request, response: web.StreamResponse) -> None:
    """Add the fields of every answer; an aiohttp signal that runs just before a head is written."""
    known, gateway = request.get(EXCHANGE), request.app[GATEWAY]
    if known is None:
        # aiohttp itself answers an unknown `Expect` (RFC 9110 §10.1.1), before any middleware runs.
        known = request[EXCHANGE] = _meet(request, gateway)
        assert isinstance(response, web.Response)
        error = ExpectationRefused()
        assert response.status == error.status
        refused = problem(error, known.request_id)
        response.body = refused.body
        response.headers.update({**refused.headers, "Content-Length": str(refused.content_length)})
        record(request, gateway, known, response, error.kind, 0.0)
    known.answer = response
    response.headers["Server"] = SERVER
    response.headers["X-Request-Id"] = known.request_id
    if known.timing is not None:
        response.headers["Server-Timing"] = str(known.timing)
    allow(request, response, gateway.requests.cors, gateway.links.minter.mount)
    if gateway.readiness.last_answers:
        response.force_close()
        response.headers["Connection"] = "close"


def _meet(request: web.Request, gateway: Gateway) -> Exchange:
    remote = request.remote
    peer = _address(remote) if remote else None
    trusted = gateway.requests.trusted
    client = client_address(peer, tuple(request.headers.getall("X-Forwarded-For", ())), trusted)
    given = request.headers.get("X-Request-Id", "")
    by_proxy = peer in trusted
    believed = by_proxy and _REQUEST_ID.fullmatch(given)
    trace = trace_id(request.headers.getall("traceparent", ())) if by_proxy else None
    request_id = given if believed else gateway.telemetry.request_ids.make()
    return Exchange(request_id, client, problem, by_proxy=by_proxy, trace_id=trace)


@lru_cache(_PEERS)
def _address(remote: str) -> IPAddress:
    """Return the address of a connection's other end, without its zone."""
    return ip_address(remote.partition("%")[0])


def translated(raised: GatewayError | web.HTTPException) -> GatewayError:
    """Return the gateway's own error for one of aiohttp's."""
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
