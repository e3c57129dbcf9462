"""The webhook of an incoming message, read as a request for links to its media.

The backend that passes a webhook on has checked the provider's signature; here it is a client's request like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from proxy.errors import BadRequest, IdentifierError
from proxy.model import AccountSid, MediaRef, MessageSid
from proxy.semantics.disposition import stated_type
from proxy.web.admin.mint_request import MintRequest, Terms, read_query
from proxy.web.admin.references import MOST_MEDIA, Asker, References, refuse_accounts
from proxy.web.http.json_body import Faults, shown

FORM: Final = "application/x-www-form-urlencoded"
_FORM_FIELDS: Final = 500
_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_MEDIA: Final = "MediaUrl{}"
_MEDIA_URL: Final = re.compile(r"MediaUrl[0-9]+")
_ACCOUNT: Final = ("AccountSid",)
# The last two are older names of the first, which providers still send.
_MESSAGE: Final = ("MessageSid", "SmsMessageSid", "SmsSid")

Sid = TypeVar("Sid", AccountSid, MessageSid)


def parse_webhook(body: bytes, terms: Terms, query: str = "") -> MintRequest:
    """Parse the form that a provider posts for an incoming message: `NumMedia` and `MediaUrl0`, `MediaUrl1`, …

    A form is about one message: every media has to belong to it, whether or not the form names the message. Other
    fields of the form are passed over; the wishes for the links are in the query. Raises `BadRequest` with every bad
    field, and `Forbidden` for a form without media if the client may not use its account.
    """
    faults = Faults()
    ttl, claims = read_query(query, terms, faults)
    form = _read(body, faults)
    media = dict(_media(form, terms.asker, faults))
    stated = dict(_stated(form, _ACCOUNT, AccountSid, faults))
    accounts = [*stated.items(), *((name, ref.account) for name, ref in media.items())]
    messages = [*_stated(form, _MESSAGE, MessageSid, faults), *((name, ref.message) for name, ref in media.items())]
    _require_one("account", accounts, faults)
    _require_one("message", messages, faults)
    faults.check()
    if not media:
        # Nothing is minted, but a client may not send the form of an account that it may not use either.
        refuse_accounts((name for name, account in stated.items() if not terms.asker.has(account)), terms.asker.client)
    types = tuple(stated_type(form.get(f"MediaContentType{place}")) for place in range(len(media)))
    return MintRequest(References(tuple(media.values()), field=_MEDIA), ttl, claims, types=types)


def _read(body: bytes, faults: Faults) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS)
    except ValueError:
        raise BadRequest("The body must be a form of name=value pairs.") from None
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form:
            faults.add(shown(name), "must not be repeated")
        form[name] = value
    return form


def _media(form: Mapping[str, str], asker: Asker, faults: Faults) -> Iterator[tuple[str, MediaRef]]:
    """Yield the media that the form counts, each with the name of its field."""
    count = form.get("NumMedia", "")
    if not _COUNT.fullmatch(count) or int(count) > MOST_MEDIA:
        faults.add("NumMedia", f"must be a number from 0 to {MOST_MEDIA}" if count else "is missing")
        return
    names = [_MEDIA.format(place) for place in range(int(count))]
    for name in form:
        if _MEDIA_URL.fullmatch(name) and name not in names:
            faults.add(shown(name), "is not one of the media that NumMedia counts")
    for name in names:
        if name not in form:
            faults.add(name, "is missing")
            continue
        try:
            yield name, asker.media_at(form[name])
        except IdentifierError as error:
            faults.add(name, error.detail)


def _stated(
    form: Mapping[str, str], names: Sequence[str], kind: type[Sid], faults: Faults
) -> Iterator[tuple[str, Sid]]:
    """Yield the identifiers in those fields, as far as they are there."""
    for name in names:
        if form.get(name):
            try:
                yield name, kind.parse(form[name])
            except IdentifierError as error:
                faults.add(name, error.detail)


def _require_one(noun: str, stated: Sequence[tuple[str, AccountSid | MessageSid]], faults: Faults) -> None:
    """Require that all fields name the same account or message; each one that differs from the first is at fault."""
    for name, sid in stated[1:]:
        first, expected = stated[0]
        if sid != expected:
            faults.add(name, f"belongs to another {noun} than {first}")
