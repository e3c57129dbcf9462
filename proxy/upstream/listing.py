"""The lists of the provider's API: the media of a message, an account's latest messages; and a check of credentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from proxy.errors import IdentifierError, UpstreamMalformed
from proxy.model import AccountSid, MediaRef, MediaSid, MessageRef, MessageSid
from proxy.upstream.client import UpstreamClient
from proxy.upstream.providers import Account, media_list_path, media_list_paths, messages_path

MAX_PAGES: Final = 20
MAX_MEDIA: Final = 1_000
MAX_MESSAGES: Final = 1_000


@dataclass(frozen=True, slots=True)
class ListedMedia:
    """A media as the provider lists it. Dates are the provider's own text, None if it gives none."""

    ref: MediaRef
    content_type: str
    date_created: str | None
    date_updated: str | None


@dataclass(frozen=True, slots=True)
class ListedMessage:
    """A message as the provider lists it; `sender` and `recipient` are its `from` and `to`."""

    ref: MessageRef
    direction: str
    status: str
    sender: str
    recipient: str
    body: str
    media_count: int
    date_created: str | None


class _Media(msgspec.Struct):
    sid: str
    content_type: str | None = None
    date_created: str | None = None
    date_updated: str | None = None


class _MediaPage(msgspec.Struct):
    media_list: list[_Media]
    next_page_uri: str | None = None


class _Message(msgspec.Struct):
    sid: str
    direction: str | None = None
    status: str | None = None
    sender: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    body: str | None = None
    num_media: str | int | None = None
    date_created: str | None = None


class _MessagePage(msgspec.Struct):
    messages: list[_Message]


_Page = TypeVar("_Page", _MediaPage, _MessagePage)


async def media_of(client: UpstreamClient, message: MessageRef) -> tuple[ListedMedia, ...]:
    """Return all the media of a message, in the provider's order.

    Raises `MediaNotFound` for an account or message that is not there, `UpstreamMalformed` for a list that is not what
    the documents say or does not end within `MAX_PAGES` and `MAX_MEDIA`, and what `UpstreamClient.document` raises.
    """
    account = client.account(message.account)
    path = media_list_path(message)
    query = "?PageSize=50"
    listed: list[ListedMedia] = []
    with account.named():
        for _ in range(MAX_PAGES):
            page = _decode(await client.document(account, path + query), _MediaPage)
            listed += (_media(message, media) for media in page.media_list)
            if len(listed) > MAX_MEDIA:
                break
            if not page.next_page_uri:
                return tuple(listed)
            query = _next_query(message, page.next_page_uri)
        raise UpstreamMalformed(note=f"the media list of {message} does not end")


async def recent_messages(client: UpstreamClient, sid: AccountSid, limit: int = 20) -> tuple[ListedMessage, ...]:
    """Return the latest messages of an account, 1 to `MAX_MESSAGES`.

    Raises `MediaNotFound` for an account that is not configured, `UpstreamMalformed`, and what
    `UpstreamClient.document` raises.
    """
    account = client.account(sid)
    size = min(max(1, limit), MAX_MESSAGES)
    with account.named():
        page = _decode(await client.document(account, f"{messages_path(sid)}?PageSize={size}"), _MessagePage)
        return tuple(_message(sid, message) for message in page.messages[:size])


async def check_credentials(client: UpstreamClient, account: Account) -> None:
    """Ask for as little as can be, with the account's credentials.

    Raises `UpstreamRefusedCredentials` if they are wrong, other `UpstreamError` if that cannot be told.
    """
    _decode(await client.document(account, f"{messages_path(account.sid)}?PageSize=1"), _MessagePage)


def _decode(document: bytes, kind: type[_Page]) -> _Page:
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamMalformed(note="the document is not of the form that the provider documents") from error


def _media(message: MessageRef, media: _Media) -> ListedMedia:
    try:
        ref = message.media(MediaSid.parse(media.sid))
    except IdentifierError as error:
        raise UpstreamMalformed(note="a listed media has no identifier of the provider") from error
    return ListedMedia(ref, media.content_type or "", media.date_created, media.date_updated)


def _message(account: AccountSid, message: _Message) -> ListedMessage:
    try:
        ref = MessageRef(account, MessageSid.parse(message.sid))
        media_count = int(message.num_media or 0)
    except (IdentifierError, ValueError) as error:
        raise UpstreamMalformed(note="a listed message has no identifier or count of the provider") from error
    return ListedMessage(
        ref,
        message.direction or "",
        message.status or "",
        message.sender or "",
        message.to or "",
        message.body or "",
        media_count,
        message.date_created,
    )


def _next_query(message: MessageRef, uri: str) -> str:
    """Return the query of the next page. Its path must be this list's own; the request is built from our own path."""
    path, mark, query = uri.partition("?")
    if path not in media_list_paths(message) or not mark or not _is_query(query):
        raise UpstreamMalformed(note=f"the next page of the media list of {message} is elsewhere")
    return mark + query


def _is_query(query: str) -> bool:
    return 0 < len(query) <= 2_048 and query.isascii() and query.isprintable() and not set(query) & set(' #\\"<>')
