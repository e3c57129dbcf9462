"""The Media resource under the providers' own paths, for gateway clients: bytes, properties, lists, deletion."""

from __future__ import annotations

import re
from typing import Final, assert_never

import msgspec
from aiohttp import web

from proxy.clients import Client
from proxy.erasure import BlockKind
from proxy.errors import BadRequest, Forbidden, MediaNotFound, MethodNotAllowed, NotFound, UpstreamMalformed
from proxy.semantics.fields import is_safe_value
from proxy.settings import ContentMode, Scope
from proxy.upstream.client import UpstreamClient
from proxy.upstream.providers import Account
from proxy.upstream.replies import ApiAnswer
from proxy.upstream.transport import Method
from proxy.web.api.errors import DOCUMENT_HEADERS, ProviderErrors
from proxy.web.api.resources import (
    Content,
    Form,
    MediaList,
    Properties,
    Resource,
    error_form,
    parse_resource,
    provider_of,
)
from proxy.web.exchange import EXCHANGE, ServerTiming
from proxy.web.http.authentication import authenticate
from proxy.web.http.request_target import request_target
from proxy.web.http.same_origin import require_same_origin
from proxy.web.media.delivery import deliver
from proxy.web.media.headers import Grant
from proxy.web.services.deletion import Asked, Deletions
from proxy.web.services.gateway import GATEWAY, Gateway

REDIRECT_SECONDS: Final = 14_400
"""Life of the link that a redirect leads to, if links may live that long: as long as that of the provider's own."""

# Printable ASCII; `#` would end the query at the provider (RFC 3986 §3.4).
_QUERY: Final = re.compile(r"[!\"$-~]{0,2048}")
_JSON: Final = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json", re.IGNORECASE)
_XML: Final = re.compile(r"(?:application|text)/xml", re.IGNORECASE)


async def media_resource(request: web.Request) -> web.StreamResponse:
    """Answer any request under the providers' paths; its errors get the provider's shape.

    Raises the errors of clients, preconditions, ranges, the cache and the upstream in `proxy.errors`.
    """
    gateway, known = request.app[GATEWAY], request[EXCHANGE]
    timing = ServerTiming() if gateway.media.server_timing else None
    path, _, query = request_target(request).partition("?")
    resource = parse_resource(path, gateway.links.minter.mount)
    known.refusal = ProviderErrors(provider_of(path, resource), error_form(path), path).answer
    client = authenticate(request)
    if resource is None:
        raise NotFound
    methods = _methods(resource)
    if request.method not in methods:
        raise MethodNotAllowed(methods)
    client.require(Scope.DELETE if request.method == "DELETE" else Scope.READ)
    accounts = gateway.media.accounts
    account = accounts.get(resource.ref.account)
    if account is None or not client.sees(account.sid, accounts):
        # The answer does not tell whether an account exists that the client may not use.
        raise NotFound(note=f"client {client.id}")
    if timing is not None:
        timing.mark("verify")
    match resource:
        case Content() | Properties() if request.method == "DELETE":
            return await _delete(request, client, resource, gateway.erasing.deletions)
        case Content() if gateway.media.content_mode is ContentMode.REDIRECT:
            return await _redirect(resource, gateway)
        case Content():
            expires = int(gateway.clock()) + gateway.links.minter.policy.default_ttl
            return await deliver(request, Grant(resource.ref, expires), timing)
        case Properties():
            return await _document(gateway.media.upstream, account, resource.target, resource.form)
        case MediaList():
            return await _document(gateway.media.upstream, account, resource.target + _forwarded(query), resource.form)
        case _:
            assert_never(resource)


def _methods(resource: Resource) -> tuple[str, ...]:
    return ("GET", "HEAD") if isinstance(resource, MediaList) else ("GET", "HEAD", "DELETE")


async def _redirect(resource: Content, gateway: Gateway) -> web.Response:
    minter, kinds = gateway.links.minter, await gateway.media.engine.block_kinds(resource.ref)
    if BlockKind.REVOKED in kinds:
        raise Forbidden("Links to this media are revoked.")
    if BlockKind.GONE in kinds:
        raise MediaNotFound
    link = minter.mint(resource.ref, ttl=min(REDIRECT_SECONDS, minter.policy.max_ttl))
    headers = {"Location": link.url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=307, headers=headers)


# --- documents ------------------------------------------------------------------------------------------------


def _forwarded(query: str) -> str:
    """Return the query that goes to the provider: the client's, unchanged. Raises `BadRequest`."""
    if not _QUERY.fullmatch(query):
        raise BadRequest("Invalid query.")
    return f"?{query}" if query else ""


async def _document(upstream: UpstreamClient, account: Account, target: str, form: Form | None) -> web.Response:
    """Answer with a document as the provider gives it, byte for byte, its page URIs included."""
    answer = await upstream.call(account, Method.GET, target)
    with account.named():
        headers = {**DOCUMENT_HEADERS, "Content-Type": _checked_type(answer, form)}
    return web.Response(body=answer.body, headers=headers)


def _checked_type(answer: ApiAnswer, form: Form | None) -> str:
    """Return the document's type, after a check that it is what was asked for. Raises `UpstreamMalformed`."""
    said = answer.content_type
    essence = said.partition(";")[0].strip()
    is_xml = _XML.fullmatch(essence) is not None
    # Without a suffix the provider chooses: Twilio XML, SignalWire JSON.
    wanted = (Form.XML if is_xml else Form.JSON) if form is None else form
    if not (is_xml if wanted is Form.XML else _is_json_object(answer.body)):
        raise UpstreamMalformed(note=f"a document of type {essence!r} instead of {wanted}")
    if wanted is Form.JSON and not _JSON.fullmatch(essence):
        # The body is JSON, whatever its type says.
        return "application/json"
    return said if said.isascii() and is_safe_value(said) else essence


def _is_json_object(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


# --- deletion -------------------------------------------------------------------------------------------------


async def _delete(
    request: web.Request, client: Client, resource: Content | Properties, deletions: Deletions
) -> web.Response:
    require_same_origin(request)
    asked = Asked(client.id, request[EXCHANGE].request_id)
    await deletions.delete(resource.ref, resource.target, asked)
    return web.Response(status=204, headers={"Cache-Control": "no-store"})
