"""`GET /healthz` and `GET /readyz`: for a supervisor and a load balancer, and for a person who looks for the cause."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from aiohttp import web

from proxy.cache.disk.store import DiskStore
from proxy.cache.engine import Engine
from proxy.cache.redis.outage import Contact
from proxy.errors import NotReady, StoreError
from proxy.web.services.gateway import GATEWAY

_HEADERS = {"Cache-Control": "no-store"}


class _Cache(enum.StrEnum):
    """The state of the cache folder; `UNUSABLE`: it could not be opened at the start."""

    WRITABLE = "writable"
    UNWRITABLE = "unwritable"
    UNUSABLE = "unusable"


async def healthz(_: web.Request) -> web.Response:
    """Answer that the program runs."""
    return web.json_response({"status": "ok"}, headers=_HEADERS)


async def readyz(request: web.Request) -> web.Response:
    """Answer whether requests are wanted: the gateway is not draining, and its cache is writable.

    The upstream is never asked. Raises `NotReady`, which names the cause, and tells every part as a good answer does.
    """
    gateway = request.app[GATEWAY]
    cache, note = await _cache(gateway.media.engine.disk)
    draining = gateway.readiness.draining
    parts: Mapping[str, str | bool] = {"draining": draining, "cache": cache.value, **_shared_tier(gateway.media.engine)}
    if draining:
        raise NotReady("The gateway is shutting down.", parts, note=note)
    match cache:
        case _Cache.UNUSABLE:
            raise NotReady("The cache folder cannot be used.", parts)
        case _Cache.UNWRITABLE:
            raise NotReady("The cache folder is not writable.", parts, note=note)
        case _Cache.WRITABLE:
            return web.json_response({"status": "ready", **parts}, headers=_HEADERS)


async def _cache(disk: DiskStore | None) -> tuple[_Cache, str]:
    """Return the state of the cache folder, and for the log the reason if it is not writable."""
    if disk is None:
        return _Cache.UNUSABLE, ""
    try:
        await disk.check_writable()
    except StoreError as error:
        return _Cache.UNWRITABLE, error.note
    return _Cache.WRITABLE, ""


def _shared_tier(engine: Engine) -> Mapping[str, str]:
    """Return the part for the shared tier, if one is configured.

    While it is away, no gateway is better off than the others: so the answer tells it, but the gateway stays ready.
    """
    contact = engine.shared_contact
    if contact is None:
        return {}
    return {"shared_tier": "away" if contact is Contact.AWAY else "reached"}
