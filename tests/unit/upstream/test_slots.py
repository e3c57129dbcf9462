"""Slots: so many calls of an account at once, and nothing held of accounts that none is made for."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from proxy.errors import UpstreamBusy
from proxy.model import AccountSid, Provider
from proxy.upstream.providers import Account
from proxy.upstream.slots import Slots

PARENT = Account.create(
    Provider.TWILIO, AccountSid.parse("AC" + "0" * 32), "u", "p", "https://api.twilio.com", subaccounts=True
)
OTHER = Account.create(Provider.TWILIO, AccountSid.parse("AC" + "f" * 32), "u", "p", "https://api.twilio.com")


def invented(number: int) -> Account:
    return PARENT.subaccount(AccountSid.parse(f"AC{number:032x}"))


async def test_subaccounts_share_the_slots_of_their_parent() -> None:
    slots = Slots(2, 0.01)
    async with slots.one(PARENT), slots.one(invented(1)):
        with pytest.raises(UpstreamBusy):
            async with slots.one(invented(2)):
                pytest.fail("a third call has a slot")
        async with slots.one(OTHER):
            pass
    async with slots.one(invented(2)), slots.one(invented(3)):
        pass


async def test_a_call_waits_for_the_one_before_it() -> None:
    slots, order = Slots(1, 60), list[str]()

    async def call(name: str) -> None:
        async with slots.one(PARENT):
            order.append(name)

    async with AsyncExitStack() as first:
        await first.enter_async_context(slots.one(PARENT))
        second = asyncio.create_task(call("second"))
        await asyncio.sleep(0)
        order.append("first")
    await second
    assert order == ["first", "second"]


async def test_endless_names_leave_nothing_behind() -> None:
    slots = Slots(1, 0.001)
    for number in range(100):
        async with slots.one(invented(number)):
            assert len(slots) == 1
            with pytest.raises(UpstreamBusy):
                async with slots.one(PARENT):
                    pytest.fail("a second call has a slot")
    assert len(slots) == 0
