"""`check`."""

from __future__ import annotations

import asyncio
import re
import sys
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
from proxy.settings import Settings, SharedCacheUrl
from proxy.upstream.listing import check_credentials
from proxy.upstream.providers import Account, Accounts

_REGION_ALONE: Final = re.compile(r"api\.[a-z0-9-]+\.twilio\.com")


@click.command("check")
@config_option
@plain_errors
def check_command(config: Path | None) -> None:
    """Validate the settings, try each account's credentials at its upstream, and reach for the shared tier.

    Exit 0 if all is well, else 1. A warning changes nothing of that.
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
    for account in accounts:
        if _REGION_ALONE.fullmatch(account.origin.host):
            click.echo(
                f"WARN {account.sid}: {account.origin.host} names a region without its edge, a form that Twilio has"
                " deprecated; set TWILIO_EDGE (or the account's origin) as well, such as dublin for ie1"
            )
    sys.exit(0 if asyncio.run(_check_all(settings, accounts)) else 1)


async def _check_all(settings: Settings, accounts: Accounts) -> bool:
    good = await _check_accounts(settings, accounts)
    return await _check_shared(settings.shared_cache) and good


async def _check_accounts(settings: Settings, accounts: Accounts) -> bool:
    good = True
    async with make_upstream(settings, accounts) as upstream:
        for account in accounts:
            try:
                await check_credentials(upstream, account)
            except UpstreamError as error:
                good = False
                click.echo(f"BAD  {account.sid}: {_why(account, error)} ({error.kind})")
            else:
                click.echo(f"ok   {account.sid}: {account.origin} takes its credentials")
    return good


def _why(account: Account, error: UpstreamError) -> str:
    """Return which origin was asked, and why it failed; the log's own words tell no secret."""
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


async def _check_shared(shared: SharedCacheUrl | None) -> bool:
    if shared is None:
        return True
    # The client of Redis is an extra.
    from proxy.cache.shared.reach import check_reach

    try:
        await check_reach(shared.url.get_secret_value())
    except StoreError as error:
        click.echo(f"BAD  GATEWAY_SHARED_CACHE: {shared.place}: {error.note}")
        return False
    click.echo(f"ok   GATEWAY_SHARED_CACHE: {shared.place} can be written to")
    return True
