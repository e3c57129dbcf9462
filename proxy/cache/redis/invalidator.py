"""Erasures that hold in every gateway: written in the shared log first, and carried out here as the log is followed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxy.cache.invalidation.policy import Verdict
from proxy.cache.redis.changes import Change
from proxy.erasure import BlockKind

if TYPE_CHECKING:
    from proxy.cache.redis.follower import Following


class SharedChanges:
    """Calls raise `StoreError`; where the log cannot be written nothing is changed."""

    def __init__(self, following: Following) -> None:
        self._following = following

    async def erase(self, prefix: str, now: float) -> None:
        await self._following.change(Change.erase(prefix))

    async def judge(self, verdict: Verdict, now: float) -> None:
        await self._following.change(Change.judge(verdict))

    async def require_room(self, verdicts: Sequence[Verdict], now: float) -> None:
        await self._following.require_room(verdicts)

    async def lift(self, kind: BlockKind, prefix: str, now: float, until: float | None = None) -> None:
        await self._following.change(Change.lift(kind, prefix, until))
