"""Signed CDN addresses: CloudFront's parameters and its alphabet, over an HMAC.

The signature covers its own spelling, so that a client which rewrites `%7E` to `~` (or the other way) on its way
through a redirect is refused: a Location is to be followed byte for byte.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import re
from typing import Final

_KEY_PAIR: Final = "K2SANDBOX4MEDIA"
_TARGET: Final = re.compile(
    r"(?P<path>/[A-Za-z0-9/._~%-]*)\?Expires=(?P<expires>[1-9][0-9]{0,11})"
    r"&Signature=(?P<signature>[A-Za-z0-9_~%-]+)&Key-Pair-Id=(?P<pair>[A-Z0-9]+)"
)
_ALPHABET: Final = bytes.maketrans(b"+=/", b"-_~")
_PLAIN: Final = "~"
_ENCODED: Final = "%7E"


class LinkSigner:
    """A writer and reader of signed targets under one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._turn = itertools.cycle((_PLAIN, _ENCODED))

    def sign(self, path: str, expires: int) -> str:
        """Return the request target for `path`, good until `expires` (Unix seconds) at the latest.

        Every second one writes its tildes as `%7E`. Each holds at least one tilde: if a signature would have none, the
        end moves to an earlier second.
        """
        tilde = next(self._turn)
        moment, signature = next(
            (moment, signature)
            for moment in itertools.count(expires, -1)
            if tilde in (signature := self._signature(path, moment, tilde))
        )
        return f"{path}?Expires={moment}&Signature={signature}&Key-Pair-Id={_KEY_PAIR}"

    def verify(self, target: str, now: float) -> bool:
        """Return whether exactly these bytes were signed here and have not expired at `now`."""
        match = _TARGET.fullmatch(target)
        if match is None or match["pair"] != _KEY_PAIR:
            return False
        tilde = _ENCODED if _ENCODED in match["signature"] else _PLAIN
        expected = self._signature(match["path"], int(match["expires"]), tilde)
        return hmac.compare_digest(expected.encode(), match["signature"].encode()) and now < int(match["expires"])

    def _signature(self, path: str, expires: int, tilde: str) -> str:
        # As long as an RSA signature of 2,048 bits, which is what CloudFront writes.
        covered = f"{tilde}\n{path}?Expires={expires}"
        octets = b"".join(hmac.digest(self._secret, f"{part}\n{covered}".encode(), "sha512") for part in range(4))
        return base64.b64encode(octets).translate(_ALPHABET).decode().replace(_PLAIN, tilde)
