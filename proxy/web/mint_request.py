"""What `POST /links` is asked for: JSON or a provider's webhook form, into frozen values, with every fault named."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar
from urllib.parse import parse_qsl

from proxy.clients import Client
from proxy.errors import BadRequest, FieldProblem, IdentifierError
from proxy.links import NO_CLAIMS, Claims, LinkPolicy
from proxy.model import AccountSid, MediaRef, MediaSid, MessageRef, MessageSid
from proxy.upstream.providers import Accounts, parse_media_url

MOST_MEDIA: Final = 100
_FIELDS: Final = frozenset({"media", "message", "ttl", "not_before", "filename", "disposition", "ip", "scope"})
_MEDIA_FIELDS: Final = ("account_sid", "message_sid", "media_sid")
_MESSAGE_FIELDS: Final = ("account_sid", "message_sid")
_FORM_FIELDS: Final = 500
_LONGEST_NAME: Final = 64
_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_MEDIA_URL: Final = re.compile(r"MediaUrl[0-9]+")
_UNCONFIGURED: Final = "is of an account that is not configured here"

Sid = TypeVar("Sid", AccountSid, MessageSid, MediaSid)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request is judged by: who asks, the accounts, how long links live, and Unix time in seconds."""

    client: Client
    accounts: Accounts
    policy: LinkPolicy
    now: float

    def lacks(self, account: AccountSid) -> bool:
        """Whether the client may use that account and it is not configured. Of others' accounts nothing is said."""
        return self.client.sees(account) and self.accounts.get(account) is None


@dataclass(frozen=True, slots=True)
class MintRequest:
    """Links to these media, or to every media of `message`; `ttl` in seconds, None for the default."""

    media: tuple[MediaRef, ...] = ()
    message: MessageRef | None = None
    ttl: int | None = None
    claims: Claims = NO_CLAIMS

    @property
    def accounts(self) -> frozenset[AccountSid]:
        """The accounts that it touches."""
        named = {ref.account for ref in self.media}
        return frozenset(named if self.message is None else {*named, self.message.account})


class _Faults:
    def __init__(self) -> None:
        self.found: list[FieldProblem] = []

    def add(self, field: str, message: str) -> None:
        self.found.append(FieldProblem(field, message))

    def check(self) -> None:
        if self.found:
            raise BadRequest("Some fields of the request are not right.", errors=self.found)


# --- JSON -----------------------------------------------------------------------------------------------------


def parse_json(body: bytes, terms: Terms) -> MintRequest:
    """From a JSON body. Raises `BadRequest` with every bad field, named by its JSON pointer without the first `/`."""
    faults = _Faults()
    try:
        # RFC 8259 §8.1: UTF-8 alone. Of a name that stands twice it is not said which value counts (§4).
        document: object = json.loads(
            body.decode(), object_pairs_hook=lambda pairs: _once(pairs, faults), parse_constant=_no_number
        )
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise BadRequest("The body is not a JSON object.")
    for name in document:
        if name not in _FIELDS:
            faults.add(_shown(name), "is not a field of this request")
    if ("media" in document) == ("message" in document):
        faults.add("media", "give either media or message")
    media = _media(document["media"], terms, faults) if "media" in document else ()
    message = _message(document["message"], terms, faults) if "message" in document else None
    ttl = _whole(document, "ttl", faults)
    claims = _claims(document, faults)
    _judge_life(ttl, claims, terms, faults)
    faults.check()
    return MintRequest(media, message, ttl, claims)


def _once(pairs: Sequence[tuple[str, object]], faults: _Faults) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            faults.add(_shown(name), "stands twice in one object")
        members[name] = value
    return members


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON (RFC 8259 §6)")


def _shown(name: str) -> str:
    """A member's name as a JSON pointer has it (RFC 6901 §3), cut short, and with nothing that has no UTF-8."""
    pointer = name[:_LONGEST_NAME].replace("~", "~0").replace("/", "~1")
    return pointer.encode(errors="backslashreplace").decode()


def _judge_life(ttl: int | None, claims: Claims, terms: Terms, faults: _Faults) -> None:
    problem = None if ttl is None else terms.policy.ttl_problem(ttl)
    if problem is not None:
        faults.found.append(problem)
        return
    expires = terms.policy.expires(terms.now, terms.policy.default_ttl if ttl is None else ttl)
    if claims.not_before is not None and claims.not_before >= expires:
        faults.add("not_before", "must be before the link expires")


def _media(listed: object, terms: Terms, faults: _Faults) -> tuple[MediaRef, ...]:
    if not isinstance(listed, list):
        faults.add("media", "must be an array")
        return ()
    if not 1 <= len(listed) <= MOST_MEDIA:
        faults.add("media", f"must have 1 to {MOST_MEDIA} members")
        return ()
    found: list[MediaRef] = []
    for place, member in enumerate(listed):
        ref = _one_media(f"media/{place}", member, terms, faults)
        if ref is not None:
            found.append(ref)
    return tuple(found)


