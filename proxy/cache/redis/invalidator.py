"""Erasures that hold in every gateway: written in the shared log first, and carried out here as the log is followed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxy.cache.invalidation.policy import Block
from proxy.cache.redis.changes import Change
from proxy.erasure import BlockKind

if TYPE_CHECKING:
    from proxy.cache.redis.follower import Follower


class SharedChanges:
    """Calls raise `StoreError`; where the log cannot be written nothing is changed."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    async def erase(self, prefix: str, now: float) -> None:
        await self._follower.change(Change.erase(prefix))

    async def judge(self, block: Block, now: float) -> None:
        await self._follower.change(Change.judge(block))

    async def require_room(self, blocks: Sequence[Block], now: float) -> None:
        await self._follower.require_room(blocks)

    async def lift(self, kind: BlockKind, prefix: str, now: float, until: float | None = None) -> None:
        await self._follower.change(Change.lift(kind, prefix, until))
