"""The settings as the program holds them: frozen, checked, secrets sealed."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Final, Self

import platformdirs
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from proxy.errors import SettingProblem, SettingsError
from proxy.settings.accounts import AccountSettings, parse_password
from proxy.settings.accounts_folder import AccountsFolder
from proxy.settings.addresses import (
    CorsOrigins,
    ListenAddress,
    PublicUrl,
    TcpAddress,
    TrustedNetworks,
    UnixAddress,
    parse_cors_origins,
    parse_listen,
    parse_public_url,
    parse_trusted,
)
from proxy.settings.annotations import Sealed, Shown
from proxy.settings.cdn import PurgeHeader, PurgeUrl, parse_purge_header, parse_purge_url
from proxy.settings.credentials import ClientSettings, SigningKeySettings, parse_signing_keys
from proxy.settings.shared_cache import SharedAway, SharedCacheUrl, SharedServer, parse_shared_cache, problem_of
from proxy.settings.values import choice, parse_field_name, parse_flag, parse_text, size, whole

_YEAR: Final = 31_536_000
_LISTEN: Final = TcpAddress("127.0.0.1", 8080)
_AT_LISTEN: Final = PublicUrl("")
"""Placeholder of the default, until the listen address is known."""


class EventLoop(enum.StrEnum):
    """Event loops that may run the gateway."""

    UVLOOP = "uvloop"
    ASYNCIO = "asyncio"


class ContentMode(enum.StrEnum):
    """Answers at the resource path of a media's bytes: the bytes, or a redirect to a signed link."""

    STREAM = "stream"
    REDIRECT = "redirect"


class LogFormat(enum.StrEnum):
    """Forms of a line of the log."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """The least severe line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _directory(written: object) -> Path:
    return Path(parse_text(written)).expanduser().absolute()


_Flag = Annotated[bool, BeforeValidator(parse_flag)]
_Count = Annotated[int, BeforeValidator(whole(1, 1_000_000))]
_Wait = Annotated[int, BeforeValidator(whole(1, 86_400))]
_Tally = Annotated[int, BeforeValidator(whole(0, 10_000))]
_Pause = Annotated[int, BeforeValidator(whole(0, 86_400))]
_Age = Annotated[int, BeforeValidator(whole(0, 10 * _YEAR))]
_Lifetime = Annotated[int, BeforeValidator(whole(1, 10 * _YEAR))]
_Size = Annotated[int, BeforeValidator(size(1))]
_Tier = Annotated[int, BeforeValidator(size(0))]


