"""What `POST /links` is asked for in JSON, into frozen values, with every fault named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.errors import BadRequest
from proxy.links import NO_CLAIMS, Claims, LinkPolicy
from proxy.web.json_body import Faults, read_object, text, whole_number
from proxy.web.references import Asker, References, parse_references

_FIELDS: Final = frozenset({"media", "message", "ttl", "not_before", "filename", "disposition", "ip", "scope"})


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request is judged by: who asks, how long links live, and Unix time in seconds."""

    asker: Asker
    policy: LinkPolicy
    now: float


@dataclass(frozen=True, slots=True)
class MintRequest:
    """Links to these media; `ttl` in seconds, None for the default."""

    references: References
    ttl: int | None = None
    claims: Claims = NO_CLAIMS


def parse_json(body: bytes, terms: Terms) -> MintRequest:
    """From a JSON body. Raises `BadRequest` with every bad field, named by its JSON pointer without the first `/`."""
    faults = Faults()
    document = read_object(body, _FIELDS, faults)
    references = parse_references(document, terms.asker, faults)
    ttl = whole_number(document, "ttl", faults)
    claims = _claims(document, faults)
    _judge_life(ttl, claims, terms, faults)
    faults.check()
    return MintRequest(references, ttl, claims)


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
