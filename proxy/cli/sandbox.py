"""`sandbox`."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import click

from proxy.cli.failures import plain_errors
from proxy.clients import new_secret, new_signing_key
from proxy.errors import IdentifierError, SettingProblem, SettingsError
from proxy.model import AccountSid, Provider
from proxy.processes.event_loop import run, until_signalled
from proxy.processes.listeners import open_listener
from proxy.sandbox import Mode, Sandbox, SandboxOptions
from proxy.sandbox.creation import MEDIA_BYTES
from proxy.sandbox.seeding import SeedPlan, plan_seeding, seed
from proxy.sandbox.targets import root
from proxy.settings import TcpAddress, is_loopback, parse_listen
from proxy.telemetry.logs import logging_to

_CLIENT: Final = "backend"
_TRIED_PORTS: Final = 100
_NAMED_FILES: Final = 3
_OPTIONS: Final = {"folder": "data"}
"""Options whose name is not the one that the sandbox has for them."""
_NAMES: Final = {Provider.TWILIO: "Twilio", Provider.SIGNALWIRE: "SignalWire"}


@click.command("sandbox")
@click.option("--listen", metavar="ADDR", default="127.0.0.1:8081", show_default=True, help="HOST:PORT of the API.")
@click.option("--cdn-listen", metavar="ADDR", help="HOST:PORT of the CDN. Default: the next free port.")
@click.option(
    "--host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="Another host that it answers to, at any port, such as the name of a container. May be repeated.",
)
@click.option("--profile", type=click.Choice([one.value for one in Provider]), default="twilio", show_default=True)
@click.option(
    "--mode",
    type=click.Choice([one.value for one in Mode]),
    help="How requests for bytes are answered. Default: redirect-signed for twilio, direct for signalwire.",
)
@click.option("--public-media", is_flag=True, help="Have the API give the bytes of media without credentials.")
@click.option(
    "--data",
    metavar="DIR",
    help="Folder for messages and media. Default: a temporary folder, which is removed at the end.",
)
@click.option(
    "--seed-media",
    metavar="PATH",
    multiple=True,
    help="A file, or a folder of files, to make messages with media from. May be repeated.",
)
@click.option("--no-samples", is_flag=True, help="Begin without the sample conversation.")
@click.option("--account-sid", metavar="SID", default="", help="The SID of the one account, in place of the fixed one.")
@click.option("--auth-token", metavar="TOKEN", help="Its AuthToken or API token, in place of the fixed one.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON in place of text.")
@plain_errors
def sandbox_command(
    listen: str,
    cdn_listen: str | None,
    hosts: tuple[str, ...],
    profile: str,
    mode: str | None,
    public_media: bool,  # noqa: FBT001 - click passes a flag by name
    data: str | None,
    seed_media: tuple[str, ...],
    no_samples: bool,  # noqa: FBT001 - click passes a flag by name
    account_sid: str,
    auth_token: str | None,
    as_json: bool,  # noqa: FBT001 - click passes a flag by name
) -> None:
    """Run the sandbox upstream alone, a stand-in for Twilio or SignalWire in your own tests."""
    with logging_to(as_json=False, level="warning"):
        try:
            api = _address("listen", listen)
            options = SandboxOptions(
                profile=Provider(profile),
                mode=None if mode is None else Mode(mode),
                protected=not public_media,
                api_listen=(api.host, api.port),
                cdn_listen=_cdn_address(api, cdn_listen),
                account_sid=account_sid,
                auth_token=SandboxOptions().auth_token if auth_token is None else _token(auth_token),
                seed=not no_samples,
                hosts=hosts,
                folder=None if data is None else _path("data", data).absolute(),
            )
            plan = plan_seeding([_path("seed_media", path) for path in seed_media])
            run(lambda: _serve(options, plan, as_json=as_json), None)
        except SettingsError as error:
            raise SettingsError(
                [SettingProblem(_option(problem.name), problem.message) for problem in error.problems]
            ) from error
        except IdentifierError as error:
            raise SettingsError([SettingProblem("--account-sid", error.detail)]) from error


def _option(name: str) -> str:
    return "--" + _OPTIONS.get(name, name).replace("_", "-")


def _path(option: str, written: str) -> Path:
    try:
        return Path(written).expanduser()
    except RuntimeError as error:
        raise SettingsError([SettingProblem(option, "names the home of an unknown user")]) from error


def _token(written: str) -> str:
    # It has to fit unchanged into a header field and into an environment variable.
    if not written or not all("!" <= letter <= "~" for letter in written):
        raise SettingsError([SettingProblem("auth_token", "expected ASCII without white space")])
    return written


# --- addresses ------------------------------------------------------------------------------------------------


def _address(option: str, written: str) -> TcpAddress:
    """Read an address that is free at the moment. Raises `SettingsError`."""
    try:
        address = parse_listen(written)
    except ValueError as error:
        raise SettingsError([SettingProblem(option, str(error))]) from None
    if not isinstance(address, TcpAddress) or address.wildcard:
        raise SettingsError([SettingProblem(option, "expected HOST:PORT, with a host that can be connected to")])
    reason = _refusal(address)
    if reason is not None:
        raise SettingsError([SettingProblem(option, reason)])
    return address


def _cdn_address(api: TcpAddress, written: str | None) -> tuple[str, int]:
    """Return the CDN's address: the one that was written, or the next free port after the API's."""
    if written is not None:
        address = _address("cdn_listen", written)
        if address == api and address.port != 0:
            raise SettingsError([SettingProblem("cdn_listen", "is the API's own address")])
        return address.host, address.port
    if api.port != 0:
        for port in range(api.port + 1, min(api.port + _TRIED_PORTS, 65535) + 1):
            if _refusal(TcpAddress(api.host, port)) is None:
                return api.host, port
    return api.host, 0


def _refusal(address: TcpAddress) -> str | None:
    """Return the reason why the address cannot be listened at, or None."""
    try:
        open_listener(address, {}).close()
    except SettingsError as error:
        return error.problems[0].message
    return None


# --- running --------------------------------------------------------------------------------------------------


async def _serve(options: SandboxOptions, plan: SeedPlan, *, as_json: bool) -> None:
    """Serve until SIGTERM or SIGINT. Raises `SettingsError` if it cannot start."""
    stopped = asyncio.create_task(until_signalled())
    try:
        async with AsyncExitStack() as stack:
            try:
                sandbox = await stack.enter_async_context(Sandbox(options))
            except OSError as error:
                # Another program was faster.
                reason = (error.strerror or "cannot be listened at").lower()
                raise SettingsError([SettingProblem("listen", reason)]) from error
            seeded = await seed(sandbox, plan)
            for note in _notes(options, plan, seeded.known):
                click.echo(f"media-gateway: {note}", err=True)
            facts = _Facts.of(sandbox)
            click.echo(facts.json() if as_json else "\n".join(facts.text()))
            await stopped
    finally:
        stopped.cancel()


def _notes(options: SandboxOptions, plan: SeedPlan, known: int) -> Iterator[str]:
    """Yield a line about each thing that the user may not expect."""
    large = [file.name for file in plan.oversized]
    if large:
        more = f" and {len(large) - _NAMED_FILES} more" if len(large) > _NAMED_FILES else ""
        names = ", ".join(large[:_NAMED_FILES])
        yield f"larger than the {MEDIA_BYTES:,} bytes that a provider takes with a message: {names}{more}"
    if plan.left_out:
        yield f"links that lead out of their folder, and were left out: {plan.left_out}"
    if known:
        yield f"files that were added before: {known}"
    if not is_loopback(options.api_listen[0]):
        yield "a gateway uses plain http with a loopback host only, and this is not one"


@dataclass(frozen=True, slots=True)
class _Facts:
    """Facts about a running sandbox that its user has to know; its secrets open nothing else."""

    profile: Provider
    mode: Mode
    api_url: str
    cdn_url: str
    account: AccountSid
    auth_token: str
    api_key: tuple[str, str]
    folder: Path | None
    messages: int
    media: int
    environment: Mapping[str, str]

    @classmethod
    def of(cls, sandbox: Sandbox) -> Self:
        return cls(
            profile=sandbox.options.profile,
            mode=sandbox.mode,
            api_url=sandbox.api_url,
            cdn_url=sandbox.cdn_url,
            account=sandbox.options.account,
            auth_token=sandbox.auth_token,
            api_key=sandbox.api_key,
            folder=sandbox.options.folder,
            messages=len(sandbox.messages),
            media=sum(len(message.media) for message in sandbox.messages),
            environment={
                **sandbox.gateway_account,
                "GATEWAY_SIGNING_KEYS": new_signing_key(),
                "GATEWAY_CLIENTS": f"{_CLIENT}:{new_secret()}",
            },
        )

    def json(self) -> str:
        """Return one line for programs."""
        return json.dumps(
            {
                "profile": self.profile,
                "mode": self.mode,
                "api_url": self.api_url,
                "cdn_url": self.cdn_url,
                "control_url": f"{self.api_url}/_sandbox",
                "account_sid": str(self.account),
                "auth_token": self.auth_token,
                "api_key": {"sid": self.api_key[0], "secret": self.api_key[1]},
                "folder": None if self.folder is None else str(self.folder),
                "messages": self.messages,
                "media": self.media,
                "environment": dict(self.environment),
            }
        )

    def text(self) -> Iterator[str]:
        """Yield lines for people; the indented ones can be pasted into a shell."""
        kept = "a temporary folder, removed at the end" if self.folder is None else str(self.folder)
        yield ""
        yield f"The sandbox runs, and stands in for {_NAMES[self.profile]}. Its secrets open nothing else."
        yield ""
        yield f"API:          {self.api_url}"
        yield f"CDN:          {self.cdn_url}"
        yield f"Control:      {self.api_url}/_sandbox"
        yield f"Account SID:  {self.account}"
        yield f"Auth token:   {self.auth_token}"
        yield f"API key:      {self.api_key[0]}, its secret {self.api_key[1]}"
        yield f"Holds:        {self.messages} messages with {self.media} media"
        yield f"Kept in:      {kept}"
        yield ""
        yield "Its messages:"
        yield ""
        credentials = f"{self.account}:{self.auth_token}"
        command = ["curl", "-sS", "-u", credentials, f"{self.api_url}{root(self.account)}/Messages.json"]
        yield f"  {shlex.join(command)}"
        yield ""
        yield "To run a gateway in front of it, in another shell, with a key and a client made for this run:"
        yield ""
        for name, value in self.environment.items():
            yield f"  export {name}={shlex.quote(value)}"
        # Another run may have other bytes under the same identifiers.
        yield '  export GATEWAY_CACHE_DIR="$(mktemp -d)"'
        yield "  media-gateway serve"
        yield ""
        yield "Ctrl-C ends it."
