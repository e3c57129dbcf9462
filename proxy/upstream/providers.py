"""The facts of each provider: paths, redirect places, accounts and their origins, and the URLs that name a media."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, NamedTuple, Self, assert_never

from proxy.errors import IdentifierError, SettingProblem, SettingsError, UpstreamError
from proxy.links.reference import PREFIXES, MediaUrl, is_api_host
from proxy.model import AccountSid, IPAddress, MediaRef, MessageRef, Provider, ProviderPart
from proxy.settings import is_loopback

_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_DEFAULT_PORT: Final = {"https": 443, "http": 80}


def literal_address(host: str) -> IPAddress | None:
    """Return the address that a host is written as, brackets or not; None for a name."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class WebOrigin:
    """Scheme, host and port (RFC 6454 §4), all in lower case; a literal IPv6 address stands in brackets."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse exactly an origin, with no path, userinfo or white space; None for anything else."""
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
    """A place that a redirect may lead to: an origin, and the beginning of the path."""

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
    """Return the beginnings that the paths of a provider's API may have; its own choice first."""
    return PREFIXES[provider]


def account_path(account: AccountSid, prefix: str | None = None) -> str:
    """Return the path of an account's resources, with no slash at its end; `prefix` is the provider's own if None."""
    return f"{prefix or PREFIXES[account.provider][0]}/Accounts/{account}"


def media_path(ref: MediaRef, prefix: str | None = None) -> str:
    """Return the path that the bytes of a media are asked at."""
    return f"{account_path(ref.account, prefix)}/Messages/{ref.message}/Media/{ref.media}"


def media_list_path(ref: MessageRef, prefix: str | None = None, suffix: str = ".json") -> str:
    """Return the path that the media of a message are listed at, as JSON unless told."""
    return f"{account_path(ref.account, prefix)}/Messages/{ref.message}/Media{suffix}"


def messages_path(account: AccountSid) -> str:
    """Return the path that an account's messages are listed at, as JSON."""
    return f"{account_path(account)}/Messages.json"


def media_paths(ref: MediaRef) -> frozenset[str]:
    """Return every path under which the provider knows that media."""
    return _variants(ref.account, f"{ref.message}/Media/{ref.media}")


def media_list_paths(ref: MessageRef) -> frozenset[str]:
    """Return every path under which the provider lists the media of that message."""
    return _variants(ref.account, f"{ref.message}/Media") | _variants(ref.account, f"{ref.message}/Media.json")


def _variants(account: AccountSid, rest: str) -> frozenset[str]:
    return frozenset(
        f"{prefix}/Accounts/{account}/{folder}/{rest}" for prefix in PREFIXES[account.provider] for folder in _FOLDERS
    )


class _Reach(NamedTuple):
    """An account's origin (None if it is malformed), and the places of its redirects beside the provider's own."""

    origin: WebOrigin | None
    configured: tuple[RedirectPlace, ...]
    local: frozenset[WebOrigin]
    problems: tuple[SettingProblem, ...]


@lru_cache(maxsize=1_024)  # thousands of accounts have one origin
def _reach(origin: str, redirect_hosts: tuple[tuple[str, int | None], ...]) -> _Reach:
    parsed = WebOrigin.parse(origin)
    problems = []
    if parsed is None:
        problems.append(SettingProblem("origin", "is not an origin such as https://api.twilio.com"))
    elif parsed.scheme == "http" and not is_loopback(parsed.host):
        problems.append(SettingProblem("origin", "must be https, unless it is loopback"))
    loopback = parsed is not None and is_loopback(parsed.host)
    configured: list[WebOrigin] = []
    local: list[WebOrigin] = []
    for host, port in redirect_hosts:
        written = f"[{host}]" if ":" in host and not host.startswith("[") else host.lower()
        place = WebOrigin.parse(f"https://{written}:{port or 443}")
        if place is None:
            problems.append(SettingProblem("redirect_hosts", f"{host!r} is not a host"))
            continue
        configured.append(place)
        if port is not None and loopback:
            plain = WebOrigin("http", place.host, place.port)
            configured.append(plain)
            local += (place, plain)
    if parsed is not None and (loopback or literal_address(parsed.host) is not None):
        local.append(parsed)
    return _Reach(parsed, tuple(map(RedirectPlace, configured)), frozenset(local), tuple(problems))


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a provider, and the credentials that open its resources.

    With `subaccounts` they also open the resources of accounts that are not configured. Such an account has a `parent`,
    whose credentials it is asked for with.
    """

    provider: Provider
    sid: AccountSid
    username: str
    password: str = field(repr=False)
    origin: WebOrigin
    configured: tuple[RedirectPlace, ...]
    """The places that redirects may lead to by the settings, beside the provider's own."""
    local: frozenset[WebOrigin]
    """Origins that the settings exempt from the check of addresses: they are or may be loopback, or are literal."""
    subaccounts: bool = False
    parent: AccountSid | None = None

    @classmethod
    def create(
        cls,
        provider: Provider,
        sid: AccountSid,
        username: str,
        password: str,
        origin: str,
        redirect_hosts: Sequence[tuple[str, int | None]] = (),
        *,
        subaccounts: bool = False,
    ) -> Self:
        """Read the settings of an account. `redirect_hosts` are added to the provider's own.

        Plain http is for a loopback origin alone. A redirect host may be loopback, or plain http, only if it
        is written with a port and the origin is itself loopback. Raises `SettingsError`.
        """
        reach = _reach(origin, tuple(redirect_hosts))
        problems = list(reach.problems)
        if sid.provider is not provider:
            problems.insert(0, SettingProblem("account_sid", f"{sid} is not an account of {provider}"))
        if ":" in username:
            problems.append(SettingProblem("username", "must not hold a colon (RFC 7617 §2)"))
        if problems or reach.origin is None:
            raise SettingsError(problems)
        return cls(
            provider, sid, username, password, reach.origin, reach.configured, reach.local, subaccounts=subaccounts
        )

    @property
    def places(self) -> tuple[RedirectPlace, ...]:
        """The places that redirects may lead to: the provider's own, and the configured ones."""
        return (*_default_places(self.provider, self.sid, self.origin), *self.configured)

    @property
    def holder(self) -> AccountSid:
        """The configured account whose credentials are used: itself, or its parent."""
        return self.parent or self.sid

    def part(self, origin: WebOrigin) -> ProviderPart:
        """Return which part of the provider that host is for this account."""
        return ProviderPart.API if origin == self.origin else ProviderPart.CDN

    def facts(self, origin: WebOrigin) -> dict[str, str]:
        """Return the log's fields for a call of this account to that host."""
        return {"account": str(self.sid), "host": origin.authority, "part": self.part(origin)}

    @contextmanager
    def named(self, origin: WebOrigin | None = None) -> Iterator[None]:
        """Note on each upstream error that leaves which host was asked, by default the API, unless it says so."""
        try:
            yield
        except UpstreamError as error:
            error.facts = error.facts or self.facts(origin or self.origin)
            raise

    def subaccount(self, sid: AccountSid) -> Self:
        """Return the account of that identifier as it is asked for with this one's credentials."""
        return replace(self, sid=sid, subaccounts=False, parent=self.sid)


