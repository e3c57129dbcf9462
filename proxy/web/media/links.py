"""`GET` and `HEAD` of a signed link: the media that the link grants, once all its claims are met."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from proxy.cache.engine import Engine
from proxy.erasure import BlockKind
from proxy.errors import (
    LinkClaimUnmet,
    LinkError,
    LinkExpired,
    LinkRevoked,
    MethodNotAllowed,
    StoreError,
    TooManyRequests,
)
from proxy.limits import address_key
from proxy.links import VerifiedLink, verify
from proxy.model import MediaRef
from proxy.web.exchange import EXCHANGE, ServerTiming
from proxy.web.http.request_target import request_target
from proxy.web.media.delivery import deliver
from proxy.web.media.error_page import error_answer_for
from proxy.web.media.headers import Grant
from proxy.web.services.gateway import GATEWAY

METHODS: Final = ("GET", "HEAD", "OPTIONS")


async def open_link(request: web.Request) -> web.StreamResponse:
    """Answer with the media that a signed link opens. A person who opens the link sees errors as a page.

    Raises the errors of links, preconditions, ranges and the upstream in `proxy.errors`.
    """
    request[EXCHANGE].refusal = error_answer_for(request)
    if request.method == "OPTIONS":
        return web.Response(status=204, headers={"Allow": ", ".join(METHODS)})
    if request.method not in METHODS:
        raise MethodNotAllowed(METHODS)
    media = request.app[GATEWAY].media
    timing = ServerTiming() if media.server_timing else None
    link = verify_link(request, request_target(request))
    kinds = await require_unrevoked(media.engine, link.ref)
    if timing is not None:
        timing.mark("verify")
    shared = media.shared_caches and link.claims.ip is None
    return await deliver(request, Grant(link.ref, link.expires, link.claims, shared_caches=shared), timing, kinds)


async def require_unrevoked(engine: Engine, ref: MediaRef) -> BlockKind:
    """Return the other blocks that hold for the media.

    Raises `LinkRevoked` if links to it are revoked, or if the gateway cannot tell.
    """
    try:
        kinds = await engine.block_kinds(ref)
    except StoreError as error:
        raise LinkRevoked(
            "The gateway cannot tell at the moment whether this link is revoked.", note=error.note
        ) from error
    if BlockKind.REVOKED in kinds:
        raise LinkRevoked
    return kinds


def verify_link(request: web.Request, target: str) -> VerifiedLink:
    """Verify the link with this target, path and query exactly as sent, for the client of the request.

    Raises `LinkError`. An error of the signature or the form counts against the client, and is `TooManyRequests` once
    there were too many.
    """
    gateway, client = request.app[GATEWAY], request[EXCHANGE].client
    minter, now = gateway.links.minter, gateway.clock()
    try:
        return verify(target, keys=minter.keys, policy=minter.policy, now=now, client=client, mount=minter.mount)
    except (LinkExpired, LinkClaimUnmet):
        raise
    except LinkError:
        # Only a link without a good signature counts against its sender.
        wait = gateway.links.failures.fail(address_key(client))
        if wait:
            raise TooManyRequests("Too many links with bad signatures.", retry_after=wait) from None
        raise
