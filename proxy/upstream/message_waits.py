"""The moments at which a new message's media are asked for again after a 404: the same for all media of a message."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Final

from proxy.bounded_table import BoundedTable
from proxy.model import MessageRef

_MESSAGES: Final = 20_000


class MessageWaits:
    """The moments at which each message's media are asked for again, for a bounded number of messages.

    A webhook may come before its media, and not all media of a message come together. So the first 404 of a message
    fixes moments, `waits` seconds apart, at which all its media that are still missing are asked for. Once they are
    over, a 404 of that message costs no wait any more: neither for its other media, nor for one that a client made up.
    `clock` is monotonic, in seconds. The message whose first 404 is the oldest is forgotten first.
    """

    def __init__(self, waits: tuple[float, ...], clock: Callable[[], float]) -> None:
        self._moments = tuple(accumulate(waits))
        self._clock = clock
        self._began: BoundedTable[tuple[str, str], float] = BoundedTable(_MESSAGES)

    def next(self, message: MessageRef, waited: int) -> float | None:
        """Return the seconds until a media of the message is to be asked for again; None if the waits are over.

        `waited` counts the waits of this call so far: a timer that fires early must not wait for its moment twice.
        """
        now = self._clock()
        began = self._began.first((message.account.value, message.message.value), now)
        return next((began + moment - now for moment in self._moments[waited:] if began + moment > now), None)
