"""The shared tier, as settings write it. Parsers raise `ValueError`, and repeat nothing secret."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from proxy.errors import SettingProblem
from proxy.settings.values import parse_text

_EXPECTED: Final = (
    "expected redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, or unix://[USER:PASSWORD@]/PATH[?db=DB]"
)
_EXPECTED_SENTINEL: Final = (
    "expected redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/SERVICE[/DB], or rediss+sentinel://… for TLS"
)
_SENTINEL_PORT: Final = 26_379
_MOST_SENTINELS: Final = 20
_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_DB: Final = re.compile(r"[0-9]{1,9}")
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,253}")
_OPTIONS: Final = frozenset({"db"})
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})


class SharedAway(enum.StrEnum):
    """Uses of stored responses while the shared tier is away."""

    BOUNDED = "bounded"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class SentinelService:
    """A Redis whose master the sentinels at these hosts and ports know by the name `service`.

    `username` and `password` are for the master and its replicas, `sentinel_password` is for the sentinels. `tls` has
    the options of TLS by name, for all of them; it is None without TLS.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    db: int = 0
    username: str | None = None
    password: SecretStr | None = None
    sentinel_password: SecretStr | None = None
    tls: tuple[tuple[str, str], ...] | None = None


SharedServer = str | SentinelService
"""A Redis: a URL as redis-py reads it, or a service of sentinels."""


@dataclass(frozen=True, slots=True)
class SharedCacheUrl:
    """The URL of a Redis with its credentials, and its `place`, which a log may name.

    `sentinel` is the service that the URL means, if it names sentinels.
    """

    url: SecretStr
    place: str
    sentinel: SentinelService | None = None

    def server(self, sentinel_password: SecretStr | None) -> SharedServer:
        """Return the Redis that is meant. It holds the credentials, and is never shown."""
        if self.sentinel is None:
            return self.url.get_secret_value()
        return replace(self.sentinel, sentinel_password=sentinel_password)


def problem_of(shared: SharedCacheUrl | None) -> SettingProblem | None:
    """Return the problem that the library for Redis is missing, or None."""
    if shared is None or find_spec("redis") is not None:
        return None
    message = "needs the extra [redis], which is not installed: pip install 'media-gateway[redis]'"
    return SettingProblem("GATEWAY_SHARED_CACHE", message)


def parse_shared_cache(written: object) -> SharedCacheUrl:
    """Parse `redis://`, `rediss://`, `unix://` or a service of sentinels.

    A user and a password are percent-encoded; a name alone counts as the password. The query may have `db`, and for
    TLS the paths `ssl_ca_certs`, `ssl_ca_path`, `ssl_certfile` and `ssl_keyfile`.
    """
    text = parse_text(written)
    if text.partition("://")[0] in {"redis+sentinel", "rediss+sentinel"}:
        return _parse_sentinel(text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(_EXPECTED) from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    match parts.scheme:
        case "redis" | "rediss":
            known = _OPTIONS | _TLS_OPTIONS if parts.scheme == "rediss" else _OPTIONS
            path = unquote(parts.path).removeprefix("/")
            sound = parts.hostname is not None and (not path or path.isdecimal())
            place = f"{parts.scheme}://{parts.hostname}" + ("" if port is None else f":{port}")
        case "unix":
            known = _OPTIONS
            sound = parts.hostname is None and parts.path.startswith("/") and port is None
            place = f"unix://{unquote(parts.path)}"
        case _:
            raise ValueError(_EXPECTED)
    if not sound or parts.fragment or not options.get("db", "0").isdecimal():
        raise ValueError(_EXPECTED)
    if not options.keys() <= known or len(options) != len(parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError(f"expected no other options than {', '.join(sorted(known))}, each once")
    return SharedCacheUrl(SecretStr(text), place)


def _parse_sentinel(text: str) -> SharedCacheUrl:
    """Parse `redis+sentinel://[user:password@]host[:port],…/service[/db]`; `rediss+sentinel` is TLS to all of them."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(_EXPECTED_SENTINEL) from None
    credentials, at, hosts = parts.netloc.rpartition("@")
    username, colon, password = credentials.partition(":")
    if at and not (colon and password):
        raise ValueError(f"{_EXPECTED_SENTINEL}; a user needs a password")
    sentinels = tuple(_parse_host(host) for host in hosts.split(","))
    if len(sentinels) > _MOST_SENTINELS or len(set(sentinels)) != len(sentinels):
        raise ValueError(f"expected at most {_MOST_SENTINELS} sentinels, each once")
    service, _, db = parts.path.removeprefix("/").partition("/")
    if not _SERVICE.fullmatch(service):
        raise ValueError(f"{_EXPECTED_SENTINEL}; SERVICE is the name by which the sentinels know the master")
    if (db and not _DB.fullmatch(db)) or parts.fragment:
        raise ValueError(_EXPECTED_SENTINEL)
    secure = parts.scheme == "rediss+sentinel"
    found = SentinelService(
        sentinels=sentinels,
        service=service,
        db=int(db or "0"),
        username=unquote(username) or None,
        password=SecretStr(unquote(password)) if password else None,
        tls=_parse_options(parts.query, _TLS_OPTIONS if secure else frozenset()) if secure or parts.query else None,
    )
    return SharedCacheUrl(SecretStr(text), f"{parts.scheme}://{hosts}/{service}", found)


def _parse_options(query: str, known: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Parse the options of a service of sentinels, each known and given once."""
    options = parse_qsl(query, keep_blank_values=True)
    if not {name for name, _ in options} <= known or len(dict(options)) != len(options):
        if not known:
            raise ValueError("expected no options; those of TLS belong to rediss+sentinel://…")
        raise ValueError(f"expected no other options than {', '.join(sorted(known))}, each once")
    return tuple(options)


def _parse_host(written: str) -> tuple[str, int]:
    """Parse the host and port of one sentinel; the port may be left out."""
    try:
        place = urlsplit(f"//{written}")
        host, port = place.hostname, place.port
    except ValueError:
        raise ValueError(_EXPECTED_SENTINEL) from None
    if not host or port == 0 or place.netloc != written or not _HOST.fullmatch(host):
        raise ValueError(_EXPECTED_SENTINEL)
    return host, _SENTINEL_PORT if port is None else port