def _one_media(field: str, member: object, terms: Terms, faults: _Faults) -> MediaRef | None:
    if not isinstance(member, dict):
        faults.add(field, "must be an object with url, or with account_sid, message_sid and media_sid")
        return None
    try:
        if "url" in member:
            if len(member) > 1 or not isinstance(member["url"], str):
                faults.add(field, "must have url, a string, and nothing else")
                return None
            return parse_media_url(member["url"], terms.accounts)
        texts = _texts(field, member, _MEDIA_FIELDS, faults)
        if texts is None:
            return None
        account = _account(f"{field}/account_sid", texts[0], terms, faults)
        message = _identifier(f"{field}/message_sid", MessageSid, texts[1], faults)
        media = _identifier(f"{field}/media_sid", MediaSid, texts[2], faults)
        return MediaRef(account, message, media) if account and message and media else None
    except IdentifierError as error:
        faults.add(f"{field}/url" if "url" in member else field, error.detail)
        return None


def _message(member: object, terms: Terms, faults: _Faults) -> MessageRef | None:
    if not isinstance(member, dict):
        faults.add("message", "must be an object with account_sid and message_sid")
        return None
    texts = _texts("message", member, _MESSAGE_FIELDS, faults)
    if texts is None:
        return None
    account = _account("message/account_sid", texts[0], terms, faults)
    message = _identifier("message/message_sid", MessageSid, texts[1], faults)
    try:
        return MessageRef(account, message) if account and message else None
    except IdentifierError as error:
        faults.add("message", error.detail)
        return None


def _texts(field: str, member: Mapping[str, object], names: Sequence[str], faults: _Faults) -> tuple[str, ...] | None:
    before = len(faults.found)
    for name in member:
        if name not in names:
            faults.add(f"{field}/{_shown(name)}", "is not a field of this object")
    texts: list[str] = []
    for name in names:
        text = member.get(name)
        if isinstance(text, str):
            texts.append(text)
        else:
            faults.add(f"{field}/{name}", "must be a string" if name in member else "is missing")
    return tuple(texts) if len(faults.found) == before else None


def _identifier(field: str, kind: type[Sid], text: str, faults: _Faults) -> Sid | None:
    try:
        return kind.parse(text)
    except IdentifierError as error:
        faults.add(field, error.detail)
        return None


def _account(field: str, text: str, terms: Terms, faults: _Faults) -> AccountSid | None:
    account = _identifier(field, AccountSid, text, faults)
    if account is not None and terms.lacks(account):
        faults.add(field, _UNCONFIGURED)
    return account


def _whole(document: Mapping[str, object], name: str, faults: _Faults) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    # JSON has one kind of number, and Python takes true for 1.
    if isinstance(value, bool) or not isinstance(value, int):
        faults.add(name, "must be a whole number")
        return None
    return value


def _text(document: Mapping[str, object], name: str, faults: _Faults) -> str | None:
    value = document.get(name)
    if value is None or isinstance(value, str):
        return value
    faults.add(name, "must be a string")
    return None


def _claims(document: Mapping[str, object], faults: _Faults) -> Claims:
    not_before = _whole(document, "not_before", faults)
    texts = {name: _text(document, name, faults) for name in ("ip", "filename", "disposition", "scope")}
    try:
        return Claims.parse(not_before=not_before, **texts)
    except BadRequest as error:
        faults.found.extend(error.errors)
        return NO_CLAIMS


# --- a provider's webhook -------------------------------------------------------------------------------------


def parse_webhook(body: bytes, terms: Terms) -> MintRequest:
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
    faults = _Faults()
    count = form.get("NumMedia", "")
    if not _COUNT.fullmatch(count) or int(count) > MOST_MEDIA:
        faults.add("NumMedia", f"must be a number from 0 to {MOST_MEDIA}" if count else "is missing")
    faults.check()
    names = [f"MediaUrl{place}" for place in range(int(count))]
    for name in form:
        if _MEDIA_URL.fullmatch(name) and name not in names:
            faults.add(name[:_LONGEST_NAME], "is beyond NumMedia")
    found = [ref for name in names if (ref := _webhook_media(form, name, terms, faults)) is not None]
    faults.check()
    return MintRequest(tuple(found))


def _webhook_media(form: Mapping[str, str], name: str, terms: Terms, faults: _Faults) -> MediaRef | None:
    if name not in form:
        faults.add(name, "is missing")
        return None
    try:
        ref = parse_media_url(form[name], terms.accounts)
    except IdentifierError as error:
        faults.add(name, error.detail)
        return None
    if "AccountSid" in form and form["AccountSid"].lower() != str(ref.account).lower():
        faults.add(name, "is of another account than AccountSid")
    if "MessageSid" in form and form["MessageSid"].lower() != str(ref.message).lower():
        faults.add(name, "is of another message than MessageSid")
    return ref
