"""How often one address may fail: a bounded table of counts."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from proxy.model import Clock

_WINDOW_SECONDS: Final = 60.0
_ADDRESSES: Final = 20_000


def sender(address: IPv4Address | IPv6Address | None) -> str:
    """The key of an address: an IPv6 client has a whole /64 to send from. None is a client that is not known."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


class FailureLimit:
    """Counts failures by key in windows of a minute; the least recently seen keys are forgotten first.

    `limit` failures a minute are let through; a good request is never counted, and never refused.
    """

    def __init__(self, limit: int, clock: Clock, *, capacity: int = _ADDRESSES) -> None:
        self._limit = limit
        self._clock = clock
        self._capacity = capacity
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        """Keys in the table, expired ones included."""
        return len(self._counts)

    def fail(self, key: str) -> int:
        """Count one failure. Returns 0 where it is within the limit, else the seconds to wait."""
        now = self._clock()
        began, count = self._counts.get(key, (now, 0))
        if not 0 <= now - began < _WINDOW_SECONDS:  # over, or the clock was set back
            began, count = now, 0
        self._counts[key] = (began, count + 1)
        self._counts.move_to_end(key)
        if len(self._counts) > self._capacity:
            self._counts.popitem(last=False)
        if count < self._limit:
            return 0
        return max(1, int(began + _WINDOW_SECONDS - now + 1))
