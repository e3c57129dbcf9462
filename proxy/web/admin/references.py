"""References to media in a request: by identifiers, by the provider's URL, or by a whole message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from proxy.clients import Client
from proxy.erasure import Reach
from proxy.errors import FieldProblem, Forbidden, IdentifierError
from proxy.links import MediaUrl
from proxy.model import AccountSid, MediaRef, MediaSid, MessageRef, MessageSid
from proxy.upstream.providers import Accounts, media_of_account
from proxy.web.http.json_body import Faults, shown

MOST_MEDIA: Final = 100
_MEDIA_FIELDS: Final = ("account_sid", "message_sid", "media_sid")
_MESSAGE_FIELDS: Final = ("account_sid", "message_sid")
_UNCONFIGURED: Final = "belongs to an account that is not configured here"

Sid = TypeVar("Sid", AccountSid, MessageSid, MediaSid)


@dataclass(frozen=True, slots=True)
class Asker:
    """A client that refers to media, and the accounts that are configured."""

    client: Client
    accounts: Accounts

    def sees(self, account: AccountSid) -> bool:
        """Return whether the client may use that account, if there is one."""
        return self.client.sees(account, self.accounts)

    def has(self, account: AccountSid) -> bool:
        """Return whether the client may use that account, and it is configured."""
        return self.sees(account) and account in self.accounts

    def lacks(self, account: AccountSid) -> bool:
        """Return whether the client may use that account, but it is not configured.

        Nothing is said of accounts that the client may not use.
        """
        return self.sees(account) and account not in self.accounts

    def media_at(self, url: str) -> MediaRef:
        """Return the media that a provider's URL, or the path of such a URL, names. Raises `IdentifierError`.

        A media of an account that the client may not use is refused later, and the refusal does not tell whether that
        account exists.
        """
        named = MediaUrl.parse(url)
        return media_of_account(named, self.accounts) if self.sees(named.ref.account) else named.ref


@dataclass(frozen=True, slots=True)
class References:
    """References to some media, or to every media of `message`.

    `field` is the name of a media's field in the request, with its place from 0.
    """

    media: tuple[MediaRef, ...] = ()
    message: MessageRef | None = None
    field: str = "media[{}]"

    @property
    def named(self) -> tuple[tuple[str, MediaRef | MessageRef], ...]:
        """Return the media or the message, each with the name of its field."""
        if self.message is not None:
            return (("message", self.message),)
        return tuple((self.field.format(place), ref) for place, ref in enumerate(self.media))

    def require_seen_by(self, asker: Asker) -> None:
        """Raise `Forbidden` with every reference to an account that the client may not use."""
        refuse_accounts((field for field, subject in self.named if not asker.sees(subject.account)), asker.client)

    @property
    def reaches(self) -> tuple[Reach, ...]:
        """The reach of each reference."""
        media = tuple(Reach.of(ref) for ref in self.media)
        return media if self.message is None else (*media, Reach.of(self.message))


def refuse_accounts(fields: Iterable[str], client: Client) -> None:
    """Raise `Forbidden` if there are any fields, each of which names an account that the client may not use."""
    problems = [FieldProblem(field, "belongs to an account that this client may not use") for field in fields]
    if problems:
        raise Forbidden("This client may not use this account.", errors=problems, note=f"client {client.id}")


def parse_references(
    document: Mapping[str, object], asker: Asker, faults: Faults, also: frozenset[str] = frozenset()
) -> References:
    """Parse the members `media` and `message` of a request, exactly one of which has to be there.

    An object of `media` may also have the members named in `also`, which the caller reads.
    """
    if ("media" in document) == ("message" in document):
        faults.add("media", "must be given, or message, but not both")
    media = _media(document["media"], asker, faults, also) if "media" in document else ()
    message = _message(document["message"], asker, faults) if "message" in document else None
    return References(media, message)


def _media(listed: object, asker: Asker, faults: Faults, also: frozenset[str]) -> tuple[MediaRef, ...]:
    if not isinstance(listed, list):
        faults.add("media", "must be an array")
        return ()
    if not 1 <= len(listed) <= MOST_MEDIA:
        faults.add("media", f"must have 1 to {MOST_MEDIA} members")
        return ()
    found: list[MediaRef] = []
    for place, member in enumerate(listed):
        ref = _one_media(f"media[{place}]", member, asker, faults, also)
        if ref is not None:
            found.append(ref)
    return tuple(found)


def _one_media(field: str, member: object, asker: Asker, faults: Faults, also: frozenset[str]) -> MediaRef | None:
    if not isinstance(member, dict):
        faults.add(field, "must be an object with url, or with account_sid, message_sid and media_sid")
        return None
    try:
        if "url" in member:
            if not member.keys().isdisjoint(_MEDIA_FIELDS):
                faults.add(field, "must have either url or the three identifiers")
                return None
            texts = _texts(field, member, ("url",), faults, also)
            return None if texts is None else asker.media_at(texts[0])
        texts = _texts(field, member, _MEDIA_FIELDS, faults, also)
        if texts is None:
            return None
        account = _account(f"{field}.account_sid", texts[0], asker, faults)
        message = _identifier(f"{field}.message_sid", MessageSid, texts[1], faults)
        media = _identifier(f"{field}.media_sid", MediaSid, texts[2], faults)
        return MediaRef(account, message, media) if account and message and media else None
    except IdentifierError as error:
        faults.add(f"{field}.url" if "url" in member else field, error.detail)
        return None


def _message(member: object, asker: Asker, faults: Faults) -> MessageRef | None:
    if not isinstance(member, dict):
        faults.add("message", "must be an object with account_sid and message_sid")
        return None
    texts = _texts("message", member, _MESSAGE_FIELDS, faults)
    if texts is None:
        return None
    account = _account("message.account_sid", texts[0], asker, faults)
    message = _identifier("message.message_sid", MessageSid, texts[1], faults)
    try:
        return MessageRef(account, message) if account and message else None
    except IdentifierError as error:
        faults.add("message", error.detail)
        return None


def _texts(
    field: str,
    member: Mapping[str, object],
    names: Sequence[str],
    faults: Faults,
    also: frozenset[str] = frozenset(),
) -> tuple[str, ...] | None:
    before = len(faults.found)
    for name in member:
        if name not in names and name not in also:
            faults.add(f"{field}.{shown(name)}", "is not a field of this object")
    texts: list[str] = []
    for name in names:
        text = member.get(name)
        if isinstance(text, str):
            texts.append(text)
        else:
            faults.add(f"{field}.{name}", "must be a string" if name in member else "is missing")
    return tuple(texts) if len(faults.found) == before else None


def _identifier(field: str, kind: type[Sid], text: str, faults: Faults) -> Sid | None:
    try:
        return kind.parse(text)
    except IdentifierError as error:
        faults.add(field, error.detail)
        return None


def _account(field: str, text: str, asker: Asker, faults: Faults) -> AccountSid | None:
    account = _identifier(field, AccountSid, text, faults)
    if account is not None and asker.lacks(account):
        faults.add(field, _UNCONFIGURED)
    return account
