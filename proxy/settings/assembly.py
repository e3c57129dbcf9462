"""Accounts and clients, joined from the single variables and from the tables of a TOML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import SecretStr

from proxy.errors import SettingProblem
from proxy.model import AccountSid, Provider
from proxy.settings.accounts import (
    AccountSettings,
    AccountTable,
    SignalWireVariables,
    TwilioVariables,
    UpstreamVariables,
    twilio_origin,
)
from proxy.settings.addresses import Origin, RedirectHost
from proxy.settings.catalogue import settings_of
from proxy.settings.credentials import ClientSettings, ClientVariables
from proxy.settings.reading import Reading
from proxy.settings.sources import settle_table, tables

Hosts = tuple[RedirectHost, ...]

_SIGNALWIRE: Final = ("signalwire_space", "signalwire_project_id", "signalwire_api_token")
_TWILIO: Final = ("twilio_account_sid", "twilio_auth_token", "twilio_api_key", "twilio_api_secret")


def read_accounts(reading: Reading, table: Mapping[str, object]) -> tuple[AccountSettings, ...]:
    """Every account that is written, each once; problems go to `reading`."""
    upstream = reading.section(UpstreamVariables, settings_of("gateway_", UpstreamVariables)) or UpstreamVariables()
    written = len(reading.problems)
    accounts: dict[AccountSid, AccountSettings] = {}
    origins: list[Origin] = []
    for name, account, origin in _written_accounts(reading, table, upstream):
        if account.sid in accounts:
            reading.problems.append(SettingProblem(name, "this account stands twice"))
        accounts[account.sid] = account
        origins.append(origin)
    remote = len(reading.problems) == written and origins and not any(origin.loopback for origin in origins)
    if remote and any(host.loopback for host in upstream.redirect_hosts):
        reading.problem("gateway_redirect_hosts", "holds a loopback host, and no account's origin is loopback")
    return tuple(accounts.values())


def _written_accounts(
    reading: Reading, table: Mapping[str, object], upstream: UpstreamVariables
) -> Iterator[tuple[str, AccountSettings, Origin]]:
    """Accounts with the name of what identifies them and their origin."""
    common = upstream.redirect_hosts
    yield from _twilio(reading, upstream.upstream_url, common)
    yield from _signalwire(reading, common)
    for name, entry in tables(table, "accounts", reading.problems):
        yield from _table(reading, name, entry, common)


def _account(
    provider: Provider, sid: AccountSid, username: str, password: SecretStr, origin: Origin, own: Hosts, common: Hosts
) -> AccountSettings:
    # A loopback host may be reached from a loopback origin alone.
    hosts = [host for host in (*own, *common) if origin.loopback or not host.loopback]
    return AccountSettings(
        provider=provider,
        sid=sid,
        username=username,
        password=password,
        origin=str(origin),
        redirect_hosts=tuple(dict.fromkeys(hosts)),
    )


def _note_gaps(reading: Reading) -> None:
    """Note what is missing beside what is written of a Twilio account."""
    if not reading.has("twilio_account_sid"):
        reading.problem("twilio_account_sid", "is required beside the account's credentials (AC…)")
    if reading.has("twilio_api_key") and not reading.has("twilio_api_secret"):
        reading.problem("twilio_api_secret", "is required beside TWILIO_API_KEY; a key does not go with the AuthToken")
    elif reading.has("twilio_api_secret") and not reading.has("twilio_api_key"):
        reading.problem("twilio_api_key", "is required beside TWILIO_API_SECRET")
    elif not reading.has("twilio_api_key", "twilio_auth_token"):
        reading.problem("twilio_auth_token", "is required, or TWILIO_API_KEY and TWILIO_API_SECRET")


def _twilio(reading: Reading, upstream: Origin | None, common: Hosts) -> Iterator[tuple[str, AccountSettings, Origin]]:
    if not reading.has(*_TWILIO):
        if reading.has("gateway_upstream_url"):
            reading.problem("gateway_upstream_url", "is for the single Twilio account; TWILIO_ACCOUNT_SID is not set")
        return
    _note_gaps(reading)
    found = reading.section(TwilioVariables, settings_of("twilio_", TwilioVariables))
    if found is None:
        return
    username, password = found.api_key or str(found.account_sid), found.api_secret or found.auth_token
    if found.account_sid and password:
        origin = upstream or twilio_origin(found.region, found.edge)
        account = _account(Provider.TWILIO, found.account_sid, username, password, origin, (), common)
        yield reading.name("twilio_account_sid"), account, origin


def _signalwire(reading: Reading, common: Hosts) -> Iterator[tuple[str, AccountSettings, Origin]]:
    if not reading.has(*_SIGNALWIRE):
        return
    for key in _SIGNALWIRE:
        if not reading.has(key):
            reading.problem(key, "is required beside the project's other settings")
    found = reading.section(SignalWireVariables, settings_of("signalwire_", SignalWireVariables))
    if found and found.space and found.project_id and found.api_token:
        account = _account(
            Provider.SIGNALWIRE, found.project_id, str(found.project_id), found.api_token, found.space, (), common
        )
        yield reading.name("signalwire_project_id"), account, found.space


def _table_origin(reading: Reading, name: str, found: AccountTable) -> Origin | None:
    if found.space and (found.provider is Provider.TWILIO or found.origin):
        reason = "is for SignalWire" if found.provider is Provider.TWILIO else f"stands beside {name}.origin"
        reading.problems.append(SettingProblem(f"{name}.space", f"{reason}; expected an origin alone"))
        return None
    if found.provider is Provider.SIGNALWIRE and not (found.origin or found.space):
        reading.problems.append(SettingProblem(f"{name}.space", "is required for SignalWire, or an origin"))
        return None
    return found.origin or found.space or twilio_origin(region=None, edge=None)


def _table(
    reading: Reading, name: str, entry: Mapping[str, object], common: Hosts
) -> Iterator[tuple[str, AccountSettings, Origin]]:
    settled = settle_table(name, entry, "password", reading.problems)
    found = reading.checked(AccountTable, settled, f"{name}.{{}}".format)
    if found is None:
        return
    if found.account_sid.provider is not found.provider:
        reading.problems.append(SettingProblem(f"{name}.account_sid", f"is no account SID of {found.provider}"))
    origin = _table_origin(reading, name, found)
    if origin and not origin.loopback and any(host.loopback for host in found.redirect_hosts):
        reading.problems.append(
            SettingProblem(f"{name}.redirect_hosts", "holds a loopback host, and the origin is not loopback")
        )
    if origin is None:
        return
    username = found.username or str(found.account_sid)
    account = _account(
        found.provider, found.account_sid, username, found.password, origin, found.redirect_hosts, common
    )
    yield f"{name}.account_sid", account, origin


def read_clients(reading: Reading, table: Mapping[str, object]) -> tuple[ClientSettings, ...]:
    """Every client that is written, each once; problems go to `reading`."""
    single = reading.section(ClientVariables, settings_of("gateway_", ClientVariables)) or ClientVariables()
    clients = {client.id: client for client in single.clients}
    for name, entry in tables(table, "clients", reading.problems):
        settled = settle_table(name, entry, "secret", reading.problems)
        client = reading.checked(ClientSettings, settled, f"{name}.{{}}".format)
        if client is None:
            continue
        if (client.secret is None) == (client.secret_hash is None):
            reading.problems.append(SettingProblem(f"{name}.secret", "expected either secret or secret_hash"))
        if client.id in clients:
            reading.problems.append(SettingProblem(f"{name}.id", "this client stands twice"))
        clients[client.id] = client
    return tuple(clients.values())
