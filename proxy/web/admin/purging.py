"""`POST /purge`: erases the stored responses of some media, of a message or of everything.

The next reader fetches the media again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from proxy.erasure import Reach
from proxy.errors import Forbidden
from proxy.settings import AllAccounts, Scope
from proxy.web.admin.invalidation import carry_out
from proxy.web.admin.references import Asker, parse_references
from proxy.web.http.authentication import authenticate
from proxy.web.http.json_body import JSON, Faults, read_body, read_object
from proxy.web.http.same_origin import require_same_origin
from proxy.web.services.gateway import GATEWAY

_FIELDS: Final = frozenset({"media", "message", "all"})


async def purge(request: web.Request) -> web.Response:
    """Erase for an authenticated client, in every worker of the cache folder at once, and answer 204.

    Raises `Unauthorized`, `Forbidden`, `BadRequest`, `ContentTooLarge`, `UnsupportedMediaType`, `SharedTierAway`, and
    `Overloaded` if the erasure cannot be written down for another reason.
    """
    require_same_origin(request)
    gateway = request.app[GATEWAY]
    client = authenticate(request)
    client.require(Scope.PURGE)
    body = await read_body(request, gateway.requests.body_seconds, JSON)
    faults = Faults()
    document = read_object(body, _FIELDS, faults)
    reaches: Sequence[Reach]
    if "all" in document:
        if document["all"] is not True or len(document) > 1:
            faults.add("all", "must be true, and the only field")
        faults.check()
        if client.accounts is not AllAccounts.ALL:
            raise Forbidden("Only a client of all accounts may purge everything.", note=f"client {client.id}")
        reaches = (Reach.of(None),)
    else:
        asker = Asker(client, gateway.media.accounts)
        references = parse_references(document, asker, faults)
        faults.check()
        references.require_seen_by(asker)
        reaches = references.reaches
    return await carry_out(request, client, "purge", reaches, gateway.media.engine.erase, cdn=gateway.erasing.cdn)
