"""Content codings (RFC 9110 §8.4): which one an upstream's body has, although none was asked for. Pure."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from proxy.semantics.fields import Fields, split_list

MAX_SHOWN: Final = 64
"""Characters of an upstream's `Content-Encoding` that are repeated to a client."""
_UNSHOWN: Final = re.compile(r"[^0-9A-Za-z,_.+ -]")


class Coding(enum.Enum):
    """Codings that are understood; `NONE` means that the bytes are the media's own."""

    NONE = "none"
    GZIP = "gzip"
    DEFLATE = "deflate"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A coding that is not understood, or a list of codings; `shown` is its text, bounded and safe to repeat."""

    shown: str


ContentCoding: TypeAlias = Coding | Unknown

# Object stores keep a `Content-Encoding` as it was uploaded. `aws-chunked` tells of the upload alone; the others are a
# transfer encoding of mail and a charset, put there by mistake. None of them says anything of these bytes.
_NONE: Final = frozenset({"identity", "aws-chunked", "binary", "utf-8"})
_CODINGS: Final = {"gzip": Coding.GZIP, "x-gzip": Coding.GZIP, "deflate": Coding.DEFLATE}


def content_coding(fields: Fields) -> ContentCoding:
    """Return the coding of a body: names in any case (RFC 9110 §8.4.1), `x-gzip` as `gzip` (§8.4.1.3)."""
    value = fields.combined("Content-Encoding") or ""
    match [coding.lower() for coding in split_list(value)]:
        case codings if _NONE.issuperset(codings):
            return Coding.NONE
        case [coding] if coding in _CODINGS:
            return _CODINGS[coding]
        case _:
            return Unknown(_UNSHOWN.sub("?", value[:MAX_SHOWN]))
