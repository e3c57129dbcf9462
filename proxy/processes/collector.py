"""Python's collector of cycles, set for a process that answers many requests and makes few cycles."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (20_000, 20, 100)
"""New objects, and collections of the next younger ones, after which those of each age are looked through."""


def collect_less() -> None:
    """Look for cycles less often: as Python comes, it looks through what one busy second has made a hundred times."""
    gc.set_threshold(*_THRESHOLDS)
