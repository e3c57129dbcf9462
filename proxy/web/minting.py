"""`POST /links`: signed links for a client's own pages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web

from proxy.clients import Client
from proxy.errors import BadRequest, FieldProblem, UnsupportedMediaType
from proxy.links import MintedLink
from proxy.model import MediaRef
from proxy.settings import Scope
from proxy.upstream.listing import media_of
from proxy.upstream.providers import parse_media_url
from proxy.web.authentication import authenticate
from proxy.web.context import GATEWAY, Gateway
from proxy.web.mint_request import MOST_MEDIA, MintRequest, parse_json, parse_webhook

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


async def mint_links(request: web.Request) -> web.Response:
    """Mint for an authenticated client: 201 with `links`.

    Raises `Unauthorized`, `Forbidden`, `BadRequest`, `ContentTooLarge`, `UnsupportedMediaType`, and for a whole message
    what its list at the upstream raises.
    """
    gateway = request.app[GATEWAY]
    client = authenticate(request)
    client.require(Scope.MINT)
    return await mint_for(client, request, gateway)


async def mint_for(client: Client, request: web.Request, gateway: Gateway) -> web.Response:
    """Mint what the body asks for, within the client's accounts."""
    asked = await _read(request, gateway)
    for account in asked.accounts:
        client.require_account(account)
    _require_configured(asked, gateway)
    media = asked.media
    if asked.message is not None:
        listed = await media_of(gateway.upstream, asked.message)
        media = tuple(properties.ref for properties in listed[:MOST_MEDIA])
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


async def _read(request: web.Request, gateway: Gateway) -> MintRequest:
    def parse_url(url: str) -> MediaRef:
        return parse_media_url(url, gateway.accounts)

    parse = {_JSON: parse_json, _FORM: parse_webhook}.get(request.content_type)
    if parse is None or "Content-Type" not in request.headers:
        raise UnsupportedMediaType(f"Send {_JSON}, or a provider's webhook as {_FORM}.")
    try:
        async with asyncio.timeout(gateway.body_seconds):
            body = await request.read()
    except TimeoutError:
        raise BadRequest("The body did not arrive in time.") from None
    return parse(body, parse_url)


def _require_configured(asked: MintRequest, gateway: Gateway) -> None:
    unknown = [account for account in asked.accounts if gateway.accounts.get(account) is None]
    if unknown:
        named = [f"media/{place}" for place, ref in enumerate(asked.media) if ref.account in unknown] or ["message"]
        raise BadRequest(
            "Some fields of the request are not right.",
            errors=[FieldProblem(name, "is of an account that is not configured here") for name in named],
        )
