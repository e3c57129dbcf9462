"""The settings of a command: the environment, and the file that `--config` or `GATEWAY_CONFIG` names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from proxy.errors import SettingsError
from proxy.settings import CONFIG_VARIABLE, Settings, load

config_option: Final = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"A TOML file of settings, in place of the one that {CONFIG_VARIABLE} names; the environment wins.",
)


def load_settings(config: Path | None, before: Settings | None = None, **overrides: str | None) -> Settings:
    """Return the settings of the environment and the file; `overrides` are variables that win over the environment.

    See `load` for `before`. Raises `SettingsError`.
    """
    environ = {**os.environ, **{name: value for name, value in overrides.items() if value is not None}}
    named = environ.get(CONFIG_VARIABLE, "").strip()
    return load(environ, Path(named) if config is None and named else config, before)


def require_keys(settings: Settings) -> None:
    """Raise `SettingsError` if there is no signing key; an account is not needed."""
    try:
        settings.require_serving()
    except SettingsError as error:
        without_accounts = [problem for problem in error.problems if problem.name != "accounts"]
        if without_accounts:
            raise SettingsError(without_accounts) from None
