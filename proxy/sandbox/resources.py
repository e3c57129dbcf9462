"""The documents of the REST API: what a GET of messages, a message, its media list and a media's properties says."""

from __future__ import annotations

from typing import assert_never

from proxy.model import Provider
from proxy.sandbox import targets
from proxy.sandbox.listing import Query, paginate, uris
from proxy.sandbox.serialising import Document, instance, listed, media_properties, message_properties
from proxy.sandbox.storage import Storage
from proxy.sandbox.targets import Documented


def document(storage: Storage, target: Documented, query: str) -> Document | None:
    """The document that a target names; None where there is none. Raises `QueryError`."""
    provider = storage.account.provider
    twilio = provider is Provider.TWILIO
    match target:
        case targets.MessageList(account, form):
            messages = paginate(tuple(storage), Query.parse(query, filters=()), newest_first=True)
            path = f"{targets.root(account)}/Messages{f'.{form}' if twilio else ''}"
            rows = [message_properties(message, form) for message in messages.items]
            links = uris(messages, path, page_first=not twilio)
            return listed("messages", "Message", rows, messages, links, form, provider)
        case targets.MediaList(parent, form):
            message = storage.message(parent)
            if message is None:
                return None
            page = paginate(message.media, Query.parse(query))
            path = f"{targets.message_path(parent)}/Media{f'.{form}' if twilio else ''}"
            rows = [media_properties(media, form) for media in page.items]
            links = uris(page, path, page_first=not twilio)
            return listed("media_list", "Media", rows, page, links, form, provider)
        case targets.MessageProperties(parent, form):
            message = storage.message(parent)
            return instance("Message", message_properties(message, form), form) if message else None
        case targets.MediaProperties(ref, form):
            media = storage.media(ref)
            return instance("Media", media_properties(media, form), form) if media else None
        case _:
            assert_never(target)
