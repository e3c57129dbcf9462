"""State that the workers of one node share, so that a limit for an account or an address holds for all of them.

Here lives the memory and the locks that are shared, without any rule of what they are used for. The supervisor makes a
`Node` before it forks; each worker has a `Seat`, its row in it.

1. A *place* (`places`) is a lock of the kernel's. Two workers never hold the same one, and the kernel gives back what a
   worker held at the moment it dies, however it dies.
2. The *board* (`board`) says of each worker how many places it holds and how many calls wait in it. A worker writes
   its own row alone. The numbers are a hint, for fairness and for waking: what is admitted depends on the locks.
3. A worker that gives a place back rings the *bell* of those that wait, so that no worker polls.
4. *Tallies* (`tallies`) are counts by key within a minute, which each worker adds to in its own row.

A process alone has a seat without a node, which shares with no other one.
"""

from __future__ import annotations

from proxy.node.board import Others
from proxy.node.places import Key, Share
from proxy.node.seat import Node, Seat

__all__ = ["Key", "Node", "Others", "Seat", "Share"]
