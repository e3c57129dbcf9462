"""What is a provider's own: paths, redirect places, accounts and their origins, and the URLs that name a media."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self, assert_never

from proxy.errors import IdentifierError, SettingProblem, SettingsError
from proxy.links.reference import PREFIXES, MediaUrl, is_api_host
from proxy.model import AccountSid, MediaRef, MessageRef, Provider

MAX_ACCOUNTS: Final = 10_000

_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_DEFAULT_PORT: Final = {"https": 443, "http": 80}

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def literal_address(host: str) -> IPAddress | None:
    """The address that a host is written as, brackets or not; None for a name."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host is written as loopback: `localhost` and the names below it (RFC 6761 §6.3), or an address."""
    address = literal_address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    # Releases of the standard library differ on `::ffff:127.0.0.1`.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


@dataclass(frozen=True, slots=True)
class WebOrigin:
    """Scheme, host and port (RFC 6454 §4), all in lower case; a literal IPv6 address stands in brackets."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Exactly an origin, with no path, userinfo or white space; None for anything else."""
        match = _ORIGIN.fullmatch(text)
        if match is None:
            return None
        port = int(match["port"] or _DEFAULT_PORT[match["scheme"]])
        if port > 65_535 or (match["host"].startswith("[") and literal_address(match["host"]) is None):
            return None
        return cls(match["scheme"], match["host"], port)

    @property
    def authority(self) -> str:
        return self.host if self.port == _DEFAULT_PORT[self.scheme] else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class RedirectPlace:
    """Where a redirect may lead: an origin, and what the path must begin with."""

    origin: WebOrigin
    path_prefix: str = "/"


def _https(host: str) -> WebOrigin:
    return WebOrigin("https", host, 443)


def _default_places(provider: Provider, sid: AccountSid, origin: WebOrigin) -> tuple[RedirectPlace, ...]:
    match provider:
        case Provider.TWILIO:
            return (
                RedirectPlace(_https("mms.twiliocdn.com")),
                RedirectPlace(_https("media.twiliocdn.com")),
                # A host shared by every customer of S3: only the account's own folder of the provider's bucket.
                RedirectPlace(_https("s3-external-1.amazonaws.com"), f"/media.twiliocdn.com/{sid}/"),
            )
        case Provider.SIGNALWIRE:
            return (RedirectPlace(_https("files.signalwire.com")), RedirectPlace(origin))
        case _:
            assert_never(provider)


_FOLDERS: Final = ("Messages", "Message")


def prefixes(provider: Provider) -> tuple[str, ...]:
    """What the paths of a provider's API may begin with; its own choice first."""
    return PREFIXES[provider]


def account_path(account: AccountSid, prefix: str | None = None) -> str:
    """The path of an account's resources, with no slash at its end; `prefix` is the provider's own where None."""
    return f"{prefix or PREFIXES[account.provider][0]}/Accounts/{account}"


def media_path(ref: MediaRef, prefix: str | None = None) -> str:
    """The path that the bytes of a media are asked at."""
    return f"{account_path(ref.account, prefix)}/Messages/{ref.message}/Media/{ref.media}"


def media_list_path(ref: MessageRef, prefix: str | None = None, suffix: str = ".json") -> str:
    """The path that the media of a message are listed at, as JSON unless told."""
    return f"{account_path(ref.account, prefix)}/Messages/{ref.message}/Media{suffix}"


def messages_path(account: AccountSid) -> str:
    """The path that an account's messages are listed at, as JSON."""
    return f"{account_path(account)}/Messages.json"


def media_paths(ref: MediaRef) -> frozenset[str]:
    """Every path under which the provider knows that media."""
    return _variants(ref.account, f"{ref.message}/Media/{ref.media}")


def media_list_paths(ref: MessageRef) -> frozenset[str]:
    """Every path under which the provider lists the media of that message."""
    return _variants(ref.account, f"{ref.message}/Media") | _variants(ref.account, f"{ref.message}/Media.json")


