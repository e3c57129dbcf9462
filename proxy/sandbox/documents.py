"""The API's documents: messages, media, lists and errors in the provider's words, as JSON, XML and a webhook's form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final, TypeVar, assert_never
from xml.sax.saxutils import escape, quoteattr

from proxy.model import Provider
from proxy.sandbox import targets
from proxy.sandbox.listing import Listed, Page, Query, paginate, uris
from proxy.sandbox.messages import Direction, Media, Message
from proxy.sandbox.storage import Storage
from proxy.sandbox.targets import Documented, MediaListing, MessageListing, Notation, media_path, message_path, root

T = TypeVar("T", bound=Listed)

Value = str | int | None | Mapping[str, str]
Properties = Mapping[str, Value]

# The characters that no XML 1.0 document may hold, however they are written.
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPLACEMENT: Final = "\ufffd"
_XML_HEAD: Final = "<?xml version='1.0' encoding='UTF-8'?>\n"
_CONTENT_TYPES: Final = {Notation.JSON: "application/json", Notation.XML: "application/xml"}


@dataclass(frozen=True, slots=True)
class Document:
    """A body and its type."""

    content_type: str
    octets: bytes


def document(storage: Storage, target: Documented, query: str) -> Document | None:
    """Return the document that a target names, or None if there is none. Raises `QueryError`."""
    match target:
        case targets.MessageListing(account, notation):
            messages = paginate(tuple(storage), Query.parse(query, filters=()), newest_first=True)
            rows = [message_properties(message, notation) for message in messages.items]
            return _listed("messages", "Message", f"{root(account)}/Messages", messages, rows, target)
        case targets.MediaListing(parent, notation):
            message = storage.message(parent)
            if message is None:
                return None
            page = paginate(message.media, Query.parse(query))
            rows = [media_properties(media, notation) for media in page.items]
            return _listed("media_list", "Media", f"{message_path(parent)}/Media", page, rows, target)
        case targets.MessageProperties(parent, notation):
            message = storage.message(parent)
            return instance("Message", message_properties(message, notation), notation) if message else None
        case targets.MediaProperties(ref, notation):
            media = storage.media(ref)
            return instance("Media", media_properties(media, notation), notation) if media else None
        case _:
            assert_never(target)


def webhook_fields(message: Message, api_url: str) -> dict[str, str]:
    """Return the form that a provider posts to an application's webhook when a message comes in.

    `api_url` is the origin of its media's addresses.
    """
    fields = {
        "MessageSid": message.sid,
        "SmsSid": message.sid,
        "SmsMessageSid": message.sid,
        "AccountSid": message.ref.account.value,
        "From": message.from_,
        "To": message.to,
        "Body": message.body,
        "NumMedia": str(len(message.media)),
        "NumSegments": "1",
        "SmsStatus": "received",
        "ApiVersion": "2010-04-01",
    }
    for place, media in enumerate(message.media):
        fields[f"MediaContentType{place}"] = media.content_type
        fields[f"MediaUrl{place}"] = api_url + media_path(media.ref)
    return fields


def date(seconds: int) -> str:
    """Write a date as the providers do: RFC 2822, in UTC."""
    return formatdate(seconds).replace("-0000", "+0000")


def media_properties(media: Media, notation: Notation) -> Properties:
    """Return the seven properties of a media."""
    return {
        "sid": media.sid,
        "account_sid": media.ref.account.value,
        "parent_sid": media.ref.message.value,
        "content_type": media.content_type,
        "date_created": date(media.date_created),
        "date_updated": date(media.date_created),
        "uri": f"{media_path(media.ref)}.{notation}",
    }


def message_properties(message: Message, notation: Notation, *, created: bool = False) -> Properties:
    """Return the properties of a message; `created` if they answer its creation, which comes before it is sent."""
    path = message_path(message.ref)
    moment = date(message.date_created)
    common: dict[str, Value] = {
        "account_sid": message.ref.account.value,
        "api_version": "2010-04-01",
        "body": message.body,
        "date_created": moment,
        "date_sent": None if created else moment,
        "date_updated": moment,
        "direction": message.direction.value,
        "error_code": None,
        "error_message": None,
        "from": message.from_ or None,
        "messaging_service_sid": message.messaging_service_sid,
    }
    tail: dict[str, Value] = {"sid": message.sid, "status": _status(message, created=created)}
    match message.ref.provider:
        case Provider.TWILIO:
            return {
                **common,
                "num_media": str(len(message.media)),
                "num_segments": "1",
                "price": None,
                "price_unit": None,
                **tail,
                "subresource_uris": {"media": f"{path}/Media.{notation}"},
                "to": message.to,
                "uri": f"{path}.{notation}",
            }
        case Provider.SIGNALWIRE:
            # Its numbers are numbers, and its URIs have no suffix.
            return {
                **common,
                "num_media": len(message.media),
                "num_segments": 1,
                "price": None,
                "price_unit": "USD",
                **tail,
                "subresource_uris": {"media": f"{path}/Media"},
                "to": message.to,
                "uri": path,
            }
        case _:
            assert_never(message.ref.provider)


def _status(message: Message, *, created: bool) -> str:
    if message.direction is Direction.INBOUND:
        return "received"
    return "queued" if created else "delivered"


def instance(name: str, properties: Properties, notation: Notation) -> Document:
    """Write one resource; `name` is its element in XML."""
    match notation:
        case Notation.JSON:
            return _json(properties)
        case Notation.XML:
            return _xml(_element(name, properties))
        case _:
            assert_never(notation)


def _listed(
    key: str, name: str, path: str, page: Page[T], rows: Sequence[Properties], target: MessageListing | MediaListing
) -> Document:
    """Write a page of a list; `key` names the items in JSON, `name` is the element of one in XML."""
    twilio = target.account.provider is Provider.TWILIO
    links = uris(page, f"{path}.{target.notation}" if twilio else path, page_first=not twilio)
    match target.notation:
        case Notation.JSON:
            places = {"end": page.end, "start": page.start} if twilio else {}
            return _json({
                **places,
                "first_page_uri": links.first,
                key: rows,
                "next_page_uri": links.next,
                "page": page.query.page,
                "page_size": page.query.size,
                "previous_page_uri": links.previous,
                "uri": links.this,
            })  # fmt: skip
        case Notation.XML:
            attributes = {
                "end": str(page.end),
                "firstpageuri": links.first,
                "nextpageuri": links.next or "",
                "page": str(page.query.page),
                "pagesize": str(page.query.size),
                "previouspageuri": links.previous or "",
                "start": str(page.start),
                "uri": links.this,
            }
            written = "".join(f" {attribute}={quoteattr(value)}" for attribute, value in attributes.items())
            inner = "".join(_element(name, row) for row in rows)
            return _xml(f"<{name}List{written}>{inner}</{name}List>")
        case _:
            assert_never(target.notation)


def error(status: int, code: int, message: str, notation: Notation, detail: str | None = None) -> Document:
    """Write an error with its four fields, and a `detail` if the provider gives one."""
    properties: dict[str, Value] = {"code": code}
    if detail is not None:
        properties["detail"] = detail
    properties |= {"message": message, "more_info": f"https://www.twilio.com/docs/errors/{code}", "status": status}
    return instance("RestException", properties, notation)


def storage_error(code: str, message: str, extra: Mapping[str, str] | None = None) -> Document:
    """Write an error as an object store does."""
    fields = {"Code": code, "Message": message, **(extra or {})}
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'
    return Document("application/xml", text.encode("utf-8", "replace"))


def _json(value: object) -> Document:
    return Document(_CONTENT_TYPES[Notation.JSON], json.dumps(value, ensure_ascii=False, default=dict).encode())


def _xml(inner: str) -> Document:
    return Document(_CONTENT_TYPES[Notation.XML], f"{_XML_HEAD}<TwilioResponse>{inner}</TwilioResponse>".encode())


def _element(name: str, properties: Properties) -> str:
    inner = "".join(
        _element(_camel(key), value) if isinstance(value, Mapping) else _text(_camel(key), value)
        for key, value in properties.items()
    )
    return f"<{name}>{inner}</{name}>"


def _text(name: str, value: str | int | None) -> str:
    return f"<{name}/>" if value is None else f"<{name}>{escape(_NO_XML.sub(_REPLACEMENT, str(value)))}</{name}>"


def _camel(key: str) -> str:
    return "".join(part.capitalize() for part in key.split("_"))
