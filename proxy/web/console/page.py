"""`/console`: a page that shows recent messages, with their media through new links."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.resources import files
from itertools import islice
from typing import Final

from aiohttp import web

from proxy.clients import Client
from proxy.erasure import BlockKind
from proxy.errors import MediaNotFound
from proxy.semantics.disposition import stated_type
from proxy.settings import AllAccounts, Scope
from proxy.upstream.listing import ListedMessage, media_of, recent_messages
from proxy.web.admin.minting import links_json, mint_for
from proxy.web.http.authentication import authenticate
from proxy.web.http.same_origin import require_own_host, require_same_origin
from proxy.web.services.gateway import GATEWAY, Gateway

_STATIC: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.svg": "image/svg+xml",
    **{f"{name}.js": "text/javascript; charset=utf-8" for name in ("console", "elements", "gateway", "media")},
}
# Read once at import, as reading blocks.
_CONTENT: Final = {
    name: files("proxy.web.console").joinpath("static", name).read_bytes() for name in ("console.html", *_STATIC)
}
_MESSAGES: Final = 20
_ACCOUNTS: Final = 20
"""Accounts whose messages are listed, the first that are configured: each costs a call of the provider."""
_LISTS_AT_ONCE: Final = 4

OPEN_CONSOLE: Final = web.AppKey("console_open", bool)
"""The switch that lets the console in without a client: in the demo, which serves this machine alone."""

_ANYONE: Final = Client("console", frozenset({Scope.OBSERVE, Scope.MINT}), AllAccounts.ALL)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _client(request: web.Request) -> Client:
    """Return the client that looks at the console. Raises `Unauthorized` or `Forbidden`."""
    if request.app[OPEN_CONSOLE]:
        require_own_host(request)
        return _ANYONE
    client = authenticate(request)
    client.require(Scope.OBSERVE)
    return client


_PAGE_HEADERS: Final = {
    "Cache-Control": "no-cache",
    # The page reads media from its own origin, whatever the public URL names.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self'; media-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _static(name: str, content_type: str) -> Handler:
    content = _CONTENT[name]

    async def serve(request: web.Request) -> web.Response:
        _client(request)
        return web.Response(body=content, headers={**_PAGE_HEADERS, "Content-Type": content_type})

    return serve


async def _messages(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    client, accounts = _client(request), gateway.media.accounts
    seen = (account for account in accounts if client.sees(account.sid, accounts))
    recent = [
        message
        for account in islice(seen, _ACCOUNTS)
        for message in await recent_messages(gateway.media.upstream, account.sid, _MESSAGES)
    ]
    recent.sort(key=_created, reverse=True)
    at_once = asyncio.Semaphore(_LISTS_AT_ONCE)

    async def described(message: ListedMessage) -> dict[str, object]:
        async with at_once:
            return _message_json(message, await _media_json(gateway, message))

    try:
        async with asyncio.TaskGroup() as group:
            shown = [group.create_task(described(message)) for message in recent[:_MESSAGES]]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    messages = [task.result() for task in shown]
    return web.json_response({"messages": messages}, headers={"Cache-Control": "no-store"})


async def _media_json(gateway: Gateway, message: ListedMessage) -> list[dict[str, str | None]]:
    if not message.media_count:
        return []
    try:
        listed = await media_of(gateway.media.upstream, message.ref)
    except MediaNotFound:
        return []  # the message was deleted after it was listed
    opening = [one for one in listed if await gateway.media.engine.block_kinds(one.ref) is BlockKind.NONE]
    types = [stated_type(properties.content_type) for properties in opening]
    return links_json([gateway.links.minter.mint(properties.ref) for properties in opening], types)


def _message_json(message: ListedMessage, media: list[dict[str, str | None]]) -> dict[str, object]:
    created = _created(message)
    return {
        "sid": str(message.ref.message),
        "account_sid": str(message.ref.account),
        "from": message.sender,
        "to": message.recipient,
        "body": message.body,
        "direction": message.direction,
        "date": datetime.fromtimestamp(created, UTC).isoformat() if created else None,
        "media": media,
    }


def _created(message: ListedMessage) -> float:
    """Return the Unix seconds of the provider's date (RFC 2822); 0 if there is none."""
    try:
        return parsedate_to_datetime(message.date_created or "").timestamp()
    except ValueError:
        return 0.0


async def _links(request: web.Request) -> web.Response:
    client = _client(request)
    require_same_origin(request, from_browser=True)
    client.require(Scope.MINT)
    return await mint_for(client, request, request.app[GATEWAY])


def console_routes(mount: str) -> list[web.RouteDef]:
    """Return the routes of the console below a path prefix."""

    async def to_console(_: web.Request) -> web.Response:
        # Relative, since a proxy in front may have removed the mount path.
        return web.Response(status=303, headers={"Location": "console", "Cache-Control": "no-store"})

    return [
        web.get(f"{mount}/", to_console),
        web.get(f"{mount}/console", _static("console.html", "text/html; charset=utf-8")),
        *(web.get(f"{mount}/console/{name}", _static(name, kind)) for name, kind in _STATIC.items()),
        web.get(f"{mount}/console/messages.json", _messages),
        web.post(f"{mount}/console/links", _links),
    ]
