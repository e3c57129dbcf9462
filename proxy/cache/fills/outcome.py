"""What the upstream says to a fill before any bytes, or that it need not be asked."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.cache.entry import Representation
from proxy.cache.stored import Stored


@dataclass(frozen=True, slots=True)
class Begun:
    """The upstream answers with a representation, whose bytes follow."""

    representation: Representation


@dataclass(frozen=True, slots=True)
class Validated:
    """The upstream says that the stored response is still good (304); it has been freshened."""

    stored: Stored


@dataclass(frozen=True, slots=True)
class Shared:
    """The shared tier has the response; `waited`: another gateway was waited for, which has fetched it."""

    stored: Stored
    waited: bool


Outcome = Begun | Validated | Shared
