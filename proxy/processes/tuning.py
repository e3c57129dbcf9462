"""The C library's allocator and Python's collector, set for a process that answers many requests."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

# mallopt(3) of glibc.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3

_KEPT_BYTES: Final = 16 * 1_048_576
"""Free memory at the end of the heap that is not given back."""
_MAPPED_BYTES: Final = 1_048_576
"""The shortest block that is mapped by itself, and given back when it is freed."""
_THRESHOLDS: Final = (20_000, 20, 100)
"""New objects, and collections of the next younger generation, after which each generation is collected."""


def reuse_freed_memory() -> bool:
    """Keep some freed memory in this process; return False if the C library has no such settings.

    By default, glibc gives blocks of 256 KB back to the system again and again, and each costs 64 page faults to get.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES))


def collect_less() -> None:
    """Look for cycles less often: by default, Python collects a hundred times in one busy second, and finds few."""
    gc.set_threshold(*_THRESHOLDS)