class Accounts:
    """The configured accounts by identifier, and through them their subaccounts.

    An account that is not configured is a subaccount of its provider's account with `subaccounts`, if there is one.
    Only asking the provider tells whether it agrees, so nothing is remembered of it here. Accounts change while a
    gateway runs: a part that keeps what follows from them hears of a loss by `on_loss`.

    Raises `SettingsError` for a duplicate, and for two accounts of a provider with `subaccounts`.
    """

    __slots__ = ("_accounts", "_local", "_lost", "_parents")

    def __init__(self, accounts: Iterable[Account]) -> None:
        by_sid: dict[AccountSid, Account] = {}
        parents: dict[Provider, Account] = {}
        for account in accounts:
            if account.sid in by_sid:
                raise SettingsError([SettingProblem("accounts", f"{account.sid} is there twice")])
            by_sid[account.sid] = account
            if account.subaccounts and parents.setdefault(account.provider, account) is not account:
                both = f"{parents[account.provider].sid} and {account.sid}"
                raise SettingsError([SettingProblem("accounts", f"both {both} have subaccounts")])
        self._accounts = by_sid
        self._parents = parents
        self._local = Counter(origin for account in by_sid.values() for origin in account.local)
        self._lost: list[Callable[[], None]] = []

    def on_loss(self, forget: Callable[[], None]) -> None:
        """Have `forget` called when accounts have gone, and with them maybe all subaccounts of a provider."""
        self._lost.append(forget)

    def change(self, come: Iterable[Account], gone: Iterable[AccountSid]) -> None:
        """Take over accounts that are new or have changed, and drop those that have gone."""
        less = False
        for sid in gone:
            less = self._remove(sid) or less
        for account in come:
            before = self._accounts.get(account.sid)
            self._remove(account.sid)
            self._accounts[account.sid] = account
            self._local.update(account.local)
            if account.subaccounts:
                self._parents[account.provider] = account
            less = less or (before is not None and before.subaccounts and not account.subaccounts)
        if less:
            for forget in self._lost:
                forget()

    def _remove(self, sid: AccountSid) -> bool:
        account = self._accounts.pop(sid, None)
        if account is None:
            return False
        for origin in account.local:
            self._local[origin] -= 1
            if not self._local[origin]:
                del self._local[origin]
        if self._parents.get(account.provider) is account:
            del self._parents[account.provider]
        return True

    @property
    def local(self) -> Collection[WebOrigin]:
        """The origins that the settings exempt from the check of addresses, of all accounts."""
        return self._local.keys()

    def get(self, sid: AccountSid) -> Account | None:
        """Return the account, configured or through its parent; None if there is none."""
        account = self._accounts.get(sid)
        if account is None and (parent := self._parents.get(sid.provider)) is not None:
            return parent.subaccount(sid)
        return account

    def parent(self, sid: AccountSid) -> AccountSid | None:
        """Return the configured account that this one is a subaccount of; None for one that is configured itself."""
        parent = None if sid in self._accounts else self._parents.get(sid.provider)
        return None if parent is None else parent.sid

    def __contains__(self, sid: AccountSid) -> bool:
        """Return whether there is that account, configured or through its parent."""
        return sid in self._accounts or sid.provider in self._parents

    def __iter__(self) -> Iterator[Account]:
        """Iterate over the configured accounts."""
        return iter(self._accounts.values())

    def __len__(self) -> int:
        """Return how many are configured."""
        return len(self._accounts)


# --- the URLs that name a media -------------------------------------------------------------------------------


def parse_media_url(url: str, accounts: Accounts) -> MediaRef:
    """Return the media that a provider's URL names. The URL is only parsed, never fetched.

    Scheme, host and port are those of the account's origin, or of a host of Twilio's API; a path alone is the
    account's as it is. Raises `IdentifierError`, which does not repeat the URL.
    """
    return media_of_account(MediaUrl.parse(url), accounts)


def media_of_account(named: MediaUrl, accounts: Accounts) -> MediaRef:
    """Return the media that a URL names at its account's origin. Raises `IdentifierError` like `parse_media_url`."""
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
