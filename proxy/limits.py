"""A limit for failures: bad links and wrong credentials, counted by the address that sends them.

The callers answer 429: `web.media.links` for links, `web.http.authentication` for credentials. `node.tallies` counts.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from proxy.model import Clock, IPAddress
from proxy.node import Seat


def address_key(address: IPAddress | None) -> str:
    """Return the key of a client's address: an IPv6 client can send from a whole /64. None is an unknown client."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


class FailureLimit:
    """A limit of failures by key in windows of a minute, over all workers of the node.

    `limit` failures per minute are let through. A good request is never counted and never refused. `kind` keeps these
    failures apart from those of another limit.
    """

    def __init__(self, kind: str, limit: int, clock: Clock, seat: Seat) -> None:
        self._kind = kind
        self._limit = limit
        self._clock = clock
        self._seat = seat

    def fail(self, key: str) -> int:
        """Count one failure, and return 0 if it is within the limit, else the seconds to wait."""
        before, left = self._seat.tally(f"{self._kind}:{key}", self._clock())
        return 0 if before < self._limit else max(1, left)
