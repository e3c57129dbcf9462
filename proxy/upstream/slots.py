"""How many connections an account has at once, and who waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.errors import UpstreamBusy
from proxy.upstream.providers import Account, Accounts


class Slots:
    """`each` connections for each account; nobody waits for one longer than `seconds`."""

    def __init__(self, accounts: Accounts, each: int, seconds: float) -> None:
        self._slots = {account.sid: asyncio.Semaphore(each) for account in accounts}
        self._seconds = seconds

    @asynccontextmanager
    async def one(self, account: Account) -> AsyncIterator[None]:
        """One of the account's, within the context. Raises `UpstreamBusy` where none gets free in time."""
        slots = self._slots[account.sid]
        try:
            async with asyncio.timeout(self._seconds):
                await slots.acquire()
        except TimeoutError:
            raise UpstreamBusy(note=f"all connections of account {account.sid} are in use") from None
        try:
            yield
        finally:
            slots.release()
