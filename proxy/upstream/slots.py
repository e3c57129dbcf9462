"""How many connections an account has at once, and who waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proxy.errors import UpstreamBusy
from proxy.model import AccountSid
from proxy.upstream.providers import Account


@dataclass(slots=True)
class _Shared:
    """The slots of an account, while so many calls have or want one."""

    slots: asyncio.Semaphore
    calls: int = 0


class Slots:
    """`each` connections for each account; no call waits for one longer than `seconds`.

    Subaccounts share those of the account whose credentials they use, so that names that were made up get no more. What
    is held is bounded by the calls under way, however many accounts there are.
    """

    def __init__(self, each: int, seconds: float) -> None:
        self._each = each
        self._seconds = seconds
        self._in_use: dict[AccountSid, _Shared] = {}

    def __len__(self) -> int:
        """Return how many accounts have a call under way."""
        return len(self._in_use)

    @asynccontextmanager
    async def one(self, account: Account) -> AsyncIterator[None]:
        """One of the account's, within the context. Raises `UpstreamBusy` where none gets free in time."""
        shared = self._in_use.get(account.holder)
        if shared is None:
            shared = self._in_use[account.holder] = _Shared(asyncio.Semaphore(self._each))
        shared.calls += 1
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await shared.slots.acquire()
            except TimeoutError:
                raise UpstreamBusy(note=f"all connections of account {account.holder} are in use") from None
            try:
                yield
            finally:
                shared.slots.release()
        finally:
            shared.calls -= 1
            if not shared.calls:
                del self._in_use[account.holder]
