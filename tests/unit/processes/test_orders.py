"""Orders on their way to a worker: the last state of each account, in lines of a bounded size."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from proxy.errors import SettingProblem
from proxy.model import AccountSid, Provider
from proxy.processes.orders import (
    AccountChange,
    Leave,
    PendingChanges,
    Report,
    read_order,
    read_report,
    report,
)
from proxy.settings import AccountSettings, RedirectHost

SIDS = st.integers(0, 200).map(lambda number: AccountSid.parse(f"AC{number:032x}"))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
HOSTS = st.lists(st.builds(RedirectHost, st.just("cdn.example"), st.none() | st.integers(1, 65_535)), max_size=2)


@st.composite
def accounts(draw: st.DrawFn) -> AccountSettings:
    return AccountSettings(
        provider=Provider.TWILIO,
        sid=draw(SIDS),
        username=draw(TEXTS),
        password=SecretStr(draw(TEXTS)),
        origin="https://api.twilio.com",
        redirect_hosts=tuple(draw(HOSTS)),
        subaccounts=draw(st.booleans()),
    )


CHANGES = st.builds(
    lambda come, gone: AccountChange(tuple(come), tuple(sid for sid in gone if sid not in {one.sid for one in come})),
    st.lists(accounts(), max_size=5, unique_by=lambda account: account.sid),
    st.lists(SIDS, max_size=5, unique=True),
)


def carry_out(change: AccountChange, known: dict[AccountSid, AccountSettings]) -> None:
    for sid in change.gone:
        known.pop(sid, None)
    known.update((account.sid, account) for account in change.come)


def read_change(line: bytes) -> AccountChange:
    order = read_order(line.removesuffix(b"\n"))
    assert isinstance(order, AccountChange)
    return order


@given(st.lists(CHANGES, max_size=6), st.integers(0, 6))
def test_what_is_told_is_what_holds(changes: list[AccountChange], early: int) -> None:
    pending, expected, told = PendingChanges(), dict[AccountSid, AccountSettings](), dict[AccountSid, AccountSettings]()
    for number, change in enumerate(changes):
        carry_out(change, expected)
        pending.add(change)
        if number == early and pending:
            carry_out(read_change(pending.next()), told)
    while pending:
        carry_out(read_change(pending.next()), told)
    assert told == expected


def test_many_changes_are_told_in_lines_of_a_bounded_size() -> None:
    pending, passed = PendingChanges(), 0
    for number in range(500):
        sid = AccountSid.parse(f"AC{number:032x}")
        # Said again and again, it waits once.
        for password in ("a", "b\n", "c" * 100):
            account = AccountSettings(
                provider=Provider.TWILIO, sid=sid, username="u", password=SecretStr(password), origin="https://h"
            )
            pending.add(AccountChange(come=(account,)))
    assert len(pending) == 500
    while pending:
        line = pending.next()
        assert line.count(b"\n") == 1
        assert len(line) < 65_536
        passed += len(read_change(line).come)
    assert passed == 500


@pytest.mark.parametrize("order", Leave)
def test_an_order_to_leave_is_read_as_it_was_sent(order: Leave) -> None:
    assert read_order(order.line.removesuffix(b"\n")) is order


def test_a_problem_of_a_path_beyond_utf8_is_reported() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        report(theirs, Report.of([SettingProblem("GATEWAY_CACHE_DIR", "/\udcff cannot be used")]))
        said = read_report(ours.recv(1_000).strip())
    assert said == Report(problems=(("GATEWAY_CACHE_DIR", "/\\udcff cannot be used"),))
