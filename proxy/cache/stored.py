"""A stored response, as a look-up finds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.cache.entry import Entry
from proxy.semantics.stored import StoredMetadata

if TYPE_CHECKING:
    from proxy.cache.redis.store import Found


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored response as found: its entry, and its bytes where RAM has them; `in_ram`: it had them before.

    `epoch`: the number of the last erasure when it was found, and so not erased. `shared`: where its bytes are, of one
    that is in the shared tier alone.
    """

    entry: Entry
    content: bytes | None
    epoch: int
    in_ram: bool = False
    shared: Found | None = None

    @property
    def metadata(self) -> StoredMetadata:
        return self.entry.metadata
