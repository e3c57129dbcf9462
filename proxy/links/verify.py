"""The verification of a signed link: form, key, signature, claims, then expiry.

`web.media` has the whole order of the checks, with what stands before and after these.
"""

from __future__ import annotations

import hmac
from typing import NamedTuple

from itsdangerous import Signer

from proxy.errors import LinkClaimUnmet, LinkExpired, LinkKeyUnknown, LinkSignatureInvalid
from proxy.links.claims import Claims
from proxy.links.keys import KeyRing
from proxy.links.policy import LEEWAY_SECONDS, LinkPolicy
from proxy.links.target import SignedTarget, read_target
from proxy.model import IPAddress, MediaRef


class VerifiedLink(NamedTuple):
    """The content of a good link: its media, the Unix second it ends at, its claims, and the key it was signed with."""

    ref: MediaRef
    expires: int
    claims: Claims
    kid: str


def verify(
    target: str, *, keys: KeyRing, policy: LinkPolicy, now: float, client: IPAddress | None, mount: str = ""
) -> VerifiedLink:
    """Verify a raw request target, path and query exactly as sent.

    `mount` is the path prefix of the public URL; `client` the address the request comes from, None if it is
    not known. Raises `LinkMalformed`, `LinkKeyUnknown`, `LinkSignatureInvalid`, `LinkClaimUnmet` (all 403),
    `LinkExpired` (410), in this order. The caller looks up blocks (`web.media.links`).
    """
    link = read_target(target, mount)
    require_signature(link, require_key(link, keys))
    require_started(link, now)
    require_client(link, client)
    require_lifetime(link, policy, now)
    require_unexpired(link, now)
    return VerifiedLink(link.ref, link.expires, link.claims, link.kid)


def require_key(link: SignedTarget, keys: KeyRing) -> Signer:
    """Return the signer of the link's key. Raises `LinkKeyUnknown`."""
    signer = keys.get(link.kid)
    if signer is None:
        raise LinkKeyUnknown("The link's signing key is not known.")
    return signer


def require_signature(link: SignedTarget, signer: Signer) -> None:
    """Raise `LinkSignatureInvalid` unless the encodings are equal, of which each signature has one."""
    if not hmac.compare_digest(signer.get_signature(link.covered), link.signature.encode("ascii")):
        raise LinkSignatureInvalid("The link's signature is not valid.")


def require_started(link: SignedTarget, now: float) -> None:
    """Raise `LinkClaimUnmet` more than `LEEWAY_SECONDS` before the claimed second."""
    if link.claims.not_before is not None and link.claims.not_before > now + LEEWAY_SECONDS:
        raise LinkClaimUnmet("The link is not valid yet.")


def require_client(link: SignedTarget, client: IPAddress | None) -> None:
    """Raise `LinkClaimUnmet` outside the claimed network."""
    if not link.claims.admits(client):
        raise LinkClaimUnmet("The link is not valid from this address.")


def require_lifetime(link: SignedTarget, policy: LinkPolicy, now: float) -> None:
    """Raise `LinkClaimUnmet` if the link ends later than what a clock within the leeway can have minted."""
    if link.expires > policy.latest(now):
        raise LinkClaimUnmet("The link is valid for longer than is allowed.")


def require_unexpired(link: SignedTarget, now: float) -> None:
    """Raise `LinkExpired` from the claimed second on."""
    if now >= link.expires:
        raise LinkExpired("The link has expired.")
