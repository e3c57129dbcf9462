"""What the upstream says to a fill, before any bytes."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.cache.entry import Representation
from proxy.cache.tiers import Stored


@dataclass(frozen=True, slots=True)
class Begun:
    """The upstream answers with a representation, whose bytes follow."""

    representation: Representation


@dataclass(frozen=True, slots=True)
class Validated:
    """The upstream says that the stored response is still good (304); it has been freshened."""

    stored: Stored


Outcome = Begun | Validated
