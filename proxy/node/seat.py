"""A node, which the supervisor makes, and the seat of each of its workers in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from proxy.node.board import Board, Others
from proxy.node.places import HeldPlaces, Key, Share, key_of, open_locks
from proxy.node.tallies import Tallies


class Node:
    """State that `rows` workers share, each in a row of its own, counted from 1. Raises `OSError` if there is no room.

    The process that has made it closes it when its workers have ended.
    """

    def __init__(self, rows: int) -> None:
        self.board = Board(rows)
        self.tallies = Tallies(rows)
        self._descriptors = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self.locks = open_locks()
            undo.callback(os.close, self.locks)
            self.bells: list[int] = []
            for _ in range(rows):
                self.bells.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
                undo.callback(os.close, self.bells[-1])
            self._descriptors = undo.pop_all()

    def seat(self, row: int) -> Seat:
        """Return the seat of the worker in that row, counted from 1."""
        return Seat(self, row - 1)

    def retire(self, row: int) -> None:
        """Clear the row of a worker that has ended, and wake the workers that wait: the kernel has freed its places.

        Its tallies stay until their minute is over.
        """
        self.board.clear(row - 1)
        self.ring(self.board.waiting_rows())

    def ring(self, rows: Iterable[int]) -> None:
        """Wake the workers in these rows, counted from 0."""
        for row in rows:
            # It is full only after 2^64 rings that were not heard.
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self.bells[row], 1)

    def close(self) -> None:
        """Close the file of places and the bells."""
        self._descriptors.close()


class Seat:
    """One worker's share in a node, or the seat of a process without a node."""

    def __init__(self, node: Node | None = None, row: int = 0) -> None:
        self._node = node
        self._row = row
        self._places = HeldPlaces(None if node is None else node.locks)
        self._tallies = Tallies(1) if node is None else node.tallies

    @property
    def bell(self) -> int | None:
        """The descriptor that is readable once another worker has rung; None without a node."""
        return None if self._node is None else self._node.bells[self._row]

    def hear(self) -> None:
        """Take the ring that made `bell` readable."""
        if self._node is not None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._node.bells[self._row])

    @staticmethod
    def key(name: str) -> Key:
        """Return the key of an account of that name."""
        return key_of(name)

    def take(self, share: Share, key: Key, most: int) -> int | None:
        """Take a place of that key, and return its number; None if the workers together hold `most` already."""
        number = self._places.take(share, key, most)
        if number is not None and share is Share.CONNECTIONS:
            self._note(key, held=1)
        return number

    def give_back(self, share: Share, key: Key, number: int) -> None:
        """Give a place back, and wake the workers in which calls wait for one of that key."""
        self._places.give_back(share, key, number)
        if share is Share.CONNECTIONS:
            self._note(key, held=-1)
            self.ring_waiting(key)

    def has_free(self, share: Share, key: Key, most: int) -> bool:
        """Return whether there is a place of that key to take."""
        return self._places.has_free(share, key, most)

    def wait(self, key: Key, calls: int) -> None:
        """Note that so many more calls, or fewer, wait in this worker for a connection of that key."""
        self._note(key, waiting=calls)

    def others(self, key: Key) -> Others:
        """Return how the other workers stand with that key."""
        return Others(0, 0) if self._node is None else self._node.board.others(self._row, key)

    def ring_waiting(self, key: Key) -> None:
        """Wake the other workers in which calls wait for a connection of that key."""
        if self._node is not None:
            self._ring(self._node.board.waiting_rows(key))

    def ring_holding(self, key: Key) -> None:
        """Wake the other workers that hold connections of that key, so that they give away what is idle."""
        if self._node is not None:
            self._ring(self._node.board.holding_rows(key))

    def tally(self, key: str, now: float) -> tuple[int, int]:
        """Count one more of a key in this worker's row; see `Tallies.add`."""
        return self._tallies.add(self._row, key, now)

    def _ring(self, rows: Iterable[int]) -> None:
        assert self._node is not None
        self._node.ring(row for row in rows if row != self._row)

    def _note(self, key: Key, *, waiting: int = 0, held: int = 0) -> None:
        if self._node is not None:
            self._node.board.add(self._row, key, waiting=waiting, held=held)
