"""Changes of the accounts on their way from the supervisor to its workers: what is still to be told, and in what form.

A worker that is slow to listen is told what holds by then, and not each step: so what waits for it is bounded by the
number of accounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec
from pydantic import SecretStr

from proxy.model import AccountSid, Provider
from proxy.settings import AccountSettings, RedirectHost

_AT_ONCE: Final = 64
"""Accounts in one telling: some 30 KB, which are read in one turn of a worker's loop."""


class _Written(msgspec.Struct, frozen=True):
    provider: str
    sid: str
    username: str
    password: str
    origin: str
    redirect_hosts: list[tuple[str, int | None]]
    subaccounts: bool


class _Telling(msgspec.Struct, frozen=True):
    come: list[_Written]
    gone: list[str]


@dataclass(frozen=True, slots=True)
class AccountChange:
    """Accounts that are new or have changed, and those that have gone."""

    come: tuple[AccountSettings, ...] = ()
    gone: tuple[AccountSid, ...] = ()


class Untold:
    """Changes that a worker has not been told yet."""

    __slots__ = ("_accounts",)

    def __init__(self) -> None:
        self._accounts: dict[AccountSid, AccountSettings | None] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def add(self, change: AccountChange) -> None:
        """Note a change, in place of what was noted of the same accounts."""
        self._accounts.update(dict.fromkeys(change.gone))
        self._accounts.update((account.sid, account) for account in change.come)

    def clear(self) -> None:
        """Tell nothing more."""
        self._accounts.clear()

    def next(self) -> bytes:
        """Return the next telling, one line, and take what it says as told."""
        accounts = [(sid, self._accounts.pop(sid)) for sid in list(islice(self._accounts, _AT_ONCE))]
        telling = _Telling(
            [_written(account) for _, account in accounts if account is not None],
            [sid.value for sid, account in accounts if account is None],
        )
        return msgspec.json.encode(telling) + b"\n"


def read_telling(line: bytes) -> AccountChange:
    """Read a telling."""
    telling = msgspec.json.decode(line, type=_Telling)
    return AccountChange(tuple(map(_read, telling.come)), tuple(map(AccountSid.parse, telling.gone)))


def _written(account: AccountSettings) -> _Written:
    return _Written(
        account.provider.value,
        account.sid.value,
        account.username,
        account.password.get_secret_value(),
        account.origin,
        [(place.host, place.port) for place in account.redirect_hosts],
        account.subaccounts,
    )


def _read(written: _Written) -> AccountSettings:
    return AccountSettings(
        provider=Provider(written.provider),
        sid=AccountSid.parse(written.sid),
        username=written.username,
        password=SecretStr(written.password),
        origin=written.origin,
        redirect_hosts=tuple(RedirectHost(host, port) for host, port in written.redirect_hosts),
        subaccounts=written.subaccounts,
    )
