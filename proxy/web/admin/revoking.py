"""`POST /revoke`: blocks the links to some media, or to all media of a message, until the last link has expired."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from aiohttp import web

from proxy.settings import Scope
from proxy.web.admin.invalidation import carry_out
from proxy.web.admin.references import Asker, parse_references
from proxy.web.http.authentication import authenticate
from proxy.web.http.json_body import JSON, Faults, read_body, read_object
from proxy.web.http.same_origin import require_same_origin
from proxy.web.services.gateway import GATEWAY

_FIELDS: Final = frozenset({"media", "message", "lift"})


async def revoke(request: web.Request) -> web.Response:
    """Revoke or lift for an authenticated client, in every worker of the cache folder at once, and answer 204.

    Raises `Unauthorized`, `Forbidden`, `BadRequest`, `ContentTooLarge`, `UnsupportedMediaType`, `SharedTierAway`,
    `RevocationsFull`, and `Overloaded` if the change cannot be written down for another reason.
    """
    require_same_origin(request)
    gateway = request.app[GATEWAY]
    client = authenticate(request)
    client.require(Scope.REVOKE)
    body = await read_body(request, gateway.requests.body_seconds, JSON)
    faults = Faults()
    document = read_object(body, _FIELDS, faults)
    asker = Asker(client, gateway.media.accounts)
    references = parse_references(document, asker, faults)
    lift = _lift(document, faults)
    faults.check()
    references.require_seen_by(asker)
    engine, erasing = gateway.media.engine, gateway.erasing
    if lift:
        return await carry_out(request, client, "lift", references.reaches, engine.lift_revocation)
    hold = partial(engine.revoke, seconds=erasing.revocation_seconds)
    require_room = partial(engine.require_room, seconds=erasing.revocation_seconds)
    return await carry_out(
        request, client, "revoke", references.reaches, hold, require_room=require_room, cdn=erasing.cdn
    )


def _lift(document: Mapping[str, object], faults: Faults) -> bool:
    lift = document.get("lift", False)
    if not isinstance(lift, bool):
        faults.add("lift", "must be true or false")
        return False
    return lift