def _variants(account: AccountSid, rest: str) -> frozenset[str]:
    return frozenset(
        f"{prefix}/Accounts/{account}/{folder}/{rest}" for prefix in PREFIXES[account.provider] for folder in _FOLDERS
    )


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a provider. `places` are where redirects may lead, the provider's own and the configured ones."""

    provider: Provider
    sid: AccountSid
    username: str
    password: str = field(repr=False)
    origin: WebOrigin
    places: tuple[RedirectPlace, ...]
    local: frozenset[WebOrigin]
    """Origins that the settings exempt from the check of addresses: they are or may be loopback, or are literal."""

    @classmethod
    def create(
        cls,
        provider: Provider,
        sid: AccountSid,
        username: str,
        password: str,
        origin: str,
        redirect_hosts: Sequence[tuple[str, int | None]] = (),
    ) -> Self:
        """From settings. `redirect_hosts` are added to the provider's own.

        Plain http is for a loopback origin alone. A redirect host may be loopback, or plain http, only where it
        is written with a port and the origin is itself loopback. Raises `SettingsError`.
        """
        parsed = WebOrigin.parse(origin)
        problems = []
        if sid.provider is not provider:
            problems.append(SettingProblem("account_sid", f"{sid} is no account of {provider}"))
        if ":" in username:
            problems.append(SettingProblem("username", "must not hold a colon (RFC 7617 §2)"))
        if parsed is None:
            problems.append(SettingProblem("origin", "is no origin, such as https://api.twilio.com"))
        elif parsed.scheme == "http" and not is_loopback(parsed.host):
            problems.append(SettingProblem("origin", "must be https, unless it is loopback"))
        loopback = parsed is not None and is_loopback(parsed.host)
        configured: list[WebOrigin] = []
        local: list[WebOrigin] = []
        for host, port in redirect_hosts:
            written = f"[{host}]" if ":" in host and not host.startswith("[") else host.lower()
            place = WebOrigin.parse(f"https://{written}:{port or 443}")
            if place is None:
                problems.append(SettingProblem("redirect_hosts", f"{host!r} is no host"))
                continue
            configured.append(place)
            if port is not None and loopback:
                plain = WebOrigin("http", place.host, place.port)
                configured.append(plain)
                local += (place, plain)
        if problems or parsed is None:
            raise SettingsError(problems)
        if loopback or literal_address(parsed.host) is not None:
            local.append(parsed)
        places = (*_default_places(provider, sid, parsed), *map(RedirectPlace, configured))
        return cls(provider, sid, username, password, parsed, places, frozenset(local))


class Accounts:
    """The configured accounts, by identifier; immutable. Raises `SettingsError` for a duplicate or too many."""

    __slots__ = ("_accounts",)

    def __init__(self, accounts: Iterable[Account]) -> None:
        by_sid: dict[AccountSid, Account] = {}
        for account in accounts:
            if account.sid in by_sid:
                raise SettingsError([SettingProblem("accounts", f"{account.sid} stands twice")])
            if len(by_sid) == MAX_ACCOUNTS:
                raise SettingsError([SettingProblem("accounts", f"more than {MAX_ACCOUNTS}")])
            by_sid[account.sid] = account
        self._accounts: Mapping[AccountSid, Account] = MappingProxyType(by_sid)

    def get(self, sid: AccountSid) -> Account | None:
        return self._accounts.get(sid)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def __len__(self) -> int:
        return len(self._accounts)


# --- the URLs that name a media -------------------------------------------------------------------------------


def parse_media_url(url: str, accounts: Accounts) -> MediaRef:
    """The media that a provider's URL names. The URL is only parsed, never fetched.

    Scheme, host and port are those of the account's origin, or of a host of Twilio's API; a path alone is the
    account's as it is. Raises `IdentifierError`, which does not repeat the URL.
    """
    return media_of_account(MediaUrl.parse(url), accounts)


def media_of_account(named: MediaUrl, accounts: Accounts) -> MediaRef:
    """The media that a URL names, if it is at its account's. Raises `IdentifierError`, as `parse_media_url` does."""
    account = accounts.get(named.ref.account)
    if account is None or not (named.origin is None or _is_at(account, named.origin)):
        raise IdentifierError("is not the URL of a media of a configured account")
    return named.ref


def _is_at(account: Account, text: str) -> bool:
    origin = WebOrigin.parse(text)
    if origin is None:
        return False
    # Twilio's media are at each of its edges and regions, whichever of them the gateway asks.
    twilios = (
        account.provider is Provider.TWILIO
        and (origin.scheme, origin.port) == ("https", 443)
        and is_api_host(origin.host, account.provider)
    )
    return twilios or origin == account.origin
