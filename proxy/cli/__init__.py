"""The command line, `media-gateway`: options in, lines and an exit code out.

Each command is a module here, imported when it is asked for, so that no command waits for the imports of another. A
command does no work of its own: it reads the settings and calls the room that does it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from proxy.version import version

_MODULES: Final = {
    "serve": "serve",
    "demo": "serve",
    "sandbox": "sandbox",
    "link": "links",
    "explain": "links",
    "init": "init",
    "keygen": "keygen",
    "check": "check",
    "purge": "storage",
    "stats": "storage",
}
"""The module of this package in which each command `NAME` is the function `NAME_command`."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        command = getattr(import_module(f"{__name__}.{_MODULES[cmd_name]}"), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="media-gateway")
def main() -> None:
    """Serve signed, cached, seekable links to the media of Twilio and SignalWire messages."""
