"""`init`."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from proxy.cli.failures import fail, plain_errors
from proxy.clients import new_secret, new_signing_key

_CLIENT: Final = "backend"
_ACCOUNTS: Final = {
    "TWILIO_ACCOUNT_SID": ("TWILIO_AUTH_TOKEN", "TWILIO_API_KEY"),
    "SIGNALWIRE_PROJECT_ID": ("SIGNALWIRE_API_TOKEN", "SIGNALWIRE_TOKEN"),
}
"""Variables that name an account, each with those of which one holds its credentials."""

_TEXT: Final = """\
# Settings of the media gateway: media-gateway serve --config FILE
#
# This file holds secrets: only the gateway's user should read it, and it does not belong in version control.
# Every setting of proxy/settings/README.md can stand here by its name in lower case, above the first [[table]].
# If a variable of the environment has the same name, the variable wins.

# The beginning of each link: scheme, host and an optional path. The default is the listen address, which is enough to
# try the gateway on one machine.
#gateway_public_url = "https://media.example.com"
#gateway_listen = "127.0.0.1:8080"

# The first key signs links, and all of them open links. A link is refused once its key is removed.
# To change keys, put a new one (media-gateway keygen) in front: "new:...,old:..."
gateway_signing_keys = "{keys}"

# The accounts whose media are served: at least one, here or in the environment. Remove the #, and fill it in.

# Twilio. With an API key in place of the AuthToken, username is the key (SK...) and password its secret.
# An account of a region also needs its host with the edge, such as origin = "https://api.dublin.ie1.twilio.com".
#[[accounts]]
#provider = "twilio"
#account_sid = "AC0123456789abcdef0123456789abcdef"
#password = "the AuthToken"

# SignalWire. The space is EXAMPLE of EXAMPLE.signalwire.com, account_sid is the project's id.
#[[accounts]]
#provider = "signalwire"
#space = "example"
#account_sid = "01234567-89ab-cdef-0123-456789abcdef"
#password = "the API token"

# Your backend, which may mint links by POST /links, read media and delete them, by HTTP Basic with this id and secret.
# Other scopes are purge, revoke and observe. Accounts may be listed in place of "*".
[[clients]]
id = "{client}"
secret = "{secret}"
scopes = ["mint", "read", "delete"]
accounts = ["*"]
"""


@click.command("init")
@click.argument("file", type=click.Path(path_type=Path), default=Path("media-gateway.toml"))
@plain_errors
def init_command(file: Path) -> None:
    """Write a file of settings with a new signing key and a client. The default of FILE is media-gateway.toml.

    A file that exists is never changed.
    """
    text = _TEXT.format(keys=new_signing_key(), client=_CLIENT, secret=new_secret())
    try:
        _create(file, text)
    except FileExistsError:
        fail(f"{file}: already exists, and was not changed")
    except OSError as error:
        fail(f"{file}: cannot be written: {(error.strerror or type(error).__name__).lower()}")
    for line in _next_steps(file, os.environ):
        click.echo(line)


def _create(file: Path, text: str) -> None:
    """Write a file that does not exist yet, readable by its owner alone; a link in its place is not followed.

    Raises `OSError`, and leaves nothing behind then.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            # The umask may have taken rights of the owner too.
            os.fchmod(descriptor, 0o600)
            opened.write(text.encode())
            opened.flush()
            os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            file.unlink()
        raise


def _next_steps(file: Path, environ: Mapping[str, str]) -> list[str]:
    path = shlex.quote(str(file))
    known = [name for name, secrets in _ACCOUNTS.items() if environ.get(name) and any(map(environ.get, secrets))]
    account = (
        f"1. Your account is taken from {' and '.join(known)} in the environment. To use it from any shell, write it"
        " into an [[accounts]] of the file."
        if known
        else "1. Fill in one [[accounts]] of the file: your account and its credentials."
    )
    return [
        f'Wrote {file}, which only you can read. It has a new signing key, and the secret of the client "{_CLIENT}".',
        "",
        account,
        f"2. media-gateway check --config {path}",
        f"3. media-gateway serve --config {path}",
        "",
        "Mint with the same file, in any shell:",
        f"   media-gateway link --config {path} MEDIA_URL",
    ]
