"""Upstream accounts as they are written: single variables, named as the providers' tools do, and TOML tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, SecretStr

from proxy.errors import IdentifierError
from proxy.model import AccountSid, Provider
from proxy.settings.addresses import RedirectHost, UrlOrigin, parse_redirect_hosts, parse_upstream
from proxy.settings.annotations import Sealed, Shown
from proxy.settings.values import choice, parse_flag, parse_text

MAX_ACCOUNTS: Final = 200_000
"""Bound of configured accounts, from all sources: they take 400 MB of a process, and half a minute of its start."""

_SPACE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_USERNAME: Final = re.compile(r"[!-9;-~]+")  # RFC 7617 §2: no colon


class AccountSettings(BaseModel):
    """An account at an upstream, and the credentials, which only its origin is sent.

    `redirect_hosts` are added to the provider's own list. With `subaccounts`, the account's credentials are also used
    for accounts that are not configured.
    """

    model_config = ConfigDict(frozen=True)

    provider: Provider
    sid: InstanceOf[AccountSid]
    username: str
    password: SecretStr
    origin: str
    redirect_hosts: tuple[RedirectHost, ...] = ()
    subaccounts: bool = False


Hosts = tuple[RedirectHost, ...]


class NamedAccount(NamedTuple):
    """An account, with the names of the settings that identify it and that give it subaccounts."""

    account: AccountSettings
    origin: UrlOrigin
    name: str
    of_subaccounts: str


class Configured(NamedTuple):
    """The accounts of the variables and of the TOML file, and the redirect hosts of every account.

    `parents` has the one account of each provider that has subaccounts, if there is one.
    """

    accounts: Mapping[AccountSid, NamedAccount]
    parents: Mapping[Provider, NamedAccount]
    redirect_hosts: Hosts


def one_parent(other: str) -> str:
    """Return the message about a second account of a provider with subaccounts, beside the one at `other`."""
    return f"is for one account of a provider only, and is also set at {other}"


# --- credentials ----------------------------------------------------------------------------------------------


def parse_account(written: object) -> AccountSid:
    """Parse the identifier of an account. Raises `ValueError`."""
    text = parse_text(written)
    if text.startswith("SK"):
        raise ValueError("is an API key; expected the account's own SID (AC…), and the key as the user name")
    try:
        return AccountSid.parse(text)
    except IdentifierError as error:
        raise ValueError(error.detail) from None


def _parse_twilio_account(written: object) -> AccountSid:
    account = parse_account(written)
    if account.provider is not Provider.TWILIO:
        raise ValueError("expected AC and 32 hex digits")
    return account


def _parse_project(written: object) -> AccountSid:
    account = parse_account(written)
    if account.provider is not Provider.SIGNALWIRE:
        raise ValueError("expected a UUID")
    return account


def _parse_username(written: object) -> str:
    text = parse_text(written)
    if not _USERNAME.fullmatch(text):
        raise ValueError("expected ASCII without white space and colons")
    return text


def _parse_api_key(written: object) -> str:
    text = _parse_username(written)
    if not text.startswith("SK"):
        raise ValueError("expected an API key's SID, which begins with SK")
    return text


def parse_password(written: object) -> SecretStr:
    """Parse a credential, without white space around it, to which a provider would answer 401."""
    return SecretStr(parse_text(written))


# --- origins --------------------------------------------------------------------------------------------------


def _parse_place(written: object) -> str:
    text = parse_text(written).lower()
    if not _SPACE.fullmatch(text):
        raise ValueError("expected letters, digits and hyphens")
    return text


def twilio_origin(region: str | None, edge: str | None) -> UrlOrigin:
    """Return `api.{edge}.{region}.twilio.com`: an edge alone belongs to the region us1, a region needs no edge."""
    if edge and not region:
        region = "us1"
    return UrlOrigin("https", ".".join(part for part in ("api", edge, region, "twilio.com") if part), 443)


def parse_space(written: object) -> UrlOrigin:
    """Parse a SignalWire space, given by its name, its host or its URL."""
    text = parse_text(written)
    if _SPACE.fullmatch(text):
        return UrlOrigin("https", f"{text.lower()}.signalwire.com", 443)
    try:
        return parse_upstream(text if "://" in text else f"https://{text}")
    except ValueError:
        raise ValueError("expected a space's name, or its host such as example.signalwire.com") from None


# --- what is written ------------------------------------------------------------------------------------------

_WRITTEN: Final = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
_Account = Annotated[InstanceOf[AccountSid] | None, BeforeValidator(_parse_twilio_account)]
_Project = Annotated[InstanceOf[AccountSid] | None, BeforeValidator(_parse_project)]
_Password = Annotated[SecretStr | None, BeforeValidator(parse_password), Sealed()]
_Place = Annotated[str | None, BeforeValidator(_parse_place)]
RedirectHosts = Annotated[tuple[RedirectHost, ...], BeforeValidator(parse_redirect_hosts)]


class TwilioVariables(BaseModel):
    """A single Twilio account."""

    model_config = _WRITTEN

    account_sid: _Account = Field(None, description="the Twilio account (`AC…`)")
    auth_token: _Password = Field(None, description="its AuthToken")
    api_key: Annotated[str | None, BeforeValidator(_parse_api_key)] = Field(
        None, description="an API key of the account (`SK…`), taken in place of the AuthToken"
    )
    api_secret: _Password = Field(None, description="the API key's secret")
    region: _Place = Field(None, description="the account's region, such as `ie1`")
    edge: _Place = Field(None, description="the edge to connect to, such as `dublin`")


class SignalWireVariables(BaseModel):
    """A single SignalWire project."""

    model_config = _WRITTEN

    space: Annotated[InstanceOf[UrlOrigin] | None, BeforeValidator(parse_space)] = Field(
        None, description="the SignalWire space: its name, or its host (alias `SIGNALWIRE_SPACE_URL`)"
    )
    project_id: _Project = Field(None, description="the SignalWire project (a UUID)")
    api_token: _Password = Field(None, description="its API token (alias `SIGNALWIRE_TOKEN`)")


class UpstreamVariables(BaseModel):
    """Settings that change how accounts are reached."""

    model_config = _WRITTEN

    upstream_url: Annotated[InstanceOf[UrlOrigin] | None, BeforeValidator(parse_upstream), Shown("provider's")] = Field(
        None,
        description="the origin (no path) of the single Twilio account in place of the provider's; "
        "`http` only for loopback",
    )
    redirect_hosts: Annotated[RedirectHosts, Shown("provider's list")] = Field(
        (),
        description="further `host[:port]`, comma separated, that a redirect of any account may lead to; plain `http` "
        "and loopback only if written with a port, and if the account's origin is itself loopback",
    )
    subaccounts: Annotated[bool, BeforeValidator(parse_flag)] = Field(
        default=False,
        description="`1`: accounts that are not configured are asked for at the single account's origin, with its "
        "credentials; see `subaccounts` of `[[accounts]]`",
    )


class AccountTable(BaseModel):
    """One `[[accounts]]` of a TOML file."""

    model_config = _WRITTEN

    provider: Annotated[Provider, BeforeValidator(choice(Provider))]
    account_sid: Annotated[InstanceOf[AccountSid], BeforeValidator(parse_account)]
    username: Annotated[str | None, BeforeValidator(_parse_username)] = None
    password: Annotated[SecretStr, BeforeValidator(parse_password)]
    origin: Annotated[InstanceOf[UrlOrigin] | None, BeforeValidator(parse_upstream)] = None
    space: Annotated[InstanceOf[UrlOrigin] | None, BeforeValidator(parse_space)] = None
    redirect_hosts: RedirectHosts = ()
    subaccounts: Annotated[bool, BeforeValidator(parse_flag)] = False
