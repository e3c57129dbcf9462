"""How often a client may fail: a bounded table of counts."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

from proxy.model import Clock
from proxy.node import Seat


def sender(address: IPv4Address | IPv6Address | None) -> str:
    """The key of an address: an IPv6 client has a whole /64 to send from. None is a client that is not known."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


class FailureLimit:
    """Counts failures by key in windows of a minute, in all workers of the node together.

    `limit` failures a minute are let through; a good request is never counted, and never refused. `kind` keeps them
    apart from the failures that another limit counts.
    """

    def __init__(self, kind: str, limit: int, clock: Clock, seat: Seat) -> None:
        self._kind = kind
        self._limit = limit
        self._clock = clock
        self._seat = seat

    def fail(self, key: str) -> int:
        """Count one failure. Returns 0 where it is within the limit, else the seconds to wait."""
        before, left = self._seat.tally(f"{self._kind}:{key}", self._clock())
        return 0 if before < self._limit else max(1, left)
