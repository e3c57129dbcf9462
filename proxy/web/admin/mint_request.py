"""Requests of `POST /links` as frozen values, from a JSON body or a form with a query. Every fault is named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from proxy.errors import BadRequest, FieldProblem
from proxy.links import NO_CLAIMS, Claims, LinkPolicy
from proxy.model import MediaRef
from proxy.web.admin.references import MOST_MEDIA, Asker, References, parse_references
from proxy.web.http.json_body import Faults, read_object, shown, text, whole_number

_WISHES: Final = frozenset({"ttl", "not_before", "filename", "disposition", "ip", "scope"})
_OWN: Final = frozenset({"filename", "disposition"})
_FIELDS: Final = frozenset({"media", "message"}) | _WISHES
_PARAMETERS: Final = 100
# More digits than any number of seconds has, and fewer than Python refuses to read.
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms on which a request is judged: the asker, the policy of links, and the Unix time in seconds."""

    asker: Asker
    policy: LinkPolicy
    now: float


class Wanted(NamedTuple):
    """A link that is asked for; `content_type` is the media's, None if the request does not state it."""

    ref: MediaRef
    claims: Claims
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class MintRequest:
    """A request for links to some media; `ttl` in seconds, None for the default.

    `claims` apply to every link, unless `own` has claims for each of the named media. `types` are the content types of
    the named media, if the request states them.
    """

    references: References
    ttl: int | None = None
    claims: Claims = NO_CLAIMS
    own: tuple[Claims, ...] = ()
    types: tuple[str | None, ...] = ()

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The links to the named media, in their order."""
        media = self.references.media
        claims = self.own or (self.claims,) * len(media)
        types = self.types or (None,) * len(media)
        return tuple(map(Wanted, media, claims, types))


def parse_json(body: bytes, terms: Terms, query: str = "") -> MintRequest:
    """Parse a JSON body, beside which the query has to be empty.

    Raises `BadRequest` with every bad field, named by its place (`media[3].url`).
    """
    faults = Faults()
    for name in dict.fromkeys(name for name, _ in _pairs(query)) if query else ():
        faults.add(shown(name) or "query", "must be in the JSON body, and not in the query")
    if query and not faults.found:
        faults.add("query", "must be empty beside a JSON body")
    document = read_object(body, _FIELDS, faults)
    references = parse_references(document, terms.asker, faults, _OWN)
    ttl, claims = _wishes(document, terms, faults)
    own = _own_claims(document.get("media"), claims, faults)
    faults.check()
    return MintRequest(references, ttl, claims, own)


def read_query(query: str, terms: Terms, faults: Faults) -> tuple[int | None, Claims]:
    """Read the wishes in a query of `name=value` pairs, as in a form: the life in seconds, and the claims.

    Raises `BadRequest` if it is not of that form.
    """
    document: dict[str, object] = {}
    for name, value in _pairs(query):
        if name not in _WISHES:
            faults.add(shown(name) or "query", "is not a parameter of this request")
        elif name in document:
            faults.add(name, "must not be repeated")
        else:
            number = name in {"ttl", "not_before"} and _NUMBER.fullmatch(value)
            document[name] = int(value) if number else value
    return _wishes(document, terms, faults)


def _pairs(query: str) -> Sequence[tuple[str, str]]:
    try:
        octets = query.encode("ascii").decode()
        return parse_qsl(octets, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS)
    except ValueError:
        raise BadRequest("The query must consist of name=value pairs.") from None


def _wishes(document: Mapping[str, object], terms: Terms, faults: Faults) -> tuple[int | None, Claims]:
    ttl = whole_number(document, "ttl", faults)
    claims = _claims(document, faults)
    _judge_life(ttl, claims, terms, faults)
    return ttl, claims


def _judge_life(ttl: int | None, claims: Claims, terms: Terms, faults: Faults) -> None:
    problem = None if ttl is None else terms.policy.ttl_problem(ttl)
    if problem is not None:
        faults.found.append(problem)
        return
    expires = terms.policy.expires(terms.now, terms.policy.default_ttl if ttl is None else ttl)
    if claims.not_before is not None and claims.not_before >= expires:
        faults.add("not_before", "must be before the link expires")


def _claims(document: Mapping[str, object], faults: Faults) -> Claims:
    not_before = whole_number(document, "not_before", faults)
    texts = {name: text(document, name, faults) for name in ("ip", "filename", "disposition", "scope")}
    try:
        return Claims.parse(not_before=not_before, **texts)
    except BadRequest as error:
        faults.found.extend(error.errors)
        return NO_CLAIMS


def _own_claims(listed: object, common: Claims, faults: Faults) -> tuple[Claims, ...]:
    """Return the claims of each media in a list: its own file name and disposition win over the common ones."""
    if not isinstance(listed, list) or len(listed) > MOST_MEDIA:
        return ()
    return tuple(_with_own(f"media[{place}]", member, common, faults) for place, member in enumerate(listed))


def _with_own(field: str, member: object, common: Claims, faults: Faults) -> Claims:
    if not isinstance(member, dict) or _OWN.isdisjoint(member):
        return common
    found = Faults()
    filename, disposition = (text(member, name, found) for name in ("filename", "disposition"))
    own = NO_CLAIMS
    try:
        own = Claims.parse(filename=filename, disposition=disposition)
    except BadRequest as error:
        found.found.extend(error.errors)
    faults.found.extend(FieldProblem(f"{field}.{fault.field}", fault.message) for fault in found.found)
    return replace(common, filename=own.filename or common.filename, disposition=own.disposition or common.disposition)
