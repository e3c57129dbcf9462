"""`check`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from proxy.app import make_accounts, make_minter, make_upstream
from proxy.cli.configuration import config_option, load_settings
from proxy.cli.failures import plain_errors
from proxy.errors import SettingsError, UpstreamError
from proxy.settings import Settings
from proxy.upstream.listing import check_credentials
from proxy.upstream.providers import Accounts


@click.command("check")
@config_option
@plain_errors
def check_command(config: Path | None) -> None:
    """Validate the settings, and try each account's credentials at its upstream. Exit 0 where all is well, else 1."""
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
    sys.exit(0 if asyncio.run(_check_accounts(settings, accounts)) else 1)


async def _check_accounts(settings: Settings, accounts: Accounts) -> bool:
    good = True
    async with make_upstream(settings, accounts) as upstream:
        for account in accounts:
            try:
                await check_credentials(upstream, account)
            except UpstreamError as error:
                good = False
                click.echo(f"BAD  {account.sid}: {error.detail or error.title} ({error.kind})")
            else:
                click.echo(f"ok   {account.sid}: the upstream takes its credentials")
    return good
