"""The reasons why a signed link is accepted or refused, claim by claim.

They never repeat a signature, a secret or an unread value.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from proxy.errors import LinkError, LinkMalformed, LinkSignatureInvalid
from proxy.links.alterations import find_alterations
from proxy.links.claims import LinkScope
from proxy.links.keys import KeyRing
from proxy.links.policy import LEEWAY_SECONDS, LinkPolicy
from proxy.links.public_url import split_public_url
from proxy.links.target import (
    IDENTIFIER,
    LONGEST_TARGET,
    NAME,
    SIGNATURE,
    VALUE,
    SignedTarget,
    read_target,
    without_mount,
)
from proxy.links.verify import (
    VerifiedLink,
    require_client,
    require_key,
    require_lifetime,
    require_signature,
    require_started,
    require_unexpired,
)
from proxy.model import IPAddress

_ORIGIN: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_PATH: Final = re.compile(rf"/media/{IDENTIFIER}/{IDENTIFIER}/{IDENTIFIER}", re.ASCII)
_PARAMETER: Final = re.compile(rf"{NAME}={VALUE}", re.ASCII)
_SIGNATURE: Final = re.compile(SIGNATURE, re.ASCII)


class FindingState(enum.StrEnum):
    """OK holds, BAD refuses the link, INFO decides nothing."""

    OK = "ok"
    BAD = "bad"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim or rule by its name, whether it holds, and a sentence for a person."""

    name: str
    state: FindingState
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The findings in the order in which the gateway looks, and what it decides.

    Exactly one of `link` and `refusal` is there. If several findings are bad, `refusal` is the first one's.
    """

    findings: tuple[Finding, ...]
    link: VerifiedLink | None
    refusal: LinkError | None

    @property
    def accepted(self) -> bool:
        return self.refusal is None

    @property
    def status(self) -> int:
        """The HTTP status of the decision: 200, 403 or 410."""
        return 200 if self.refusal is None else self.refusal.status


class _Findings:
    """Findings as they come, and the first refusal among them."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.refusal: LinkError | None = None

    def add(self, name: str, state: FindingState, text: str) -> None:
        self.found.append(Finding(name, state, text))

    def refuse(self, name: str, error: LinkError, text: str) -> None:
        self.add(name, FindingState.BAD, text)
        self.refusal = self.refusal or error

    def require(self, name: str, rule: Callable[[], object], text: str) -> bool:
        """Apply one rule of `verify`, and note `text` if it holds, else the refusal's own words and `text`."""
        try:
            rule()
        except LinkError as error:
            self.refuse(name, error, f"{error.detail} {text}")
            return False
        self.add(name, FindingState.OK, text)
        return True


def explain(
    url: str, *, keys: KeyRing, policy: LinkPolicy, now: float, client: IPAddress | None, public_url: str
) -> Explanation:
    """Explain a whole URL or a bare request target. Decides as `verify` does for the same target.

    If programs changed the link on its way, the explanation says what they did, and what to do about it.

    `client` is the address to judge an `ip` claim by; None is one that is not known, which meets no such claim.
    `public_url` is `GATEWAY_PUBLIC_URL`; raises `SettingsError` if it cannot be used.
    """
    findings = _Findings()
    own_origin, mount = split_public_url(public_url)
    origin = _ORIGIN.match(url)
    target = url[origin.end() :] if origin else url
    if origin and origin[0].lower() != own_origin.lower():
        findings.add("origin", FindingState.INFO, f"The link is not for {own_origin}; the host is not signed.")
    try:
        link = read_target(target, mount)
    except LinkMalformed as error:
        findings.refuse("form", error, _why_malformed(without_mount(target, mount), error))
        _tell_changes(findings, url, keys, policy, now, client, public_url)
        return Explanation(tuple(findings.found), None, findings.refusal)
    findings.add("form", FindingState.OK, "The link has the form that is minted.")
    findings.add("media", FindingState.INFO, f"It opens {link.ref}.")
    _judge_key(findings, link, keys)
    _judge_claims(findings, link, now, client)
    life = f"It ends at {_moment(link.expires)}"
    longest = (
        f"{policy.max_ttl} s and a window of {policy.window} s are allowed, and {LEEWAY_SECONDS} s for clocks ahead."
    )
    findings.require("lifetime", lambda: require_lifetime(link, policy, now), f"{life}; {longest}")
    findings.require("expires", lambda: require_unexpired(link, now), f"{life}; it is {_moment(now)}.")
    if findings.refusal is not None:
        if isinstance(findings.refusal, LinkSignatureInvalid):
            _tell_changes(findings, url, keys, policy, now, client, public_url)
        return Explanation(tuple(findings.found), None, findings.refusal)
    findings.add("state", FindingState.INFO, "Revocation, erasure and the account are looked up by the gateway alone.")
    return Explanation(tuple(findings.found), VerifiedLink(link.ref, link.expires, link.claims, link.kid), None)


