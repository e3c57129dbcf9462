"""The metadata of the disk tier as an aiocache backend over its index."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from proxy.cache.backend import Backend
from proxy.cache.disk.files import on
from proxy.cache.disk.index import Index, Row
from proxy.cache.entry import Entry, decode, encode
from proxy.model import Clock


class DiskBackend(Backend[Entry]):
    """Entries in an `Index`. Calls raise `StoreError`.

    `discard` removes the body of a generation whose row is gone; it is called on the index's thread.
    """

    NAME = "media-gateway-disk"

    def __init__(self, index: Index, thread: ThreadPoolExecutor, clock: Clock, discard: Callable[[str], None]) -> None:
        super().__init__(clock)
        self._index = index
        self._thread = thread
        self._discard = discard

    def place(self, key: str, value: Entry) -> bool:
        """`set` without a deadline, on the index's thread. False where it was erased since `value.epoch`."""
        return self._put(key, value, None, only_new=False, expected=None)

    async def fetch_all(self, keys: Sequence[str]) -> list[Entry | None]:
        """Return the entries of these keys, read in one turn of the index's thread."""
        return await on(self._thread, lambda: [self._read(key) for key in keys])

    async def _load(self, key: str) -> Entry | None:
        return await on(self._thread, self._read, key)

    async def _save(
        self, key: str, value: Entry, deadline: float | None, *, only_new: bool = False, instead_of: Entry | None = None
    ) -> bool:
        expected = encode(instead_of) if instead_of is not None else None
        return await on(self._thread, lambda: self._put(key, value, deadline, only_new=only_new, expected=expected))

    async def _drop(self, key: str, value: Entry | None = None) -> bool:
        expected = encode(value) if value is not None else None

        def drop() -> bool:
            if self._read(key) is None:
                return False
            removed = self._index.remove(key, None, expected)
            self._forget(removed)
            return removed is not None

        return await on(self._thread, drop)

    async def _drop_all(self, prefix: str) -> None:
        def drop() -> bool:
            gone = self._index.remove_prefix(prefix)
            for generation in gone:
                self._forget(generation)
            return bool(gone)

        # In steps, so that look-ups come in between.
        while await on(self._thread, drop):
            pass

    async def _prolong(self, key: str, deadline: float | None) -> bool:
        return await on(self._thread, lambda: self._index.prolong(key, deadline, now=self._clock()))

    # --- on the index's thread ---

    def _put(self, key: str, value: Entry, deadline: float | None, *, only_new: bool, expected: bytes | None) -> bool:
        row = Row(value.generation, value.length, deadline, value.epoch, encode(value))
        placing = self._index.put(key, row, used=self._clock(), only_new=only_new, instead_of=expected)
        self._forget(placing.replaced)
        return placing.done

    def _read(self, key: str) -> Entry | None:
        row = self._index.get(key)
        if row is None:
            return None
        live = row.deadline is None or row.deadline > self._clock()
        entry = decode(row.metadata) if live else None
        # What is stored is checked on reading: a row that is not of its own generation and length is no row.
        if entry is None or entry.generation != row.generation or entry.length != row.length:
            # Only this very row: another worker may have replaced it by now.
            self._forget(self._index.remove(key, row.generation, row.metadata))
            return None
        return entry

    def _forget(self, generation: str | None) -> None:
        if generation is not None:
            # The row is gone, and that is what counts; a file that stays is reclaimed.
            with contextlib.suppress(OSError):
                self._discard(generation)
