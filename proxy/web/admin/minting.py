"""`POST /links`: signed links, for a client to put into its own pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web

from proxy.cache.engine import Engine
from proxy.clients import Client
from proxy.erasure import BlockKind
from proxy.errors import BadRequest, FieldProblem, Overloaded, Revoked, StoreError
from proxy.links import MintedLink
from proxy.model import MediaRef, MessageRef
from proxy.semantics.disposition import stated_type
from proxy.settings import Scope
from proxy.upstream.client import UpstreamClient
from proxy.upstream.listing import ListedMedia, media_of
from proxy.web.admin.mint_request import MintRequest, Terms, Wanted, parse_json
from proxy.web.admin.references import MOST_MEDIA, Asker
from proxy.web.admin.webhook import FORM, parse_webhook
from proxy.web.http.authentication import authenticate
from proxy.web.http.json_body import JSON, read_body
from proxy.web.http.request_target import request_target
from proxy.web.http.same_origin import require_same_origin
from proxy.web.services.gateway import GATEWAY, Gateway


async def mint_links(request: web.Request) -> web.Response:
    """Mint links for an authenticated client, and answer 201.

    Raises `Unauthorized`, `Forbidden` (also if another origin's page asks), `BadRequest`, `Revoked`, `ContentTooLarge`,
    `UnsupportedMediaType`, `Overloaded`, and for a whole message the `UpstreamError`s of listing its media.
    """
    require_same_origin(request)
    client = authenticate(request)
    client.require(Scope.MINT)
    return await mint_for(client, request, request.app[GATEWAY])


async def mint_for(client: Client, request: web.Request, gateway: Gateway) -> web.Response:
    """Mint the links that the body and the query ask for, within the client's accounts."""
    asker = Asker(client, gateway.media.accounts)
    asked = await _read(request, asker, gateway)
    references = asked.references
    references.require_seen_by(asker)
    engine = gateway.media.engine
    await _require_unrevoked(references.named, engine)
    wanted = asked.wanted
    if references.message is not None:
        listed = await _media_of(references.message, gateway.media.upstream)
        await _require_unrevoked([("message", media.ref) for media in listed], engine)
        wanted = tuple(Wanted(media.ref, asked.claims, stated_type(media.content_type)) for media in listed)
    links = [gateway.links.minter.mint(ref, ttl=asked.ttl, claims=claims) for ref, claims, _ in wanted]
    gateway.telemetry.metrics.minted(len(links))
    for link in links:
        gateway.media.young_messages.meet(link.ref)
    minted = links_json(links, await _types(wanted, engine))
    return web.json_response({"links": minted}, status=201, headers={"Cache-Control": "no-store"})


def links_json(links: Sequence[MintedLink], types: Sequence[str | None]) -> list[dict[str, str | None]]:
    """Return minted links as an answer lists them: times in RFC 3339, and the content type of each media."""
    return [
        {
            "url": link.url,
            "expires_at": _moment(link.expires_at),
            "refresh_at": _moment(link.refresh_at),
            "account_sid": str(link.ref.account),
            "message_sid": str(link.ref.message),
            "media_sid": str(link.ref.media),
            "content_type": content_type,
        }
        for link, content_type in zip(links, types, strict=True)
    ]


async def _types(wanted: Sequence[Wanted], engine: Engine) -> list[str | None]:
    """Return the media's content types: as the request or the list states them, else as stored, else None."""
    unknown = [one.ref for one in wanted if one.content_type is None]
    stored = await engine.stored_types(unknown) if unknown else {}
    return [one.content_type or stated_type(stored.get(one.ref)) for one in wanted]


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _media_of(message: MessageRef, upstream: UpstreamClient) -> tuple[ListedMedia, ...]:
    listed = await media_of(upstream, message)
    if len(listed) > MOST_MEDIA:
        problem = FieldProblem("message", f"has more than {MOST_MEDIA} media: name the media instead")
        raise BadRequest(f"One call mints links to at most {MOST_MEDIA} media.", errors=[problem])
    return listed


async def _require_unrevoked(named: Sequence[tuple[str, MediaRef | MessageRef]], engine: Engine) -> None:
    """Raise `Revoked` with the field of everything that is revoked, and `Overloaded` if that cannot be told."""
    try:
        problems = [
            FieldProblem(field, f"{subject} is revoked")
            for field, subject in named
            if BlockKind.REVOKED in await engine.block_kinds(subject)
        ]
    except StoreError as error:
        raise Overloaded(
            "The gateway cannot tell at the moment whether this is revoked. Try again later.", note=error.note
        ) from error
    if problems:
        raise Revoked("Links to revoked media are not minted.", errors=problems)


async def _read(request: web.Request, asker: Asker, gateway: Gateway) -> MintRequest:
    body = await read_body(request, gateway.requests.body_seconds, JSON, FORM)
    _, _, query = request_target(request).partition("?")
    terms = Terms(asker, gateway.links.minter.policy, gateway.clock())
    return (parse_webhook if request.content_type == FORM else parse_json)(body, terms, query)
