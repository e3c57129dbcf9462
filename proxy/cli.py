"""The command line: `media-gateway`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn, ParamSpec

import click

import proxy
from proxy.app import make_accounts, make_minter, make_upstream
from proxy.clients import hash_secret, new_secret, new_signing_key
from proxy.demo import run_demo
from proxy.errors import BadRequest, GatewayError, IdentifierError, SettingsError, UpstreamError
from proxy.links import Claims, FindingState, explain, parse_reference
from proxy.model import MediaRef
from proxy.server.running import run, serve
from proxy.settings import LogFormat, Settings, load
from proxy.telemetry.logs import logging_to
from proxy.upstream.listing import check_credentials
from proxy.upstream.providers import Accounts, parse_media_url

P = ParamSpec("P")

_BAD_SETTINGS = 2
_config = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="A TOML file of settings; the environment wins."
)


def _plain_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Say what is wrong in plain lines on standard error, and leave with 2 for settings, 1 for the rest."""

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
            _fail(error.detail)
        except GatewayError as error:
            _fail(str(error))

    return run_command


def _fail(message: str) -> NoReturn:
    click.echo(f"media-gateway: {message}", err=True)
    sys.exit(1)


def _load(config: Path | None, **overrides: str | None) -> Settings:
    environ = {**os.environ, **{name: value for name, value in overrides.items() if value is not None}}
    return load(environ, config)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(proxy.__version__, prog_name="media-gateway")
def main() -> None:
    """Signed, cached, seekable links to the media of Twilio and SignalWire messages."""


@main.command("serve")
@_config
@click.option("--listen", metavar="ADDR", help="HOST:PORT, or unix:/path.sock; wins over GATEWAY_LISTEN.")
@_plain_errors
def serve_command(config: Path | None, listen: str | None) -> None:
    """Run the gateway."""
    settings = _load(config, GATEWAY_LISTEN=listen)
    settings.require_serving()
    with logging_to(as_json=settings.log_format is LogFormat.JSON, level=settings.log_level.value):
        run(lambda: serve(settings), settings.loop)


@main.command("demo")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, envvar="PORT", show_default=True)
@_plain_errors
def demo_command(port: int) -> None:
    """Run the sandbox upstream, the gateway in front of it and the console: no account, no internet."""
    with logging_to(as_json=False, level="warning"):
        run(lambda: run_demo(port, click.echo), None)


@main.command("link")
@click.argument("references", nargs=-1, required=True, metavar="REF...")
@_config
@click.option("--ttl", type=int, help="Seconds that the link is good for at least.")
@click.option("--not-before", type=int, help="Unix time before which the link is refused.")
@click.option("--filename", help="The name that a browser saves the media under.")
@click.option("--download", is_flag=True, help="Save instead of show: disposition attachment.")
@click.option("--ip", help="Only for clients of this address or CIDR.")
@click.option("--scope", type=click.Choice(["media", "message"]), help="message: one signature for all of a message.")
@_plain_errors
def link_command(
    references: tuple[str, ...],
    config: Path | None,
    ttl: int | None,
    not_before: int | None,
    filename: str | None,
    download: bool,  # noqa: FBT001 - click passes a flag by name
    ip: str | None,
    scope: str | None,
) -> None:
    """Mint links without a running gateway. REF is a media URL as the provider gives it, or ACCOUNT/MESSAGE/MEDIA."""
    settings = _load(config)
    _require_keys(settings)
    minter = make_minter(settings)
    accounts = make_accounts(settings)
    disposition = "attachment" if download else None
    claims = Claims.parse(not_before=not_before, ip=ip, filename=filename, disposition=disposition, scope=scope)
    refs = [_read_reference(reference, accounts) for reference in references]
    for reference, ref in zip(references, refs, strict=True):
        if isinstance(ref, IdentifierError):
            click.echo(f"{reference}: {ref.detail}", err=True)
    media = [ref for ref in refs if isinstance(ref, MediaRef)]
    if len(media) < len(refs):
        _fail("no link was minted.")
    for minted in [minter.mint(ref, ttl=ttl, claims=claims) for ref in media]:
        click.echo(minted.url)


def _read_reference(reference: str, accounts: Accounts) -> MediaRef | IdentifierError:
    """A URL at a configured account's origin, or what the provider's own documents write; or why it is neither."""
    try:
        if "://" in reference and len(accounts):
            return parse_media_url(reference, accounts)
        return parse_reference(reference)
    except IdentifierError as error:
        return error


def _require_keys(settings: Settings) -> None:
    try:
        settings.require_serving()
    except SettingsError as error:
        without_accounts = [problem for problem in error.problems if problem.name != "accounts"]
        if without_accounts:
            raise SettingsError(without_accounts) from None


@main.command("explain")
@click.argument("url")
@_config
@click.option("--ip", help="The client's address, to judge a link that is bound to one.")
@_plain_errors
def explain_command(url: str, config: Path | None, ip: str | None) -> None:
    """Say, claim by claim, why a signed URL is accepted or refused. Exit 0 where it is accepted, else 1."""
    settings = _load(config)
    _require_keys(settings)
    minter = make_minter(settings)
    try:
        client = None if ip is None else ip_address(ip)
    except ValueError:
        _fail("--ip is no address")
    explanation = explain(
        url,
        keys=minter.keys,
        policy=minter.policy,
        now=time.time(),
        client=client,
        public_url=str(settings.public_url),
    )
    marks = {FindingState.OK: "ok  ", FindingState.BAD: "BAD ", FindingState.INFO: "    "}
    for finding in explanation.findings:
        click.echo(f"{marks[finding.state]} {finding.name:<11} {finding.text}")
    verdict = "accepted" if explanation.refusal is None else f"refused, {explanation.status}: {explanation.refusal}"
    click.echo(f"This link is {verdict}")
    sys.exit(0 if explanation.accepted else 1)


@main.command("keygen")
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


@main.command("check")
@_config
@_plain_errors
def check_command(config: Path | None) -> None:
    """Validate the settings, and try each account's credentials at its upstream. Exit 0 where all is well, else 1."""
    try:
        settings = _load(config)
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
