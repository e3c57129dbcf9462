"""The names of everything that is kept in Redis. No other program's keys are read, written or listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.erasure import prefixes

_PREFIX: Final = "media-gateway:"

LOG: Final = f"{_PREFIX}log"
"""A hash: the run of the log, the Redis process that it began in, its last number, and what it has forgotten."""
CHANGES: Final = f"{_PREFIX}changes"
"""A sorted set: the last changes by number."""
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
"""Not in Redis, but in a cache folder: the file that says how far it has followed the log."""
CHANNEL: Final = f"{_PREFIX}changed"
"""Where a change's number is published."""


def check_name(token: str) -> str:
    """Return the name of the entry that a check writes and erases."""
    return f"{_PREFIX}check:{token}"


def metadata_name(run: str, key: str) -> str:
    """The metadata of a media's stored response."""
    return f"{_PREFIX}{run}:response:{key}"


def index_name(run: str) -> str:
    """A sorted set: the keys of what is stored, in lexical order."""
    return f"{_PREFIX}{run}:index"


def chunk_name(run: str, generation: str, number: int) -> str:
    """One chunk of a stored body, counted from 0."""
    return f"{_PREFIX}{run}:chunk:{generation}:{number}"


def lease_name(run: str, key: str) -> str:
    """The lease of a media that is being fetched."""
    return f"{_PREFIX}{run}:lease:{key}"


def covering(key: str) -> Sequence[str | int]:
    """The prefixes that cover a key, after their number: arguments of the scripts that ask what is erased."""
    found = prefixes(key)
    return len(found), *found