def _tell_changes(
    findings: _Findings,
    url: str,
    keys: KeyRing,
    policy: LinkPolicy,
    now: float,
    client: IPAddress | None,
    public_url: str,
) -> None:
    """Say what programs did to the link on its way, and what becomes of it without that."""
    changes = find_alterations(url, keys)
    for sentence in changes.sentences:
        findings.add("changed", FindingState.INFO, sentence)
    if changes.restored is None:
        return
    told = explain(changes.restored, keys=keys, policy=policy, now=now, client=client, public_url=public_url)
    verdict = "accepted." if told.refusal is None else f"refused for another reason: {told.refusal}"
    findings.add("as_minted", FindingState.INFO, f"As it was minted, the link is {verdict}")


def _judge_key(findings: _Findings, link: SignedTarget, keys: KeyRing) -> None:
    known = ", ".join(keys.kids)
    if findings.require("key", lambda: require_key(link, keys), f"It names {link.kid!r}; the ring holds {known}."):
        covered = "/media/{account_sid}/{message_sid}/" if link.claims.scope is LinkScope.MESSAGE else "the whole path"
        text = f"It covers {covered} and the query up to itself."
        findings.require("signature", lambda: require_signature(link, require_key(link, keys)), text)
    else:
        findings.add("signature", FindingState.INFO, "It cannot be checked without the key.")


def _judge_claims(findings: _Findings, link: SignedTarget, now: float, client: IPAddress | None) -> None:
    claims = link.claims
    if claims.not_before is not None:
        text = (
            f"It begins at {_moment(claims.not_before)}, or up to {LEEWAY_SECONDS} s before for clocks ahead;"
            f" it is {_moment(now)}."
        )
        findings.require("not_before", lambda: require_started(link, now), text)
    if claims.ip is not None:
        text = f"It is for {claims.ip}; the client is {client or 'not known'}."
        findings.require("ip", lambda: require_client(link, client), text)
    if claims.filename is not None:
        findings.add("filename", FindingState.OK, f"The media is to be saved as {claims.filename!r}.")
    if claims.disposition is not None:
        findings.add("disposition", FindingState.OK, f"The media is sent as {claims.disposition}.")
    if claims.scope is LinkScope.MESSAGE:
        findings.add("scope", FindingState.OK, f"The signature opens every media of {link.ref.parent}.")


def _why_malformed(target: str, error: LinkMalformed) -> str:
    """Return the first part of the form that a target, less the mount, does not have."""
    if error.note:
        return f"{error.detail} Namely: {error.note}."
    if len(target) > LONGEST_TARGET:
        return error.detail
    if "#" in target:
        return "A fragment is never sent, and nothing may follow the signature."
    path, question, query = target.partition("?")
    if not path.startswith("/media/"):
        return "The path does not begin with the public URL's path and /media/."
    if not _PATH.fullmatch(path):
        return "The path is not /media/{account_sid}/{message_sid}/{media_sid}."
    if not question:
        return "There is no query."
    parameters, sign, signature = query.partition("&signature=")
    if not sign:
        return "There is no signature, or it does not come after expires and key."
    if not _SIGNATURE.fullmatch(signature):
        return "The signature is not 43 characters of base64url in the canonical encoding, or something follows it."
    for place, parameter in enumerate(parameters.split("&"), 1):
        if not _PARAMETER.fullmatch(parameter):
            return f"Parameter {place} is not name=value in the canonical encoding, or it is empty."
    return error.detail


def _moment(seconds: float) -> str:
    """Write Unix seconds as an ISO 8601 moment in UTC, or as the number itself if the calendar has no such year."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"second {seconds:.0f}"
