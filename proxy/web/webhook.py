"""A provider's webhook for an incoming message, as a request for links to its media."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from proxy.errors import BadRequest, IdentifierError
from proxy.model import MediaRef
from proxy.upstream.providers import parse_media_url
from proxy.web.json_body import LONGEST_NAME, Faults
from proxy.web.mint_request import MintRequest
from proxy.web.references import MOST_MEDIA, Asker, References

FORM: Final = "application/x-www-form-urlencoded"
_FORM_FIELDS: Final = 500
_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_MEDIA_URL: Final = re.compile(r"MediaUrl[0-9]+")


def parse_webhook(body: bytes, asker: Asker) -> MintRequest:
    """From the form that a provider posts for an incoming message: `NumMedia` and `MediaUrl0`, `MediaUrl1`, …

    Other fields are the provider's and are passed over; where the form names its account or message, every media has
    to be of it. Raises `BadRequest` with every bad field.
    """
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS)
    except ValueError:
        raise BadRequest("The body is not a form.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadRequest("The form has a field twice.")
    faults = Faults()
    count = form.get("NumMedia", "")
    if not _COUNT.fullmatch(count) or int(count) > MOST_MEDIA:
        faults.add("NumMedia", f"must be a number from 0 to {MOST_MEDIA}" if count else "is missing")
    faults.check()
    names = [f"MediaUrl{place}" for place in range(int(count))]
    for name in form:
        if _MEDIA_URL.fullmatch(name) and name not in names:
            faults.add(name[:LONGEST_NAME], "is beyond NumMedia")
    found = [ref for name in names if (ref := _webhook_media(form, name, asker, faults)) is not None]
    faults.check()
    return MintRequest(References(tuple(found)))


def _webhook_media(form: Mapping[str, str], name: str, asker: Asker, faults: Faults) -> MediaRef | None:
    if name not in form:
        faults.add(name, "is missing")
        return None
    try:
        ref = parse_media_url(form[name], asker.accounts)
    except IdentifierError as error:
        faults.add(name, error.detail)
        return None
    if "AccountSid" in form and form["AccountSid"].lower() != str(ref.account).lower():
        faults.add(name, "is of another account than AccountSid")
    if "MessageSid" in form and form["MessageSid"].lower() != str(ref.message).lower():
        faults.add(name, "is of another message than MessageSid")
    return ref
