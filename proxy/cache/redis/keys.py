"""The names of everything that is kept in Redis. No other program's keys are read, written or listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.erasure import prefixes

_PREFIX: Final = "media-gateway:"

LOG: Final = f"{_PREFIX}log"
"""A hash: the run of the log, the Redis process that it began in, its last number, and what it has forgotten."""
INVALIDATIONS: Final = f"{_PREFIX}changes"
"""A sorted set: the last invalidations by number."""
ERASED: Final = f"{_PREFIX}erased"
"""A sorted set: each prefix that was erased, by the number of its last erasure."""
NODES: Final = f"{_PREFIX}nodes"
"""A hash: how far each worker of each gateway has followed, and when it last said so."""
# A block was called a verdict once; releases that share one Redis have to find each other's blocks.
BLOCK_ENDS: Final = f"{_PREFIX}verdicts:ends"
"""A sorted set: the blocks by their end, in Unix seconds."""
BLOCK_NAMES: Final = f"{_PREFIX}verdicts:names"
"""A sorted set: the same blocks in lexical order."""
CHECKPOINT: Final = "shared"
"""A file in the cache folder, not a key of Redis: it says how far the folder has followed the log."""
CHANNEL: Final = f"{_PREFIX}changed"
"""The channel on which the number of an invalidation is published."""


def check_name(token: str) -> str:
    """Return the name of the entry that a check writes and erases."""
    return f"{_PREFIX}check:{token}"


def metadata_name(run: str, key: str) -> str:
    """Return the name of the metadata of a media's stored response."""
    return f"{_PREFIX}{run}:response:{key}"


def index_name(run: str) -> str:
    """Return the name of a sorted set: the keys of what is stored, in lexical order."""
    return f"{_PREFIX}{run}:index"


def chunk_name(run: str, generation: str, number: int) -> str:
    """Return the name of one chunk of a stored body, counted from 0."""
    return f"{_PREFIX}{run}:chunk:{generation}:{number}"


def lease_name(run: str, key: str) -> str:
    """Return the name of the lease of a media that is being fetched."""
    return f"{_PREFIX}{run}:lease:{key}"


def covering(key: str) -> Sequence[str | int]:
    """Return the prefixes that cover a key, after their number: arguments of the scripts that ask what is erased."""
    found = prefixes(key)
    return len(found), *found
