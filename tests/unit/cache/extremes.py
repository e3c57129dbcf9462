"""Values that no tier writes, and a limit of memory under which they are read."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.cache import bounds

NUMBERS: Final = (
    -1, -(2**63), 2**31, 2**40, 2**40 + 1, 2**52, 2**52 + 1, 2**60, 2**60 + 1, 2**62, 2**62 + 1, 2**63 - 1,
    0.5, -0.5, 1e300, -1e300, math.inf, -math.inf, bounds.LATEST + 1,
)  # fmt: skip
VALUES: Final[tuple[object, ...]] = (
    *NUMBERS, 2**63, 2**64 - 1, math.nan, None, True, "", "text", "²", "\U0010ffff", "x" * 2_000, b"", b"\xff\xfe",
    [], [1], [[]], {}, {"a": 1},
)  # fmt: skip

_HEADROOM: Final = 3 << 30
"""Bytes: each thread's heap reserves 64 MB of them, and there may be sixteen."""


@contextmanager
def little_memory() -> Iterator[None]:
    """Let this process have three gigabytes more than it has, and no more, meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + _HEADROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def within_bounds(value: object) -> bool:
    """Return whether a decoded value may be used, whatever field it is from."""
    match value:
        case None | bool():
            return True
        case int():
            return 0 <= value <= bounds.LAST_NUMBER
        case float():
            return 0 <= value <= bounds.LATEST
        case str():
            return len(value) <= 65_536
        case tuple():
            return all(within_bounds(part) for part in value)
        case _:
            return False
