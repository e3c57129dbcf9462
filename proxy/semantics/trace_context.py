"""`traceparent`: the trace that a request belongs to (W3C Trace Context §3.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

# A later version may say more behind a hyphen (§3.2.4), which is bounded and not read.
_FIELD: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<parent_id>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-[!-~]{0,200})?"
)
_INVALID_VERSION: Final = "ff"
_FIRST_VERSION: Final = "00"


def trace_id(values: Sequence[str]) -> str | None:
    """Return the 32 hex digits of the trace from the values of `traceparent`; None unless there is one good value.

    Digits in capitals, identifiers of zeros alone, version `ff`, and anything behind version `00` are not good.
    """
    match = _FIELD.fullmatch(values[0]) if len(values) == 1 else None
    if match is None or match["version"] == _INVALID_VERSION:
        return None
    if match["more"] is not None and match["version"] == _FIRST_VERSION:
        return None
    zeros = match["trace_id"].strip("0") == "" or match["parent_id"].strip("0") == ""
    return None if zeros else match["trace_id"]
