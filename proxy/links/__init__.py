"""Signed links: a capability for one stored representation, minted anywhere with a key, verified before any look-up.

    {PUBLIC_URL}/media/{account_sid}/{message_sid}/{media_sid}
        ?expires={unix seconds}&key={kid}[&claims…]&signature={sig}

`signature` covers every byte from `/media/` up to itself, exactly as sent.
"""

from __future__ import annotations

from proxy.links.claims import NO_CLAIMS, Claims, LinkScope
from proxy.links.explain import Explanation, Finding, FindingState, explain
from proxy.links.keys import KeyRing, SigningKey
from proxy.links.mint import LinkMinter, MintedLink
from proxy.links.policy import LinkPolicy
from proxy.links.public_url import split_public_url
from proxy.links.reference import MediaUrl, is_url, parse_reference
from proxy.links.verify import VerifiedLink, verify
from proxy.semantics.disposition import Disposition

__all__ = [
    "NO_CLAIMS",
    "Claims",
    "Disposition",
    "Explanation",
    "Finding",
    "FindingState",
    "KeyRing",
    "LinkMinter",
    "LinkPolicy",
    "LinkScope",
    "MediaUrl",
    "MintedLink",
    "SigningKey",
    "VerifiedLink",
    "explain",
    "is_url",
    "parse_reference",
    "split_public_url",
    "verify",
]
