"""Hosts, origins, listen addresses and networks as settings write them.

Parsers raise `ValueError` with what is expected, and never repeat what was written.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

from proxy.model import IPNetwork
from proxy.settings.values import parse_items, parse_text

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_HOST: Final = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)"
_PORT: Final = r"(?P<port>[0-9]{1,5})"
_HOST_PORT: Final = re.compile(rf"{_HOST}(?::{_PORT})?")
_URL: Final = re.compile(rf"(?P<scheme>(?i:https?))://{_HOST}(?::{_PORT})?(?P<path>/[^?#]*)?")
_MOUNT: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")
_DEFAULT_PORT: Final = {"http": 80, "https": 443}
_SOCKET_PATH_BYTES: Final = 107  # sun_path of unix(7) without its final NUL


def parse_host(text: str) -> str:
    """Parse a host name, or an IP address (IPv6 in brackets); return it in lower case, or in its shortest form."""
    if text.startswith("["):
        try:
            # A zone (RFC 4007 §11) has a meaning only within one machine.
            address = ipaddress.IPv6Address(text[1:-1] if text.endswith("]") and "%" not in text else "")
        except ValueError:
            raise ValueError("expected an IPv6 address in brackets, without a zone") from None
        return str(address.ipv4_mapped or address)
    name = text.lower().removesuffix(".")
    if _NUMERIC.fullmatch(name):
        # Resolvers read a name that ends in a number as an IPv4 address, in forms that hide what it is (127.1).
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise ValueError("expected an IPv4 address as four decimal numbers") from None
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ValueError("expected a host name in ASCII")
    return name


@lru_cache(maxsize=1_024)  # thousands of accounts have one host
def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself: a name below `localhost`, or an address, in brackets or not.

    The host is in lower case (RFC 6761 §6.3, RFC 1122 §3.2.1.3, RFC 4291 §2.5.3).
    """
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    # Releases of the standard library differ on `::ffff:127.0.0.1`.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _is_wildcard(host: str) -> bool:
    return host in {"0.0.0.0", "::"}  # noqa: S104 - the addresses are compared, not bound


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _port(text: str | None, least: int = 1) -> int | None:
    if text is None:
        return None
    if not least <= int(text) <= 65535:
        raise ValueError(f"expected a port from {least} to 65535")
    return int(text)


def _reachable(text: str) -> str:
    host = parse_host(text)
    if _is_wildcard(host):
        raise ValueError("a wildcard address cannot be connected to")
    return host


