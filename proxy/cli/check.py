"""`check`."""

from __future__ import annotations

import asyncio
import re
import sys
from itertools import islice
from pathlib import Path
from typing import Final

import click

from proxy.app import make_accounts, make_minter, make_upstream
from proxy.cli.configuration import config_option, load_settings
from proxy.cli.failures import plain_errors
from proxy.errors import (
    MediaNotFound,
    SettingsError,
    StoreError,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefusedCredentials,
)
from proxy.model import AccountSid
from proxy.settings import AllAccounts, Settings, SubaccountsOf
from proxy.telemetry.metrics import Metrics
from proxy.upstream.client import UpstreamClient
from proxy.upstream.listing import check_credentials
from proxy.upstream.providers import Account, Accounts

_AT_ONCE: Final = 16
"""Accounts whose credentials are tried at once: thousands, one after the other, would take an hour."""
_REGION_ALONE: Final = re.compile(r"api\.[a-z0-9-]+\.twilio\.com")


@click.command("check")
@config_option
@plain_errors
def check_command(config: Path | None) -> None:
    """Validate the settings, try the credentials of each account at its upstream, and reach for the shared tier.

    Exits with 0 if all is well, else with 1. A warning is not a failure.
    """
    try:
        settings = load_settings(config)
        settings.require_serving()
        make_minter(settings)
        accounts = make_accounts(settings)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"BAD  {problem.name}: {problem.message}")
        sys.exit(1)
    click.echo("ok   settings")
    _warn(settings, accounts)
    problems = () if settings.folder is None else settings.folder.problems
    for problem in problems:
        click.echo(f"BAD  {problem.name}: {problem.message}")
    sys.exit(0 if asyncio.run(_check_all(settings, accounts)) and not problems else 1)


def _warn(settings: Settings, accounts: Accounts) -> None:
    """Warn about settings that are valid and probably not meant."""
    for account in accounts:
        if _REGION_ALONE.fullmatch(account.origin.host):
            click.echo(
                f"WARN {account.sid}: {account.origin.host} names a region without its edge, a form that Twilio has"
                " deprecated; set TWILIO_EDGE (or the account's origin) as well, such as dublin for ie1"
            )
    for client in settings.clients:
        families = () if client.accounts is AllAccounts.ALL else client.accounts
        named = sorted(str(family.account) for family in families if isinstance(family, SubaccountsOf))
        for sid in named:
            account_of = accounts.get(AccountSid.parse(sid))
            if account_of is None or not account_of.subaccounts:
                click.echo(
                    f"WARN client {client.id}: {sid}/* is {sid} alone, since no account {sid} says subaccounts = true"
                )


async def _check_all(settings: Settings, accounts: Accounts) -> bool:
    good = await _check_accounts(settings, accounts)
    return await _check_shared(settings) and good


async def _check_accounts(settings: Settings, accounts: Accounts) -> bool:
    good = True
    async with make_upstream(settings, accounts, Metrics()) as upstream:
        left = iter(accounts)
        while some := list(islice(left, _AT_ONCE)):
            for well, told in await asyncio.gather(*(_check_account(upstream, account) for account in some)):
                good = good and well
                click.echo(told)
    return good


async def _check_account(upstream: UpstreamClient, account: Account) -> tuple[bool, str]:
    """Return whether the upstream takes the account's credentials, and the line that says so."""
    try:
        await check_credentials(upstream, account)
    except UpstreamError as error:
        return False, f"BAD  {account.sid}: {_why(account, error)} ({error.kind})"
    told = f"ok   {account.sid}: {account.origin} takes its credentials"
    if account.subaccounts:
        told += f"; they serve as well every account of {account.provider} that is not configured (subaccounts)"
    return True, told


def _why(account: Account, error: UpstreamError) -> str:
    """Return which origin was asked, and why it failed; a note for the log has no secret in it."""
    origin = str(account.origin)
    match error:
        case UpstreamRefusedCredentials():
            return f"{origin} refuses the account's credentials"
        case MediaNotFound():
            return f"{origin} does not know the account"
        case UpstreamBusy():
            return f"{origin} is busy; try again in a while"
        case _:
            told = error.note or error.detail or error.title
            return told if origin in told else f"{origin}: {told}"


async def _check_shared(settings: Settings) -> bool:
    shared, server = settings.shared_cache, settings.shared_server
    if shared is None or server is None:
        return True
    # The client of Redis is an extra.
    from proxy.cache.redis.server_check import check_server

    try:
        await check_server(server, seconds=settings.limits.shared_seconds)
    except StoreError as error:
        click.echo(f"BAD  GATEWAY_SHARED_CACHE: {shared.place}: {error.note}")
        return False
    click.echo(f"ok   GATEWAY_SHARED_CACHE: {shared.place} can be written to")
    return True
