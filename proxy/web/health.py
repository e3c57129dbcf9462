"""`GET /healthz` and `GET /readyz`: for a supervisor and a balancer."""

from __future__ import annotations

from aiohttp import web

from proxy.cache.shared.outage import Contact
from proxy.errors import Overloaded, StoreError
from proxy.web.context import GATEWAY

_HEADERS = {"Cache-Control": "no-store"}


async def healthz(_: web.Request) -> web.Response:
    """The program runs and answers."""
    return web.json_response({"status": "ok"}, headers=_HEADERS)


async def readyz(request: web.Request) -> web.Response:
    """Requests are wanted: it is not draining, and its cache can be written. Never asks the upstream."""
    gateway = request.app[GATEWAY]
    if gateway.readiness.draining:
        raise Overloaded("The gateway is shutting down.")
    disk = gateway.engine.tiers.disk
    if disk is None:
        raise Overloaded("The cache folder cannot be used.")
    try:
        await disk.check_writable()
    except StoreError as error:
        raise Overloaded("The cache folder cannot be written.", note=error.note) from error
    shared = gateway.engine.tiers.shared
    document = {"status": "ready"}
    if shared is not None:
        # No gateway is better than the others then: it is told, and takes none out of service.
        document["shared_tier"] = "away" if shared.following.contact is Contact.AWAY else "reached"
    return web.json_response(document, headers=_HEADERS)
