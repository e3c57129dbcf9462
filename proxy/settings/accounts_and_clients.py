"""Accounts and clients, read from the single variables and from the tables of a TOML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import SecretStr

from proxy.errors import SettingProblem
from proxy.model import AccountSid, Provider
from proxy.settings.accounts import (
    MAX_ACCOUNTS,
    AccountSettings,
    AccountTable,
    Configured,
    Hosts,
    NamedAccount,
    SignalWireVariables,
    TwilioVariables,
    UpstreamVariables,
    one_parent,
    twilio_origin,
)
from proxy.settings.accounts_folder import Parse
from proxy.settings.addresses import UrlOrigin
from proxy.settings.catalogue import settings_of
from proxy.settings.credentials import ClientSettings, ClientVariables
from proxy.settings.reading import Reading
from proxy.settings.sources import settle_table, tables

_SIGNALWIRE: Final = ("signalwire_space", "signalwire_project_id", "signalwire_api_token")
_TWILIO: Final = ("twilio_account_sid", "twilio_auth_token", "twilio_api_key", "twilio_api_secret")


def read_accounts(reading: Reading, table: Mapping[str, object]) -> Configured:
    """Read every account, each once; problems go to `reading`."""
    upstream = reading.section(UpstreamVariables, settings_of("gateway_", UpstreamVariables)) or UpstreamVariables()
    written = len(reading.problems)
    listed = table.get("accounts")
    if isinstance(listed, list) and len(listed) > MAX_ACCOUNTS:
        reading.problems.append(SettingProblem("accounts", f"expected at most {MAX_ACCOUNTS} accounts"))
        return Configured({}, {}, ())
    accounts: dict[AccountSid, NamedAccount] = {}
    parents: dict[Provider, NamedAccount] = {}
    for found in _written_accounts(reading, table, upstream):
        account = found.account
        first = accounts.setdefault(account.sid, found)
        if first is not found:
            reading.problems.append(
                SettingProblem(found.name, f"this account is configured twice, here and at {first.name}")
            )
        first = parents.setdefault(account.provider, found) if account.subaccounts else found
        if first is not found:
            reading.problems.append(SettingProblem(found.of_subaccounts, one_parent(first.of_subaccounts)))
    origins = [found.origin for found in accounts.values()]
    # Accounts of a folder may come later.
    known = len(reading.problems) == written and not reading.has("gateway_accounts_dir")
    remote = known and origins and not any(origin.loopback for origin in origins)
    if remote and any(host.loopback for host in upstream.redirect_hosts):
        reading.problem("gateway_redirect_hosts", "has a loopback host, but no account has a loopback origin")
    return Configured(accounts, parents, upstream.redirect_hosts)


def _written_accounts(
    reading: Reading, table: Mapping[str, object], upstream: UpstreamVariables
) -> Iterator[NamedAccount]:
    single = [*_twilio(reading, upstream), *_signalwire(reading, upstream)]
    if upstream.subaccounts and not reading.has(*_TWILIO, *_SIGNALWIRE):
        reading.problem(
            "gateway_subaccounts",
            "is for the single account; neither TWILIO_ACCOUNT_SID nor SIGNALWIRE_PROJECT_ID is set",
        )
    yield from single
    for name, entry in tables(table, "accounts", reading.problems):
        found = read_account(reading, f"{name}.", entry, upstream.redirect_hosts)
        if found is not None:
            yield found


def _account(
    provider: Provider,
    sid: AccountSid,
    username: str,
    password: SecretStr,
    origin: UrlOrigin,
    own: Hosts,
    common: Hosts,
    *,
    subaccounts: bool,
) -> AccountSettings:
    # Only a loopback origin may redirect to a loopback host.
    hosts = [host for host in (*own, *common) if origin.loopback or not host.loopback]
    return AccountSettings(
        provider=provider,
        sid=sid,
        username=username,
        password=password,
        origin=str(origin),
        redirect_hosts=tuple(dict.fromkeys(hosts)),
        subaccounts=subaccounts,
    )


def _note_gaps(reading: Reading) -> None:
    """Note which settings of a Twilio account are missing beside the others."""
    if not reading.has("twilio_account_sid"):
        reading.problem("twilio_account_sid", "is required with the account's credentials (AC…)")
    if reading.has("twilio_api_key") and not reading.has("twilio_api_secret"):
        reading.problem("twilio_api_secret", "is required with TWILIO_API_KEY; the AuthToken does not belong to a key")
    elif reading.has("twilio_api_secret") and not reading.has("twilio_api_key"):
        reading.problem("twilio_api_key", "is required with TWILIO_API_SECRET")
    elif not reading.has("twilio_api_key", "twilio_auth_token"):
        reading.problem("twilio_auth_token", "is required, or both TWILIO_API_KEY and TWILIO_API_SECRET")


def _twilio(reading: Reading, upstream: UpstreamVariables) -> Iterator[NamedAccount]:
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
        origin = upstream.upstream_url or twilio_origin(found.region, found.edge)
        account = _account(
            Provider.TWILIO,
            found.account_sid,
            username,
            password,
            origin,
            (),
            upstream.redirect_hosts,
            subaccounts=upstream.subaccounts,
        )
        yield NamedAccount(account, origin, reading.name("twilio_account_sid"), reading.name("gateway_subaccounts"))


def _signalwire(reading: Reading, upstream: UpstreamVariables) -> Iterator[NamedAccount]:
    if not reading.has(*_SIGNALWIRE):
        return
    for key in _SIGNALWIRE:
        if not reading.has(key):
            reading.problem(key, "is required with the project's other settings")
    found = reading.section(SignalWireVariables, settings_of("signalwire_", SignalWireVariables))
    if found and found.space and found.project_id and found.api_token:
        account = _account(
            Provider.SIGNALWIRE,
            found.project_id,
            str(found.project_id),
            found.api_token,
            found.space,
            (),
            upstream.redirect_hosts,
            subaccounts=upstream.subaccounts,
        )
        yield NamedAccount(
            account, found.space, reading.name("signalwire_project_id"), reading.name("gateway_subaccounts")
        )


def _table_origin(reading: Reading, before: str, found: AccountTable) -> UrlOrigin | None:
    if found.space and (found.provider is Provider.TWILIO or found.origin):
        reason = "is for SignalWire" if found.provider is Provider.TWILIO else f"is set together with {before}origin"
        reading.problems.append(SettingProblem(f"{before}space", f"{reason}; expected only an origin"))
        return None
    if found.provider is Provider.SIGNALWIRE and not (found.origin or found.space):
        reading.problems.append(SettingProblem(f"{before}space", "is required for SignalWire, or an origin"))
        return None
    return found.origin or found.space or twilio_origin(region=None, edge=None)


def read_account(reading: Reading, before: str, entry: Mapping[str, object], common: Hosts) -> NamedAccount | None:
    """Return the account that a table describes; None if it has a problem, which goes to `reading`.

    `before` stands before each key in the names of problems. `common` are the redirect hosts of every account.
    """
    settled = settle_table(before, entry, "password", reading.problems)
    found = reading.checked(AccountTable, settled, before.__add__)
    if found is None:
        return None
    if found.account_sid.provider is not found.provider:
        reading.problems.append(SettingProblem(f"{before}account_sid", f"is not an account SID of {found.provider}"))
    origin = _table_origin(reading, before, found)
    if origin and not origin.loopback and any(host.loopback for host in found.redirect_hosts):
        reading.problems.append(
            SettingProblem(f"{before}redirect_hosts", "has a loopback host, but the origin is not loopback")
        )
    if origin is None:
        return None
    username = found.username or str(found.account_sid)
    account = _account(
        found.provider,
        found.account_sid,
        username,
        found.password,
        origin,
        found.redirect_hosts,
        common,
        subaccounts=found.subaccounts,
    )
    return NamedAccount(account, origin, f"{before}account_sid", f"{before}subaccounts")


def account_parser(common: Hosts) -> Parse:
    """Return the parser for the account of a file; `common` are the redirect hosts of every account."""

    def parse(before: str, table: Mapping[str, object]) -> tuple[AccountSettings | None, tuple[SettingProblem, ...]]:
        reading = Reading({}, [])
        found = read_account(reading, before, table, common)
        return (None if found is None or reading.problems else found.account), tuple(reading.problems)

    return parse


def read_clients(reading: Reading, table: Mapping[str, object]) -> tuple[ClientSettings, ...]:
    """Read every client, each once; problems go to `reading`."""
    single = reading.section(ClientVariables, settings_of("gateway_", ClientVariables)) or ClientVariables()
    clients = {client.id: client for client in single.clients}
    for name, entry in tables(table, "clients", reading.problems):
        settled = settle_table(f"{name}.", entry, "secret", reading.problems)
        client = reading.checked(ClientSettings, settled, f"{name}.{{}}".format)
        if client is None:
            continue
        if (client.secret is None) == (client.secret_hash is None):
            reading.problems.append(SettingProblem(f"{name}.secret", "expected either secret or secret_hash"))
        if client.id in clients:
            reading.problems.append(SettingProblem(f"{name}.id", "this client is configured twice"))
        clients[client.id] = client
    return tuple(clients.values())
