"""Messages that have come a moment ago, whose media may not be at the provider's yet."""

from __future__ import annotations

from typing import Final

from proxy.bounded_table import BoundedTable
from proxy.model import Clock, MediaRef, MessageRef


class YoungMessages:
    """The moment at which each message was first met, for a bounded number of messages.

    A 404 of a message that has just come may be transient.
    """

    _YOUNG_SECONDS: Final = 120.0
    _MESSAGES: Final = 20_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._met: BoundedTable[tuple[str, str], float] = BoundedTable(self._MESSAGES)

    def meet(self, ref: MediaRef | MessageRef) -> bool:
        """Note that this message, or that of this media, was asked for, and return whether it is young.

        It is young for two minutes after it was first met.
        """
        now = self._clock()
        met = self._met.first((ref.account.value, ref.message.value), now)
        return now - met < self._YOUNG_SECONDS