class Limits(BaseModel):
    """`GATEWAY_LIMIT_…`: times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    connections: _Count = Field(10_000, description="open client connections at once, per worker")
    header_seconds: _Wait = Field(15, description="time for a request's head to arrive")
    body_seconds: _Wait = Field(30, description="time for a request's body to arrive")
    send_seconds: _Wait = Field(
        60, description="time in which a client has to take what waits for it, before it is cut off"
    )
    keepalive_seconds: _Wait = Field(75, description="time that an idle client connection stays open")
    request_body_bytes: _Size = Field(1_000_000, description="largest body of a request")
    bad_signatures: _Count = Field(
        60, description="bad signatures a minute from one client address, in all workers together, before 429"
    )
    upstream_connections: _Count = Field(
        32, description="connections to the upstream at once, per account, in all workers together"
    )
    fills: _Count = Field(1_024, description="media fetched from the upstream at once, per worker")
    unread_fills: _Count = Field(
        64,
        description="fetches that go on without a reader at once, per worker; "
        "one more ends the one that has had no reader for longest",
    )
    unread_fills_per_account: _Count = Field(24, description="the same for one account, in all workers together")
    shared_bytes: _Tier = Field(
        16_000_000,
        description="largest body that goes to the shared tier; 0 for none, so that it holds blocks alone",
    )
    revocations: _Count = Field(
        100_000,
        description="revocations and deletions that are remembered at once, per node and in the shared tier alike; "
        "one more is refused with 503",
    )
    shared_seconds: _Wait = Field(1, description="time for the shared tier to answer a call, before it counts as away")
    connect_seconds: _Wait = Field(5, description="time to connect to the upstream")
    headers_seconds: _Wait = Field(15, description="time from connecting to the upstream up to the head of its answer")
    idle_seconds: _Wait = Field(30, description="time without a byte of the body of an upstream's answer")
    total_seconds: _Wait = Field(300, description="time for all bytes of a media from the upstream")
    json_seconds: _Wait = Field(
        15, description="time for a document of the upstream: the properties of a media, or a list"
    )
    retry_seconds: _Pause = Field(10, description="longest `Retry-After` of an upstream that is waited for")
    breaker_failures: _Tally = Field(
        10,
        description="failures in a row (calls without a connection, or failing media of an account) "
        "after which an upstream is left alone for a while; 0 for never",
    )
    breaker_window_seconds: _Wait = Field(10, description="longest time that so many failures may take")
    breaker_pause_seconds: _Wait = Field(
        5, description="time for which a failing upstream is left alone; doubles each time it still fails"
    )
    breaker_longest_pause_seconds: _Wait = Field(
        60, description="longest time for which a failing upstream is left alone"
    )


class Settings(BaseModel):
    """Everything that can be set. Built by `load`; sizes in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    listen: Annotated[InstanceOf[TcpAddress] | InstanceOf[UnixAddress], BeforeValidator(parse_listen)] = Field(
        _LISTEN, description="listen address: `HOST:PORT`, `[IPV6]:PORT` or `unix:/path.sock`"
    )
    public_url: Annotated[InstanceOf[PublicUrl], Shown("`http://LISTEN`")] = Field(
        _AT_LISTEN,
        validate_default=True,
        description="scheme, host and optional mount path put before a minted link; "
        "required for a unix socket or a wildcard address",
    )
    signing_keys: Annotated[
        tuple[SigningKeySettings, ...], BeforeValidator(parse_signing_keys), Sealed(), Shown("required to serve")
    ] = Field(
        (),
        description="`kid:secret,kid:secret`: the first signs, all verify; a secret has at least 32 characters",
    )
    link_max_ttl: _Lifetime = Field(86_400, description="longest life of a link in seconds")
    link_ttl: Annotated[_Lifetime, Shown("300, or the longest life if that is shorter")] = Field(
        default_factory=lambda known: min(300, known["link_max_ttl"]),
        description="life of a link in seconds, if the mint names none",
    )
    link_window: _Wait = Field(
        60, description="seconds to which a link's end is rounded up, so that mints within one window give one URL"
    )
    cache_dir: Annotated[Path, BeforeValidator(_directory), Shown("user cache dir")] = Field(
        default_factory=lambda: platformdirs.user_cache_path("media-gateway", appauthor=False),
        description="folder of the disk tier; it is made 0700 (files 0600), and another user's folder is refused",
    )
    cache_bytes: _Size = Field(10_000_000_000, description="bound of the disk tier")
    memory_bytes: _Tier = Field(256_000_000, description="bound of the RAM tier; 0 keeps nothing in RAM")
    shared_cache: Annotated[InstanceOf[SharedCacheUrl] | None, BeforeValidator(parse_shared_cache), Sealed()] = Field(
        None,
        description="`redis://…`, `rediss://…`, `unix://…` or `redis+sentinel://…` (`rediss+sentinel` for TLS): the "
        "tier that several gateways share, trusted like the disk",
    )
    shared_cache_sentinel_password: Annotated[SecretStr | None, BeforeValidator(parse_password), Sealed()] = Field(
        None, description="the password of the sentinels themselves, if they ask for one"
    )
    shared_away: Annotated[SharedAway, BeforeValidator(choice(SharedAway))] = Field(
        SharedAway.BOUNDED,
        description="use of stored media while the shared tier is away; `bounded`: each is validated at most once in "
        "ten seconds, and served if the provider cannot be asked; `strict`: each is validated at every use, and served "
        "only after that",
    )
    max_media_bytes: _Size = Field(
        100_000_000, description="largest body that is taken from the upstream; a larger one is refused"
    )
    cache_default_ttl: _Age = Field(
        86_400,
        description="freshness lifetime in seconds, if the upstream gives neither a lifetime nor `Last-Modified`",
    )
    cache_min_ttl: _Age = Field(
        0, description="shortest freshness lifetime in seconds, even if the upstream gives a shorter one"
    )
    cache_negative_ttl: _Age = Field(
        10, description="seconds for which a 404 of the upstream is remembered, at most 60; 0 for not at all"
    )
    cache_stale_while_revalidate: _Age = Field(
        0, description="seconds for which a stale response is served while it is validated (RFC 5861)"
    )
    cache_stale_if_error: _Age = Field(
        0, description="seconds for which a stale response is served if the upstream fails (RFC 5861)"
    )
    cache_object_memory_bytes: _Tier = Field(1_000_000, description="largest body that is held in RAM")
    cache_request_directives: _Flag = Field(default=False, description="`1`: `Cache-Control` of a request is followed")
    content_mode: Annotated[ContentMode, BeforeValidator(choice(ContentMode))] = Field(
        ContentMode.STREAM,
        description="`stream` or `redirect`: what the resource path of a media's bytes answers",
    )
    cdn: _Flag = Field(default=False, description="`1`: answers may be stored by a shared cache in front")
    cdn_purge_url: Annotated[InstanceOf[PurgeUrl] | None, BeforeValidator(parse_purge_url)] = Field(
        None, description="the `https` URL at which that cache is told which tags to drop; needs `GATEWAY_CDN=1`"
    )
    cdn_purge_header: Annotated[InstanceOf[PurgeHeader] | None, BeforeValidator(parse_purge_header), Sealed()] = Field(
        None, description="`Name: value`: a header field that is sent there, such as one with an API token"
    )
    cors_origins: Annotated[InstanceOf[CorsOrigins], BeforeValidator(parse_cors_origins), Shown("none")] = Field(
        CorsOrigins(), description="allowed origins, comma separated, or `*`; on errors too"
    )
    trusted_proxies: Annotated[InstanceOf[TrustedNetworks], BeforeValidator(parse_trusted), Shown("none")] = Field(
        TrustedNetworks(),
        description="CIDRs (or `unix`) whose `X-Forwarded-*` are believed; "
        "the client's address is the rightmost untrusted one",
    )
    auth_header: Annotated[str, BeforeValidator(parse_field_name)] = Field(
        "X-Original-URI",
        description="the header in which `/auth` finds the original URI; it is read only from a trusted proxy",
    )
    server_timing: _Flag = Field(default=False, description="`1`: media answers carry `Server-Timing`")
    metrics_listen: Annotated[
        InstanceOf[TcpAddress] | InstanceOf[UnixAddress] | None, BeforeValidator(parse_listen)
    ] = Field(None, description="a separate address for `/metrics`, without authentication, in place of the main one")
    console: _Flag = Field(default=False, description="`1`: `/console` outside the demo, scope `observe`")
    express: _Flag = Field(
        default=True, description="`0`: every request takes the ordinary path, even one that repeats an answered one"
    )
    loop: Annotated[EventLoop | None, BeforeValidator(choice(EventLoop)), Shown("`uvloop` if installed")] = Field(
        None, description="event loop: `uvloop` or `asyncio`"
    )
    drain_seconds: _Pause = Field(20, description="seconds in which running answers may finish after SIGTERM")
    log_format: Annotated[LogFormat, BeforeValidator(choice(LogFormat))] = Field(
        LogFormat.TEXT, description="`text` or `json`"
    )
    log_level: Annotated[LogLevel, BeforeValidator(choice(LogLevel))] = Field(
        LogLevel.INFO, description="`debug`, `info`, `warning` or `error`"
    )
    limits: InstanceOf[Limits] = Field(default_factory=Limits)
    accounts_dir: Annotated[Path | None, BeforeValidator(_directory)] = Field(
        None,
        description="a folder of `*.toml`, each with one account's keys at its top level; files that come, change or "
        "go are followed without a restart",
    )
    accounts: tuple[InstanceOf[AccountSettings], ...] = ()
    folder: InstanceOf[AccountsFolder] | None = None
    """State of `accounts_dir`; it changes when the supervisor looks, unlike `accounts`."""
    clients: tuple[InstanceOf[ClientSettings], ...] = ()

    @field_validator("public_url", mode="before")
    @classmethod
    def _public_url(cls, written: object, known: ValidationInfo) -> PublicUrl:
        if written is not _AT_LISTEN:
            return parse_public_url(written)
        match known.data.get("listen"):
            case UnixAddress():
                raise ValueError("is required if the gateway listens at a unix socket")
            case TcpAddress(wildcard=True):
                raise ValueError("is required if the gateway listens at a wildcard address")
            case TcpAddress() as listen:
                return PublicUrl.of(listen)
            case _:
                return _AT_LISTEN  # the listen address is a problem of its own

    @field_validator("link_ttl")
    @classmethod
    def _within_max_ttl(cls, seconds: int, known: ValidationInfo) -> int:
        if seconds > known.data.get("link_max_ttl", seconds):
            raise ValueError("is longer than the longest life of a link, GATEWAY_LINK_MAX_TTL")
        return seconds

    @field_validator("shared_cache_sentinel_password")
    @classmethod
    def _needs_sentinels(cls, written: SecretStr, known: ValidationInfo) -> SecretStr:
        shared = known.data.get("shared_cache", written)
        if shared is None or (isinstance(shared, SharedCacheUrl) and shared.sentinel is None):
            raise ValueError("needs a GATEWAY_SHARED_CACHE that names sentinels, redis+sentinel://…")
        return written

    @property
    def shared_server(self) -> SharedServer | None:
        """The Redis that is shared, with its credentials; None if none is."""
        return None if self.shared_cache is None else self.shared_cache.server(self.shared_cache_sentinel_password)

    @field_validator("cdn_purge_url")
    @classmethod
    def _needs_cdn(cls, written: PurgeUrl, known: ValidationInfo) -> PurgeUrl:
        if not known.data.get("cdn", True):
            raise ValueError("needs GATEWAY_CDN=1")
        return written

    @field_validator("cdn_purge_header")
    @classmethod
    def _needs_purge_url(cls, written: PurgeHeader, known: ValidationInfo) -> PurgeHeader:
        if known.data.get("cdn_purge_url", written) is None:
            raise ValueError("needs GATEWAY_CDN_PURGE_URL")
        return written

    def at_port(self, port: int) -> Self:
        """Return these settings with the port that was bound for port 0; a default public URL follows it."""
        if not isinstance(self.listen, TcpAddress) or self.listen.port != 0:
            return self
        return self.listening_at(TcpAddress(self.listen.host, port))

    def listening_at(self, listen: ListenAddress) -> Self:
        """Return these settings with another listen address; a default public URL follows it."""
        public_url = self.public_url
        if isinstance(self.listen, TcpAddress) and isinstance(listen, TcpAddress):
            public_url = PublicUrl.of(listen) if public_url == PublicUrl.of(self.listen) else public_url
        return self.model_copy(update={"listen": listen, "public_url": public_url})

    def with_folder(self) -> Self:
        """Return these settings with the accounts that the folder has now."""
        return self if self.folder is None else self.model_copy(update={"accounts": self.folder.everyone})

    def require_serving(self) -> None:
        """Raise `SettingsError` if the signing key, an account, or the library for the shared tier is missing."""
        problems = [problem for problem in (problem_of(self.shared_cache),) if problem is not None]
        if not self.signing_keys:
            problems.append(SettingProblem("GATEWAY_SIGNING_KEYS", "is required; `media-gateway keygen` prints a key"))
        if not self.accounts and self.folder is None:
            problems.append(
                SettingProblem(
                    "accounts",
                    "no account to serve; set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or SIGNALWIRE_SPACE, "
                    "SIGNALWIRE_PROJECT_ID and SIGNALWIRE_API_TOKEN, write [[accounts]] in the configuration file, "
                    "or name a folder of accounts with GATEWAY_ACCOUNTS_DIR",
                )
            )
        if problems:
            raise SettingsError(problems)