@dataclass(frozen=True, slots=True)
class UrlOrigin:
    """Scheme, host and port (RFC 6454 §4), normalised: `str()` leaves out the scheme's own port."""

    scheme: str
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    def __str__(self) -> str:
        port = "" if self.port == _DEFAULT_PORT[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{_bracketed(self.host)}{port}"


def _parse_url(written: object) -> tuple[UrlOrigin, str]:
    match = _URL.fullmatch(parse_text(written))
    if match is None:
        raise ValueError("expected an http or https URL without user, query and fragment")
    scheme = match["scheme"].lower()
    port = _port(match["port"])
    path = match["path"] or ""
    return UrlOrigin(scheme, _reachable(match["host"]), _DEFAULT_PORT[scheme] if port is None else port), path


def parse_origin(written: object) -> UrlOrigin:
    """Parse `scheme://host[:port]`; with a single `/` after it, it is the same origin (RFC 3986 §6.2.3)."""
    origin, path = _parse_url(written)
    if path not in {"", "/"}:
        raise ValueError("expected an origin, scheme://host[:port], without a path")
    return origin


def parse_upstream(written: object) -> UrlOrigin:
    """Parse an origin to which credentials may be sent: `https`, or `http` on a loopback host."""
    origin = parse_origin(written)
    if origin.scheme == "http" and not origin.loopback:
        raise ValueError("expected https: credentials are sent over plain http to a loopback host only")
    return origin


# --- listening ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (IPv6 without brackets) and a port, 0 for any free one."""

    host: str
    port: int

    @property
    def wildcard(self) -> bool:
        return _is_wildcard(self.host)

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a unix socket."""

    path: PurePosixPath

    def __str__(self) -> str:
        return f"unix:{self.path}"


ListenAddress = TcpAddress | UnixAddress


def parse_listen(written: object) -> ListenAddress:
    """Parse `HOST:PORT`, `[IPV6]:PORT` or `unix:/path.sock`."""
    text = parse_text(written)
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError("expected an absolute path after unix:")
        if len(path.encode()) > _SOCKET_PATH_BYTES:
            raise ValueError(f"expected a socket path of at most {_SOCKET_PATH_BYTES} bytes")
        return UnixAddress(PurePosixPath(path))
    match = _HOST_PORT.fullmatch(text)
    port = _port(match["port"], least=0) if match else None
    if match is None or port is None:
        raise ValueError("expected HOST:PORT, [IPV6]:PORT or unix:/path.sock")
    return TcpAddress(parse_host(match["host"]), port)


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """The beginning of a minted link, before `/media/`: an origin, and a mount path (empty, or `/a/b`)."""

    origin: str
    mount: str = ""

    @classmethod
    def of(cls, listen: TcpAddress) -> PublicUrl:
        """Return the default: plain http at the listen address."""
        return cls(str(UrlOrigin("http", listen.host, listen.port)))

    def __str__(self) -> str:
        return self.origin + self.mount


def parse_public_url(written: object) -> PublicUrl:
    """Parse `scheme://host[:port][/mount]`; one `/` at the end is dropped."""
    origin, path = _parse_url(written)
    mount = path.removesuffix("/")
    if not _MOUNT.fullmatch(mount):
        raise ValueError("expected a mount path of letters, digits and -._~ between single slashes")
    return PublicUrl(str(origin), mount)


# --- lists ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RedirectHost:
    """A host (IPv6 without brackets) to which a redirect of an upstream may lead.

    If `port` is None, only the port of https is meant. A loopback host always has a port.
    """

    host: str
    port: int | None = None

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    def __str__(self) -> str:
        return _bracketed(self.host) + ("" if self.port is None else f":{self.port}")


def _redirect_host(text: str) -> RedirectHost:
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise ValueError("expected host[:port]")
    allowed = RedirectHost(_reachable(match["host"]), _port(match["port"]))
    if allowed.loopback and allowed.port is None:
        raise ValueError("a loopback host needs its port")
    return allowed


def parse_redirect_hosts(written: object) -> tuple[RedirectHost, ...]:
    """Parse a list of `host[:port]`; return each once, in the order written."""
    hosts: dict[RedirectHost, None] = {}
    for number, text in enumerate(parse_items(written), 1):
        try:
            hosts[_redirect_host(text)] = None
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
    return tuple(hosts)


@dataclass(frozen=True, slots=True)
class CorsOrigins:
    """Origins that may read answers in a browser: those listed, or every one."""

    origins: frozenset[str] = frozenset()
    every: bool = False

    def allows(self, origin: str) -> bool:
        """Return whether the value of an `Origin` field is allowed."""
        return self.every or origin in self.origins


def parse_cors_origins(written: object) -> CorsOrigins:
    """Parse a list of `scheme://host[:port]`, or `*` alone."""
    items = parse_items(written)
    if "*" in items:
        if len(items) > 1:
            raise ValueError("expected * alone, or a list of origins")
        return CorsOrigins(every=True)
    origins: set[str] = set()
    for number, text in enumerate(items, 1):
        try:
            origins.add(str(parse_origin(text)))
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
    return CorsOrigins(frozenset(origins))


@dataclass(frozen=True, slots=True)
class TrustedNetworks:
    """Peers whose forwarding fields are believed: networks, and with `unix` every peer of a unix socket."""

    networks: tuple[IPNetwork, ...] = ()
    unix: bool = False


def parse_trusted(written: object) -> TrustedNetworks:
    """Parse a list of CIDRs, addresses and `unix`."""
    networks: list[IPNetwork] = []
    unix = False
    for number, text in enumerate(parse_items(written), 1):
        if text == "unix":
            unix = True
            continue
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            raise ValueError(
                f"entry {number}: expected a network such as 10.0.0.0/8 (no bits set after the mask), or unix"
            ) from None
    return TrustedNetworks(tuple(networks), unix)
