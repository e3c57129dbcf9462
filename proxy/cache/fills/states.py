"""The states of a fill, and the events that lead from one to another. No I/O; the package explains the table."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


class FillState(enum.Enum):
    """The progress of a fill."""

    ASKING = "no answer has come"
    RECEIVING = "bytes come, and go to readers"
    WITHHOLDING = "bytes come, and no reader has any before the last one has come"
    WHOLE = "all bytes have come, and are being stored"
    DONE = "what can be stored is stored"
    REFUSED = "it failed before any byte came"
    BROKEN = "it failed between the first byte and the last one"
    ABANDONED = "no reader was left, and nothing would have been stored"


class FillEvent(enum.Enum):
    """A thing that happens to a fill."""

    HEAD = "the upstream answers with a representation, whose bytes follow"
    CODED_HEAD = "as HEAD, but in a content coding, which may turn out to be broken at any byte"
    USABLE = "a stored response may be used: the upstream has said 304, or the shared tier has it"
    LAST_BYTE = "all bytes have come"
    STORED = "what can be stored is stored"
    FAILURE = "an error, or the gateway's end"
    UNWANTED = "no reader is left, and nothing would be stored"


TRANSITIONS: Final[Mapping[FillState, Mapping[FillEvent, FillState]]] = MappingProxyType(
    {
        FillState.ASKING: {
            FillEvent.HEAD: FillState.RECEIVING,
            FillEvent.CODED_HEAD: FillState.WITHHOLDING,
            FillEvent.USABLE: FillState.DONE,
            FillEvent.FAILURE: FillState.REFUSED,
            FillEvent.UNWANTED: FillState.ABANDONED,
        },
        FillState.RECEIVING: {
            FillEvent.LAST_BYTE: FillState.WHOLE,
            FillEvent.FAILURE: FillState.BROKEN,
            FillEvent.UNWANTED: FillState.ABANDONED,
        },
        FillState.WITHHOLDING: {
            FillEvent.LAST_BYTE: FillState.WHOLE,
            FillEvent.FAILURE: FillState.BROKEN,
            FillEvent.UNWANTED: FillState.ABANDONED,
        },
        FillState.WHOLE: {
            FillEvent.STORED: FillState.DONE,
            FillEvent.FAILURE: FillState.DONE,
        },
        FillState.DONE: {},
        FillState.REFUSED: {},
        FillState.BROKEN: {},
        FillState.ABANDONED: {},
    }
)

OVER: Final = frozenset(state for state, ways in TRANSITIONS.items() if not ways)
"""The states that a fill never leaves."""


def following(state: FillState, event: FillEvent) -> FillState:
    """Return the state that an event leads to. Raises `KeyError` if it cannot happen in that state."""
    return TRANSITIONS[state][event]
