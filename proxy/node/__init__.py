"""State that the workers of one node share, so that a limit for an account or an address holds for all of them.

The shared memory and locks are here, and no rule about what they are used for: `upstream` and `limits` have these. The
supervisor makes a `Node` before it forks; each worker has a `Seat`, its row in it.

1. A *place* (`places`) is a lock of the kernel's. Two workers never hold the same one, and the kernel takes a worker's
   places back at the moment the worker dies, however it dies.
2. The *board* (`board`) says of each worker how many places it holds and how many calls wait in it. A worker writes
   its own row alone. The numbers are a hint, for fairness and for waking: what is admitted depends on the locks.
3. A worker that gives a place back rings the *bell* of those that wait, so that no worker polls.
4. *Tallies* (`tallies`) are counts by key within a minute, which each worker adds to in its own row.

A process without a node has a seat too, which it shares with no other.
"""

from __future__ import annotations

from proxy.node.board import Others
from proxy.node.places import Key, Share
from proxy.node.seat import Node, Seat

__all__ = ["Key", "Node", "Others", "Seat", "Share"]
