"""`GET /metrics`, and what every answer counts."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import Final

from aiohttp import web

from proxy.errors import StoreError
from proxy.settings import Scope
from proxy.telemetry.exposition import expose
from proxy.telemetry.metrics import TIER_BOUND, TIER_BYTES, TIER_ENTRIES, Erasure, Route, Tier
from proxy.web.context import GATEWAY, Exchange, Gateway
from proxy.web.http.authentication import authenticate

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
"""By the first segment of a path below the mount."""
_ERASES: Final = MappingProxyType(
    {
        ("POST", Route.PURGE): Erasure.PURGE,
        ("POST", Route.REVOKE): Erasure.REVOKE,
        ("DELETE", Route.RESOURCE): Erasure.DELETE,
    }
)
_NO_CONTENT: Final = 204


async def metrics_for_observers(request: web.Request) -> web.Response:
    """The counts of all workers, for a client with the scope `observe`.

    Raises `Unauthorized`, `Forbidden`, `TooManyRequests`.
    """
    authenticate(request).require(Scope.OBSERVE)
    return await metrics_for_anyone(request)


async def metrics_for_anyone(request: web.Request) -> web.Response:
    """The same for everyone who can reach it."""
    gateway = request.app[GATEWAY]
    totals = gateway.metrics.totals()
    disk = gateway.engine.disk
    if disk is not None:
        # The workers share this tier, so it is nobody's to count.
        totals[TIER_BOUND.first + Tier.DISK] = disk.max_footprint
        try:
            usage = await disk.usage()
        except StoreError:
            pass
        else:
            totals[TIER_BYTES.first + Tier.DISK] = usage.footprint
            totals[TIER_ENTRIES.first + Tier.DISK] = usage.entries
    body, content_type = expose(totals, ",".join(request.headers.getall("Accept", ())))
    return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def count(
    request: web.Request, gateway: Gateway, known: Exchange, status: int, sent: int, seconds: float, kind: str | None
) -> None:
    """Count an answer; `status` 0 is a connection that broke before one, `kind` the problem's slug where it is one."""
    route = _route(request, gateway)
    gateway.metrics.answered(route, status, known.cache, seconds, sent)
    if kind is not None:
        gateway.metrics.refused(route, kind)
    elif status == _NO_CONTENT:
        erasure = _ERASES.get((request.method, route))
        if erasure is not None:
            gateway.metrics.erased(erasure)


def _route(request: web.Request, gateway: Gateway) -> Route:
    """What the request was for, by the route that answers it: a target that no route has is `OTHER`."""
    resource = request.match_info.route.resource
    return Route.OTHER if resource is None else _route_at(resource.canonical, gateway.mount)


@lru_cache
def _route_at(path: str, mount: str) -> Route:
    route = ROUTES.get(path.split("/", 2)[1])
    if route is None:
        route = ROUTES.get(path.removeprefix(mount).split("/", 2)[1])
    return Route.OTHER if route is None else route
