"""`keygen`."""

from __future__ import annotations

import click

from proxy.clients import hash_secret, new_secret, new_signing_key


@click.command("keygen")
@click.option(
    "--hash", "hashed", is_flag=True, help="A client's secret and its hash for TOML, in place of a signing key."
)
def keygen_command(hashed: bool) -> None:  # noqa: FBT001 - click passes a flag by name
    """Print a fresh signing key as GATEWAY_SIGNING_KEYS takes it, or a client's secret and its hash."""
    if not hashed:
        click.echo(new_signing_key())
        return
    secret = new_secret()
    click.echo(f"# For the client, which alone keeps it: {secret}")
    click.echo(f'secret_hash = "{hash_secret(secret)}"')
