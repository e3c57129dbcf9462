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
from proxy.sandbox.listing import Listed, Page, PageUris, Query, paginate, uris
from proxy.sandbox.messages import Direction, Media, Message
from proxy.sandbox.storage import Storage
from proxy.sandbox.targets import Documented, Form, media_path, message_path

T = TypeVar("T", bound=Listed)

Value = str | int | None | Mapping[str, str]
Properties = Mapping[str, Value]

# What no XML 1.0 document may hold, however it is written.
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPLACEMENT: Final = "\ufffd"
_XML_HEAD: Final = "<?xml version='1.0' encoding='UTF-8'?>\n"
_CONTENT_TYPES: Final = {Form.JSON: "application/json", Form.XML: "application/xml"}


@dataclass(frozen=True, slots=True)
class Document:
    """A body and its type."""

    content_type: str
    octets: bytes


def document(storage: Storage, target: Documented, query: str) -> Document | None:
    """Return the document that a target names, or None if there is none. Raises `QueryError`."""
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
            path = f"{message_path(parent)}/Media{f'.{form}' if twilio else ''}"
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


def media_properties(media: Media, form: Form) -> Properties:
    """The seven properties of a media."""
    return {
        "sid": media.sid,
        "account_sid": media.ref.account.value,
        "parent_sid": media.ref.message.value,
        "content_type": media.content_type,
        "date_created": date(media.date_created),
        "date_updated": date(media.date_created),
        "uri": f"{media_path(media.ref)}.{form}",
    }


def message_properties(message: Message, form: Form, *, created: bool = False) -> Properties:
    """The properties of a message; `created`: in the answer to its creation, which comes before it is sent."""
    match message.ref.provider:
        case Provider.TWILIO:
            return _twilio_message(message, form, created=created)
        case Provider.SIGNALWIRE:
            return _signalwire_message(message, created=created)
        case _:
            assert_never(message.ref.provider)


def _twilio_message(message: Message, form: Form, *, created: bool) -> Properties:
    path = message_path(message.ref)
    moment = date(message.date_created)
    return {
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
        "num_media": str(len(message.media)),
        "num_segments": "1",
        "price": None,
        "price_unit": None,
        "sid": message.sid,
        "status": _status(message, created=created),
        "subresource_uris": {"media": f"{path}/Media.{form}"},
        "to": message.to,
        "uri": f"{path}.{form}",
    }


def _signalwire_message(message: Message, *, created: bool) -> Properties:
    # Its numbers are numbers, and its URIs have no suffix.
    path = message_path(message.ref)
    moment = date(message.date_created)
    return {
        "account_sid": message.ref.account.value,
        "api_version": "2010-04-01",
        "body": message.body,
        "num_segments": 1,
        "num_media": len(message.media),
        "date_created": moment,
        "date_sent": None if created else moment,
        "date_updated": moment,
        "direction": message.direction.value,
        "error_code": None,
        "error_message": None,
        "from": message.from_ or None,
        "price": None,
        "price_unit": "USD",
        "sid": message.sid,
        "status": _status(message, created=created),
        "to": message.to,
        "messaging_service_sid": message.messaging_service_sid,
        "uri": path,
        "subresource_uris": {"media": f"{path}/Media"},
    }


def _status(message: Message, *, created: bool) -> str:
    if message.direction is Direction.INBOUND:
        return "received"
    return "queued" if created else "delivered"


def instance(name: str, properties: Properties, form: Form) -> Document:
    """One resource; `name` is its element in XML."""
    match form:
        case Form.JSON:
            return _json(properties)
        case Form.XML:
            return _xml(_element(name, properties))
        case _:
            assert_never(form)


def listed(
    key: str, name: str, items: Sequence[Properties], page: Page[T], uris: PageUris, form: Form, provider: Provider
) -> Document:
    """A page of a list; `key` names the items in JSON, `name` is the element of one in XML."""
    match form:
        case Form.JSON:
            places = {"end": page.end, "start": page.start} if provider is Provider.TWILIO else {}
            return _json({
                **places,
                "first_page_uri": uris.first,
                key: items,
                "next_page_uri": uris.next,
                "page": page.query.page,
                "page_size": page.query.size,
                "previous_page_uri": uris.previous,
                "uri": uris.this,
            })  # fmt: skip
        case Form.XML:
            attributes = {
                "end": str(page.end),
                "firstpageuri": uris.first,
                "nextpageuri": uris.next or "",
                "page": str(page.query.page),
                "pagesize": str(page.query.size),
                "previouspageuri": uris.previous or "",
                "start": str(page.start),
                "uri": uris.this,
            }
            written = "".join(f" {attribute}={quoteattr(value)}" for attribute, value in attributes.items())
            inner = "".join(_element(name, item) for item in items)
            return _xml(f"<{name}List{written}>{inner}</{name}List>")
        case _:
            assert_never(form)


def error(status: int, code: int, message: str, form: Form, detail: str | None = None) -> Document:
    """An error with its four fields, and a `detail` where the provider gives one."""
    properties: dict[str, Value] = {"code": code}
    if detail is not None:
        properties["detail"] = detail
    properties |= {"message": message, "more_info": f"https://www.twilio.com/docs/errors/{code}", "status": status}
    return instance("RestException", properties, form)


def storage_error(code: str, message: str, extra: Mapping[str, str] | None = None) -> Document:
    """An error as an object store writes it."""
    fields = {"Code": code, "Message": message, **(extra or {})}
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'
    return Document("application/xml", text.encode("utf-8", "replace"))


def _json(value: object) -> Document:
    return Document(_CONTENT_TYPES[Form.JSON], json.dumps(value, ensure_ascii=False, default=dict).encode())


def _xml(inner: str) -> Document:
    return Document(_CONTENT_TYPES[Form.XML], f"{_XML_HEAD}<TwilioResponse>{inner}</TwilioResponse>".encode())


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
