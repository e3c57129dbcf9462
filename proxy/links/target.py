"""The one form of a signed request target, and the bytes that its signature covers."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.errors import IdentifierError, LinkMalformed
from proxy.links.claims import CLAIM_NAMES, NO_CLAIMS, Claims, LinkScope, decode_value, parse_seconds
from proxy.model import MediaRef

LONGEST_TARGET: Final = 4096
"""Characters of a target without the mount; the longest link that can be minted is shorter."""
IDENTIFIER: Final = "[0-9A-Za-z-]{34,36}"
NAME: Final = "[a-z_]+"
VALUE: Final = "(?:[A-Za-z0-9._~-]++|%[0-9A-F]{2})++"
# 32 bytes are 43 characters of base64url; the last has two spare bits, which are zero in the canonical encoding.
SIGNATURE: Final = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
_PATH: Final = rf"/media/({IDENTIFIER})/({IDENTIFIER})/({IDENTIFIER})"
_TARGET: Final = re.compile(rf"{_PATH}\?((?:{NAME}={VALUE}&)+)signature=({SIGNATURE})", re.ASCII)
# Most links claim nothing: this case of the pattern above is read in half the time.
_PLAIN: Final = re.compile(
    rf"{_PATH}\?expires=([1-9][0-9]{{0,11}})&key=([A-Za-z0-9._-]+)&signature=({SIGNATURE})", re.ASCII
)


class SignedTarget(NamedTuple):
    """A target of the right form, of which nothing is believed yet.

    `covered` are the bytes under the signature, as text; `signature` is in the canonical encoding.
    """

    ref: MediaRef
    expires: int
    kid: str
    claims: Claims
    covered: str
    signature: str

    def __repr__(self) -> str:
        # The signature is a secret.
        return f"SignedTarget({self.covered!r})"


@lru_cache(maxsize=4_096)
def _media(account: str, message: str, media: str) -> MediaRef:
    """Parse identifiers, and remember them: links to the same media come in a row. Raises `IdentifierError`."""
    return MediaRef.parse(account, message, media)


def without_mount(target: str, mount: str) -> str:
    """Return the target less the public URL's path prefix, once, if it is present."""
    return target[len(mount) :] if mount and target.startswith(f"{mount}/media/") else target


def read_target(target: str, mount: str = "") -> SignedTarget:
    """Read a raw request target, path and query exactly as sent. Raises `LinkMalformed`."""
    target = without_mount(target, mount)
    if len(target) > LONGEST_TARGET:
        raise LinkMalformed("The link is too long.")
    plain = _PLAIN.fullmatch(target)
    if plain is not None:
        account, message, media, expires, kid, signature = plain.groups()
        covered = target[: plain.end(5)]
        return SignedTarget(_named(account, message, media), int(expires), kid, NO_CLAIMS, covered, signature)
    match = _TARGET.fullmatch(target)
    if match is None:
        raise LinkMalformed("The link is not of the form that is minted.")
    account, message, media, query, signature = match.groups()
    ref = _named(account, message, media)
    try:
        end, name, claims = _read_parameters(query[:-1])
    except ValueError as error:
        raise LinkMalformed("A parameter of the link is not of the form that is minted.", note=str(error)) from None
    if claims.scope is LinkScope.MESSAGE:
        covered = f"/media/{account}/{message}/?{query[:-1]}"
    else:
        covered = target[: match.end(4) - 1]
    return SignedTarget(ref, end, name, claims, covered, signature)


def _named(account: str, message: str, media: str) -> MediaRef:
    try:
        return _media(account, message, media)
    except IdentifierError:
        raise LinkMalformed("The link does not name a media.") from None


def _read_parameters(query: str) -> tuple[int, str, Claims]:
    """Return expiry, key and claims. Raises `ValueError`, also for a name that is unknown, missing or repeated."""
    values: dict[str, str] = {}
    for parameter in query.split("&"):
        name, _, raw = parameter.partition("=")
        if name in values:
            raise ValueError(f"{name} stands twice")
        values[name] = decode_value(raw) if "%" in raw else raw
    try:
        expires, kid = parse_seconds("expires", values.pop("expires")), values.pop("key")
    except KeyError:
        raise ValueError("expires or key is missing") from None
    if not values:
        return expires, kid, NO_CLAIMS
    if not values.keys() <= CLAIM_NAMES:
        raise ValueError("a parameter is not known")
    return expires, kid, Claims.from_parameters(values)
