"""The record of each answer: a line of the access log, and a count."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import Final

from aiohttp import web

from proxy.telemetry.access_log import LoggedAnswer
from proxy.telemetry.metrics import Erasure, Route
from proxy.web.exchange import Exchange
from proxy.web.services.gateway import Gateway

ROUTES: Final = MappingProxyType(
    {
        "": Route.CONSOLE,
        "media": Route.MEDIA,
        "links": Route.MINT,
        "2010-04-01": Route.RESOURCE,
        "api": Route.RESOURCE,
        "purge": Route.PURGE,
        "revoke": Route.REVOKE,
        "auth": Route.AUTH,
        "console": Route.CONSOLE,
        "healthz": Route.HEALTH,
        "readyz": Route.HEALTH,
        "metrics": Route.METRICS,
        "openapi.json": Route.STATIC,
        "media-gateway.js": Route.STATIC,
    }
)
"""Routes by the first segment of a path below the mount path."""
_ERASES: Final = MappingProxyType(
    {
        ("POST", Route.PURGE): Erasure.PURGE,
        ("POST", Route.REVOKE): Erasure.REVOKE,
        ("DELETE", Route.RESOURCE): Erasure.DELETE,
    }
)
_NO_CONTENT: Final = 204


def record(
    request: web.Request,
    gateway: Gateway,
    known: Exchange,
    response: web.StreamResponse | None,
    kind: str | None,
    seconds: float,
) -> None:
    """Log and count an answer; without a `response` the connection was cut, perhaps within an answer.

    `kind` is the slug of the problem, if the answer is one; `seconds` is the time from the request to here.
    """
    answer = known.answer if response is None else response
    status = 0 if answer is None else answer.status
    sent = known.sent + _still_to_send(request, response)
    _count(request, gateway, known, status, sent, seconds, kind)
    log = gateway.telemetry.access
    if not log.wanted:
        return
    access = LoggedAnswer(
        request_id=known.request_id,
        client=known.client,
        method=request.method,
        target=_logged_target(request),
        status=status,
        sent=sent,
        seconds=seconds,
        user_agent=request.headers.get("User-Agent"),
        client_id=known.client_id,
        cache=None if answer is None else answer.headers.get("Cache-Status"),
        kind=kind,
        aborted=response is None,
        trace_id=known.trace_id,
    )
    log.note(access.noted(gateway.clock()))


def _logged_target(request: web.Request) -> str:
    """Return the target for the log: that of a mint without its query, which names files and people's addresses."""
    # The router's reading of the path counts: a letter of it may be percent-encoded.
    return request.raw_path.partition("?")[0] if request.path.endswith("/links") else request.raw_path


def _still_to_send(request: web.Request, response: web.StreamResponse | None) -> int:
    """Return the bytes of a body that goes out in one write with its head, after the handlers."""
    if isinstance(response, web.Response) and request.method != "HEAD" and isinstance(response.body, bytes):
        return len(response.body)
    return 0


def _count(
    request: web.Request, gateway: Gateway, known: Exchange, status: int, sent: int, seconds: float, kind: str | None
) -> None:
    """Count an answer; `status` 0 is a connection that broke before an answer."""
    route, metrics = _route(request, gateway.links.minter.mount), gateway.telemetry.metrics
    metrics.answered(route, status, known.cache, seconds, sent)
    if kind is not None:
        metrics.refused(route, kind)
    elif status == _NO_CONTENT:
        erasure = _ERASES.get((request.method, route))
        if erasure is not None:
            metrics.erased(erasure)


def _route(request: web.Request, mount: str) -> Route:
    """Return the label of the route that answered the request; `OTHER` if there was none."""
    resource = request.match_info.route.resource
    return Route.OTHER if resource is None else _route_at(resource.canonical, mount)


@lru_cache
def _route_at(path: str, mount: str) -> Route:
    route = ROUTES.get(path.split("/", 2)[1])
    if route is None:
        route = ROUTES.get(path.removeprefix(mount).split("/", 2)[1])
    return Route.OTHER if route is None else route
