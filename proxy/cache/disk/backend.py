"""The metadata of the disk tier as an aiocache backend over its index."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from proxy.cache.backend import Backend, require_no_ttl
from proxy.cache.disk.index import Index
from proxy.cache.disk.responses_table import ResponseRow
from proxy.cache.disk.threads import on
from proxy.cache.entry import Entry, decode, encode
from proxy.model import Clock


class DiskBackend(Backend[Entry]):
    """Entries in an `Index`. Calls raise `StoreError`.

    `discard` removes the body of a generation whose row is gone; the index's thread calls it.
    """

    NAME = "media-gateway-disk"

    def __init__(self, index: Index, thread: ThreadPoolExecutor, clock: Clock, discard: Callable[[str], None]) -> None:
        super().__init__()
        self._clock = clock
        self._index = index
        self._thread = thread
        self._discard = discard

    def place(self, key: str, value: Entry) -> bool:
        """Do as `set`, on the index's thread; return False if the key was erased since `value.epoch`."""
        return self._put(key, value, None)

    async def fetch_all(self, keys: Sequence[str]) -> list[Entry | None]:
        """Return the entries of these keys, read in one turn of the index's thread."""
        return await on(self._thread, lambda: [self._read(key) for key in keys])

    async def _load(self, key: str) -> Entry | None:
        return await on(self._thread, self._read, key)

    async def _save(self, key: str, value: Entry, ttl: float | None, instead_of: Entry | None) -> bool:
        require_no_ttl(ttl)
        expected = encode(instead_of) if instead_of is not None else None
        return await on(self._thread, self._put, key, value, expected)

    async def _drop(self, key: str) -> bool:
        def drop() -> bool:
            if self._read(key) is None:
                return False
            removed = self._index.remove(key)
            self._forget(removed)
            return removed is not None

        return await on(self._thread, drop)

    async def _drop_all(self, prefix: str) -> None:
        def drop() -> bool:
            gone = self._index.remove_prefix(prefix)
            for generation in gone:
                self._forget(generation)
            return bool(gone)

        # In steps, so that look-ups have their turn in between.
        while await on(self._thread, drop):
            pass

    # --- on the index's thread ---

    def _put(self, key: str, value: Entry, instead_of: bytes | None) -> bool:
        row = ResponseRow(value.generation, value.length, value.epoch, encode(value))
        placing = self._index.put(key, row, used=self._clock(), instead_of=instead_of)
        self._forget(placing.replaced)
        return placing.done

    def _read(self, key: str) -> Entry | None:
        row = self._index.get(key)
        if row is None:
            return None
        entry = decode(row.metadata)
        # What is stored is checked on reading: entry and row must agree on the generation and the length.
        if entry is None or entry.generation != row.generation or entry.length != row.length:
            # Only this very row is removed: another worker may have replaced it by now.
            self._forget(self._index.remove(key, row.generation, row.metadata))
            return None
        return entry

    def _forget(self, generation: str | None) -> None:
        if generation is not None:
            # The row is gone, and that is what counts; a file that stays is an orphan.
            with contextlib.suppress(OSError):
                self._discard(generation)
