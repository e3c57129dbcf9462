"""The lines on the socket pair between the supervisor and a worker: orders go down, reports come up.

A worker that is slow to read is told the state of the accounts by then, and not each step to it. So the number of
accounts bounds what waits for it.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

import msgspec
from pydantic import SecretStr

from proxy.errors import SettingProblem
from proxy.model import AccountSid, Provider
from proxy.settings import AccountSettings, RedirectHost

_AT_ONCE: Final = 64
"""Accounts in one line: some 30 KB, which a worker reads in one turn of its loop."""


class Leave(enum.Enum):
    """Orders to end: `RETIRE` makes way for another worker, `STOP` for none."""

    RETIRE = b"r"
    STOP = b"s"

    @property
    def line(self) -> bytes:
        """The order as it is sent."""
        return self.value + b"\n"


@dataclass(frozen=True, slots=True)
class AccountChange:
    """Accounts that are new or have changed, and those that have gone."""

    come: tuple[AccountSettings, ...] = ()
    gone: tuple[AccountSid, ...] = ()


Order = Leave | AccountChange


class _WrittenAccount(msgspec.Struct, frozen=True):
    provider: str
    sid: str
    username: str
    password: str
    origin: str
    redirect_hosts: list[tuple[str, int | None]]
    subaccounts: bool


class _WrittenChange(msgspec.Struct, frozen=True):
    come: list[_WrittenAccount]
    gone: list[str]


class PendingChanges:
    """Changes of the accounts that were not sent to a worker yet."""

    __slots__ = ("_accounts",)

    def __init__(self) -> None:
        self._accounts: dict[AccountSid, AccountSettings | None] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def add(self, change: AccountChange) -> None:
        """Add a change, in place of what waits about the same accounts."""
        self._accounts.update(dict.fromkeys(change.gone))
        self._accounts.update((account.sid, account) for account in change.come)

    def clear(self) -> None:
        """Drop everything that waits."""
        self._accounts.clear()

    def next(self) -> bytes:
        """Take out some of what waits, and return it as one line."""
        accounts = [(sid, self._accounts.pop(sid)) for sid in list(islice(self._accounts, _AT_ONCE))]
        change = _WrittenChange(
            [_written(account) for _, account in accounts if account is not None],
            [sid.value for sid, account in accounts if account is None],
        )
        return msgspec.json.encode(change) + b"\n"


def read_order(line: bytes) -> Order:
    """Read an order, a line without its end."""
    if len(line) == 1:
        return Leave(line)
    change = msgspec.json.decode(line, type=_WrittenChange)
    return AccountChange(tuple(map(_read, change.come)), tuple(map(AccountSid.parse, change.gone)))


def _written(account: AccountSettings) -> _WrittenAccount:
    return _WrittenAccount(
        account.provider.value,
        account.sid.value,
        account.username,
        account.password.get_secret_value(),
        account.origin,
        [(place.host, place.port) for place in account.redirect_hosts],
        account.subaccounts,
    )


def _read(written: _WrittenAccount) -> AccountSettings:
    return AccountSettings(
        provider=Provider(written.provider),
        sid=AccountSid.parse(written.sid),
        username=written.username,
        password=SecretStr(written.password),
        origin=written.origin,
        redirect_hosts=tuple(RedirectHost(host, port) for host, port in written.redirect_hosts),
        subaccounts=written.subaccounts,
    )


# --- reports --------------------------------------------------------------------------------------------------


class Report(msgspec.Struct, frozen=True):
    """Report of a worker: it accepts connections, or not, or cannot start with these problems (name and message)."""

    accepts: bool = False
    problems: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, problems: Sequence[SettingProblem]) -> Self:
        """Return the report of a start that failed. What is not UTF-8 in the name of a file is written escaped."""
        return cls(problems=tuple((_encodable(problem.name), _encodable(problem.message)) for problem in problems))


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


READY: Final = Report(accepts=True)
RETIRED: Final = Report()


def report(line: socket.socket, said: Report) -> None:
    """Tell the supervisor, in one line of JSON."""
    line.send(msgspec.json.encode(said) + b"\n")


def read_report(line: bytes) -> Report:
    """Read a report, a line without its end."""
    return msgspec.json.decode(line, type=Report)
