"""`GET /auth`: a proxy in front asks whether the link that its client requested is good, and for how long.

For nginx's `auth_request`, Caddy's `forward_auth` and Traefik's ForwardAuth.
"""

from __future__ import annotations

from aiohttp import web

from proxy.erasure import BlockKind
from proxy.errors import Forbidden, MediaNotFound
from proxy.links import Claims, VerifiedLink
from proxy.semantics.disposition import content_disposition
from proxy.web.exchange import EXCHANGE
from proxy.web.http.request_target import origin_form
from proxy.web.media.links import require_unrevoked, verify_link
from proxy.web.services.gateway import GATEWAY


async def authorize(request: web.Request) -> web.Response:
    """Answer 204 for a good link, with the facts that the proxy needs.

    The link is in the field that `GATEWAY_AUTH_HEADER` names, and is verified as if it had been requested here; the
    upstream is not asked. Raises `Forbidden` unless a trusted proxy names exactly one link, `LinkError`,
    `MediaNotFound`, `TooManyRequests`.
    """
    gateway = request.app[GATEWAY]
    link = verify_link(request, _original_target(request, gateway.requests.auth_header))
    kinds = await require_unrevoked(gateway.media.engine, link.ref)
    if BlockKind.GONE in kinds or link.ref.account not in gateway.media.accounts:
        raise MediaNotFound
    return web.Response(status=204, headers=_link_fields(link, gateway.clock()))


def _original_target(request: web.Request, field: str) -> str:
    if not request[EXCHANGE].by_proxy:
        raise Forbidden("Only a trusted proxy may ask this.")
    match request.headers.getall(field, ()):
        case [original]:
            return origin_form(original)
        case _:
            # Of several fields, one may be the client's own.
            raise Forbidden(f"The proxy must name one link, in exactly one field {field}.")


def _link_fields(link: VerifiedLink, now: float) -> dict[str, str]:
    """Return the fields about a good link: its media, its end in Unix seconds, its whole seconds left, its display."""
    headers = {
        "Cache-Control": "no-store",
        "X-Media-Path": f"/media/{link.ref}",
        "X-Link-Expires": str(link.expires),
        "X-Link-Max-Age": str(max(0, int(link.expires - now))),
    }
    disposition = _disposition(link.claims)
    if disposition is not None:
        headers["X-Link-Disposition"] = disposition
    return headers


def _disposition(claims: Claims) -> str | None:
    """Return the `Content-Disposition` that the claims ask for; None if the media's type decides."""
    if claims.disposition is None and claims.filename is None:
        return None
    return content_disposition(claims.disposition or "inline", claims.filename)
