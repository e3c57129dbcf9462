"""Failures of a command: plain lines on standard error, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Final, NoReturn, ParamSpec

import click

from proxy.errors import BadRequest, GatewayError, SettingsError

P = ParamSpec("P")

_BAD_SETTINGS: Final = 2


def plain_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command print its errors in plain lines on standard error, and exit with 2 for settings, else 1."""

    @wraps(command)
    def run_command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except SettingsError as error:
            for problem in error.problems:
                click.echo(f"{problem.name}: {problem.message}", err=True)
            sys.exit(_BAD_SETTINGS)
        except BadRequest as error:
            for fault in error.errors:
                click.echo(f"{fault.field}: {fault.message}", err=True)
            fail(error.detail)
        except GatewayError as error:
            fail(str(error))

    return run_command


def fail(message: str) -> NoReturn:
    """Print a message on standard error, and exit with 1."""
    click.echo(f"media-gateway: {message}", err=True)
    sys.exit(1)
