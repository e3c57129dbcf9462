"""Messages that have come a moment ago, whose media may not be at the provider's yet."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from proxy.model import Clock, MediaRef, MessageRef


class YoungMessages:
    """The moment at which each message was first met, for a bounded number of messages.

    A 404 of a message that has just come may be transient.
    """

    _YOUNG_SECONDS: Final = 120.0
    _MESSAGES: Final = 20_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._met: OrderedDict[tuple[str, str], float] = OrderedDict()

    def meet(self, ref: MediaRef | MessageRef) -> bool:
        """Note that this message, or that of this media, was asked for, and return whether it is young.

        It is young for two minutes after it was first met.
        """
        now = self._clock()
        met = self._met.setdefault((ref.account.value, ref.message.value), now)
        if len(self._met) > self._MESSAGES:
            self._met.popitem(last=False)
        return now - met < self._YOUNG_SECONDS
