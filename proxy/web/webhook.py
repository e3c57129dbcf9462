"""A provider's webhook for an incoming message, as a request for links to its media."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from proxy.errors import BadRequest, IdentifierError
from proxy.model import AccountSid, MediaRef, MessageSid
from proxy.web.json_body import Faults, shown
from proxy.web.mint_request import MintRequest
from proxy.web.references import MOST_MEDIA, Asker, References

FORM: Final = "application/x-www-form-urlencoded"
_FORM_FIELDS: Final = 500
_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_MEDIA_URL: Final = re.compile(r"MediaUrl[0-9]+")
_ACCOUNT: Final = ("AccountSid",)
# The last two are the first under older names, which are still sent.
_MESSAGE: Final = ("MessageSid", "SmsMessageSid", "SmsSid")

Sid = TypeVar("Sid", AccountSid, MessageSid)


def parse_webhook(body: bytes, asker: Asker) -> MintRequest:
    """From the form that a provider posts for an incoming message: `NumMedia` and `MediaUrl0`, `MediaUrl1`, …

    A form is about one message: every media has to be of it, whether or not the form names it. Other fields are the
    provider's and are passed over. Raises `BadRequest` with every bad field.
    """
    faults = Faults()
    form = _read(body, faults)
    media = dict(_media(form, asker, faults))
    accounts = [*_stated(form, _ACCOUNT, AccountSid, faults), *((name, ref.account) for name, ref in media.items())]
    messages = [*_stated(form, _MESSAGE, MessageSid, faults), *((name, ref.message) for name, ref in media.items())]
    _require_one("account", accounts, faults)
    _require_one("message", messages, faults)
    faults.check()
    return MintRequest(References(tuple(media.values())))


def _read(body: bytes, faults: Faults) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS)
    except ValueError:
        raise BadRequest("The body is not a form.") from None
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form:
            faults.add(shown(name), "stands twice")
        form[name] = value
    return form


def _media(form: Mapping[str, str], asker: Asker, faults: Faults) -> Iterator[tuple[str, MediaRef]]:
    """The media that the form counts, each by the name of its field."""
    count = form.get("NumMedia", "")
    if not _COUNT.fullmatch(count) or int(count) > MOST_MEDIA:
        faults.add("NumMedia", f"must be a number from 0 to {MOST_MEDIA}" if count else "is missing")
        return
    names = [f"MediaUrl{place}" for place in range(int(count))]
    for name in form:
        if _MEDIA_URL.fullmatch(name) and name not in names:
            faults.add(shown(name), "is none of the media that NumMedia counts")
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
    """The identifiers in those fields, as far as they are there."""
    for name in names:
        if form.get(name):
            try:
                yield name, kind.parse(form[name])
            except IdentifierError as error:
                faults.add(name, error.detail)


def _require_one(noun: str, stated: Sequence[tuple[str, AccountSid | MessageSid]], faults: Faults) -> None:
    """Every field is about the same account or message; one that differs from the first is at fault."""
    for name, sid in stated[1:]:
        first, expected = stated[0]
        if sid != expected:
            faults.add(name, f"is of another {noun} than {first}")
