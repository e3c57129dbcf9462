"""`keygen`."""

from __future__ import annotations

import click

from proxy.clients import hash_secret, new_secret, new_signing_key


@click.command("keygen")
@click.option(
    "--hash", "hashed", is_flag=True, help="Print a client's secret and its hash for TOML, in place of a signing key."
)
def keygen_command(hashed: bool) -> None:  # noqa: FBT001 - click passes a flag by name
    """Print a new signing key in the form of GATEWAY_SIGNING_KEYS, or a client's secret and its hash."""
    if not hashed:
        click.echo(new_signing_key())
        return
    secret = new_secret()
    click.echo(f"# The secret, which only the client keeps: {secret}")
    click.echo(f'secret_hash = "{hash_secret(secret)}"')
