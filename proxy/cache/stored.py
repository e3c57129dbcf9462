"""A stored response, as a tier holds it and a look-up finds it."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.cache.entry import Entry
from proxy.semantics.stored import StoredMetadata


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A stored response: its entry, and its bytes if they are at hand; else they are on disk, or in the shared tier.

    `epoch` is the number of the last erasure that is known not to cover it. `in_ram`: RAM had the bytes before the
    look-up that found it. `run` is of one that the shared tier alone has: the run of the log that it is stored under.
    """

    entry: Entry
    content: bytes | None
    epoch: int
    in_ram: bool = False
    run: str | None = None

    @property
    def metadata(self) -> StoredMetadata:
        return self.entry.metadata
