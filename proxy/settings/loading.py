"""The loading of `Settings` from what is written, or of every problem at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from proxy.errors import SettingProblem, SettingsError
from proxy.settings.accounts_and_clients import account_parser, read_accounts, read_clients
from proxy.settings.accounts_folder import AccountsFolder
from proxy.settings.catalogue import settings_of
from proxy.settings.model import Limits, Settings
from proxy.settings.reading import Reading
from proxy.settings.sources import read_environment, read_table, read_toml


def load(environ: Mapping[str, str], config: Path | None = None, before: Settings | None = None) -> Settings:
    """Load the settings of the environment and of a TOML file; a variable wins over the file.

    A file of the accounts' folder that cannot be used is left out, or keeps the account that it had in `before`, which
    are the settings of an earlier load; `Settings.folder` has the reason.

    Raises `SettingsError` with every other problem, each under the name that the user wrote: a variable, a key of the
    file, or a place in a table such as `accounts[0].origin`.
    """
    problems: list[SettingProblem] = []
    table = {} if config is None else read_toml(config, problems)
    reading = Reading(read_table(table, problems) | read_environment(environ, problems), problems)
    configured = read_accounts(reading, table)
    clients = read_clients(reading, table)
    limits = reading.section(Limits, settings_of("gateway_limit_", Limits))
    settings = reading.section(Settings, settings_of("gateway_", Settings))
    if problems or settings is None:
        raise SettingsError(problems)
    accounts = tuple(found.account for found in configured.accounts.values())
    folder = None
    if settings.accounts_dir is not None:
        known = before.folder if before is not None else None
        folder = AccountsFolder.open(
            settings.accounts_dir, configured, account_parser(configured.redirect_hosts), known
        )
        accounts += folder.accounts
    return settings.model_copy(update={"accounts": accounts, "folder": folder, "clients": clients, "limits": limits})
