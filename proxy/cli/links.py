"""`link` and `explain`."""

from __future__ import annotations

import sys
import time
from ipaddress import ip_address
from pathlib import Path

import click

from proxy.app import make_accounts, make_minter
from proxy.cli.configuration import config_option, load_settings, require_keys
from proxy.cli.failures import fail, plain_errors
from proxy.errors import IdentifierError
from proxy.links import Claims, FindingState, explain, is_url, parse_reference
from proxy.model import AccountSid, MediaRef
from proxy.upstream.providers import Accounts, parse_media_url


@click.command("link")
@click.argument("references", nargs=-1, required=True, metavar="REF...")
@config_option
@click.option("--ttl", type=int, help="Seconds for which the link is good, at least.")
@click.option("--not-before", type=int, help="Unix time before which the link is refused.")
@click.option("--filename", help="The name under which a browser saves the media.")
@click.option(
    "--download", is_flag=True, help="Have browsers save the media instead of showing it (disposition attachment)."
)
@click.option("--ip", help="Accept only clients at this address or in this CIDR.")
@click.option(
    "--scope", type=click.Choice(["media", "message"]), help="message: one signature for all media of a message."
)
@plain_errors
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
    """Mint links without a running gateway.

    REF is the URL or uri of a media, as the provider gives it, or ACCOUNT/MESSAGE/MEDIA.
    """
    settings = load_settings(config)
    require_keys(settings)
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
        fail("no link was minted.")
    for minted in [minter.mint(ref, ttl=ttl, claims=claims) for ref in media]:
        click.echo(minted.url)


def _read_reference(reference: str, accounts: Accounts) -> MediaRef | IdentifierError:
    """Read a URL at an account's origin, or a reference as the provider writes it; return the error if it is bad."""
    try:
        if is_url(reference) and len(accounts):
            return parse_media_url(reference, accounts)
        return parse_reference(reference)
    except IdentifierError as error:
        return error


def _tell_account(sid: AccountSid, accounts: Accounts) -> str:
    parent = accounts.parent(sid)
    if parent is not None:
        return f"By these settings {sid} is asked for as a subaccount, with the credentials of {parent}."
    return f"By these settings {sid} is {'' if sid in accounts else 'not '}configured."


@click.command("explain")
@click.argument("url")
@config_option
@click.option("--ip", help="The client's address, for a link that is bound to one.")
@plain_errors
def explain_command(url: str, config: Path | None, ip: str | None) -> None:
    """Explain, claim by claim, why a signed URL is accepted or refused.

    Exits with 0 if it is accepted, else with 1.
    """
    settings = load_settings(config)
    require_keys(settings)
    minter = make_minter(settings)
    try:
        client = None if ip is None else ip_address(ip)
    except ValueError:
        fail("--ip is not an address")
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
    if explanation.link is not None:
        told = _tell_account(explanation.link.ref.account, make_accounts(settings))
        click.echo(f"{marks[FindingState.INFO]} {'account':<11} {told}")
    verdict = "accepted" if explanation.refusal is None else f"refused, {explanation.status}: {explanation.refusal}"
    click.echo(f"This link is {verdict}")
    sys.exit(0 if explanation.accepted else 1)
