"""`GET /metrics`: the counts of all workers."""

from __future__ import annotations

from aiohttp import web

from proxy.errors import StoreError
from proxy.settings import Scope
from proxy.telemetry.exposition import expose
from proxy.telemetry.metrics import TIER_BOUND, TIER_BYTES, TIER_ENTRIES, Tier
from proxy.web.http.authentication import authenticate
from proxy.web.services.gateway import GATEWAY


async def metrics_for_observers(request: web.Request) -> web.Response:
    """Answer with the counts of all workers, for a client with the scope `observe`.

    Raises `Unauthorized`, `Forbidden`, `TooManyRequests`.
    """
    authenticate(request).require(Scope.OBSERVE)
    return await metrics_for_anyone(request)


async def metrics_for_anyone(request: web.Request) -> web.Response:
    """Answer with the counts of all workers, for anyone who can reach the address."""
    gateway = request.app[GATEWAY]
    totals = gateway.telemetry.totals()
    disk = gateway.media.engine.disk
    if disk is not None:
        # The workers share this tier, so none of them counts it.
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
