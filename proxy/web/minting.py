"""`POST /links`: signed links for a client's own pages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web

from proxy.clients import Client
from proxy.errors import BadRequest, FieldProblem, UnsupportedMediaType
from proxy.links import MintedLink
from proxy.model import MediaRef, MessageRef
from proxy.settings import Scope
from proxy.upstream.listing import media_of
from proxy.web.authentication import authenticate
from proxy.web.context import GATEWAY, Gateway
from proxy.web.mint_request import MOST_MEDIA, MintRequest, Terms, parse_json, parse_webhook
from proxy.web.same_origin import require_same_origin

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


async def mint_links(request: web.Request) -> web.Response:
    """Mint for an authenticated client: 201 with `links`.

    Raises `Unauthorized`, `Forbidden` (for another origin's page too), `BadRequest`, `ContentTooLarge`,
    `UnsupportedMediaType`, and for a whole message what its list at the upstream raises.
    """
    require_same_origin(request)
    client = authenticate(request)
    client.require(Scope.MINT)
    return await mint_for(client, request, request.app[GATEWAY])


async def mint_for(client: Client, request: web.Request, gateway: Gateway) -> web.Response:
    """Mint what the body asks for, within the client's accounts."""
    asked = await _read(request, Terms(client, gateway.accounts, gateway.policy, gateway.clock()), gateway.body_seconds)
    for account in asked.accounts:
        client.require_account(account)
    media = asked.media if asked.message is None else await _media_of(asked.message, gateway)
    links = [gateway.minter.mint(ref, ttl=asked.ttl, claims=asked.claims) for ref in media]
    for ref in media:
        gateway.newcomers.is_fresh(ref.parent)
    return web.json_response({"links": links_json(links)}, status=201, headers={"Cache-Control": "no-store"})


def links_json(links: Sequence[MintedLink]) -> list[dict[str, str]]:
    """Minted links as the answer lists them, times in RFC 3339."""
    return [
        {
            "url": link.url,
            "expires_at": _moment(link.expires_at),
            "refresh_at": _moment(link.refresh_at),
            "account_sid": str(link.ref.account),
            "message_sid": str(link.ref.message),
            "media_sid": str(link.ref.media),
        }
        for link in links
    ]


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _media_of(message: MessageRef, gateway: Gateway) -> tuple[MediaRef, ...]:
    listed = await media_of(gateway.upstream, message)
    if len(listed) > MOST_MEDIA:
        problem = FieldProblem("message", f"has more than {MOST_MEDIA} media; name them")
        raise BadRequest("Links are minted for a limited number of media in a call.", errors=[problem])
    return tuple(properties.ref for properties in listed)


async def _read(request: web.Request, terms: Terms, seconds: float) -> MintRequest:
    parse = {_JSON: parse_json, _FORM: parse_webhook}.get(request.content_type)
    if parse is None:
        raise UnsupportedMediaType(f"Send {_JSON}, or a provider's webhook as {_FORM}.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")
    try:
        async with asyncio.timeout(seconds):
            body = await request.read()
    except TimeoutError:
        raise BadRequest("The body did not arrive in time.") from None
    except web.RequestPayloadError:
        raise BadRequest("The body is not well-formed.") from None
    return parse(body, terms)
