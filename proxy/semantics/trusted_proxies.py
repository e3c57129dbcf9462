"""The client behind proxies: `X-Forwarded-For`, `-Proto` and `-Host`, believed from trusted peers alone."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, Self

from proxy.model import IPAddress, IPNetwork

MAX_HOPS: Final = 32
"""Members of `X-Forwarded-For` that are looked at, from the right."""
MAX_HOST: Final = 261
"""Characters of a host with its port."""

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_WITH_PORT: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<four>[0-9.]{7,15}))(?::[0-9]{1,5})?")
# RFC 9110 §4.2.1 uri-host without percent-encoding: labels of letters, digits, "-" and "_", or a bracketed address.
_HOST: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|[0-9A-Za-z_-]{1,63}(?:\.[0-9A-Za-z_-]{1,63})*\.?)(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The peers whose `X-Forwarded-*` are believed: networks, and all peers of a unix socket if `unix`."""

    networks: tuple[IPNetwork, ...] = ()
    unix: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `10.0.0.0/8, ::1, unix`. Raises `ValueError` that names the first bad member."""
        networks: list[IPNetwork] = []
        unix = False
        for member in filter(None, (member.strip() for member in text.split(","))):
            if member.lower() == "unix":
                unix = True
            else:
                networks.append(_network(member))
        return cls(tuple(networks), unix)

    def __contains__(self, peer: IPAddress | None) -> bool:
        """Return whether a peer is trusted; None is a peer of a unix socket."""
        if peer is None:
            return self.unix
        return bool(self.networks) and any(unmapped(peer) in network for network in self.networks)


def unmapped(address: IPAddress) -> IPAddress:
    """Return the IPv4 address inside an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2); any other as it is."""
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if inner is None else inner


def parse_address(text: str) -> IPAddress | None:
    """Parse an address, with or without brackets and port (`1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`).

    IPv4-mapped IPv6 is unwrapped. None for anything else, scoped addresses (`fe80::1%eth0`) included.
    """
    match = _WITH_PORT.fullmatch(text)
    bare = text if match is None else match["six"] or match["four"]
    if "%" in bare:
        return None
    try:
        address = ipaddress.IPv6Address(bare) if match is not None and match["six"] else ipaddress.ip_address(bare)
    except ValueError:
        return None
    return unmapped(address)


def client_address(peer: IPAddress | None, forwarded_for: tuple[str, ...], trusted: TrustedProxies) -> IPAddress | None:
    """Return the client's address: the rightmost one that is not a trusted proxy's.

    `peer` is the peer's address, None over a unix socket; `forwarded_for` are the `X-Forwarded-For` field lines. A
    malformed member, the end of the list or `MAX_HOPS` stops the walk at the last trusted address. None if all
    that is known is a unix socket.
    """
    client = None if peer is None else unmapped(peer)
    if not forwarded_for:
        return client
    for _, member in zip(range(MAX_HOPS), _from_the_right(forwarded_for), strict=False):
        if client not in trusted:
            break
        address = parse_address(member)
        if address is None:
            break
        client = address
    return client


def forwarded_scheme(
    peer: IPAddress | None, field_lines: tuple[str, ...], trusted: TrustedProxies
) -> Literal["http", "https"] | None:
    """Return the scheme that the client used by a trusted peer's own, rightmost member; None to take one's own."""
    match _said(peer, field_lines, trusted).lower():
        case "http":
            return "http"
        case "https":
            return "https"
        case _:
            return None


def forwarded_host(peer: IPAddress | None, field_lines: tuple[str, ...], trusted: TrustedProxies) -> str | None:
    """Return the host that the client used by a trusted peer's own member; None to take one's own.

    It is in lower case, and has its port if one was sent.
    """
    host = _said(peer, field_lines, trusted)
    match = _HOST.fullmatch(host) if len(host) <= MAX_HOST else None
    if match is None or not 0 < int(match["port"] or 1) < 65_536:
        return None
    if match["six"] and parse_address(f"[{match['six']}]") is None:
        return None
    return host.lower()


def _said(peer: IPAddress | None, lines: tuple[str, ...], trusted: TrustedProxies) -> str:
    """Return what the peer itself said, the rightmost member, or nothing if the peer is not trusted."""
    return next(_from_the_right(lines), "") if peer in trusted else ""


def _from_the_right(lines: Iterable[str]) -> Iterator[str]:
    """Yield the members of a list field from the last to the first, empty ones left out."""
    for line in reversed(tuple(lines)):
        for member in reversed(line.split(",")):
            if stripped := member.strip(" \t"):
                yield stripped


def _network(text: str) -> IPNetwork:
    """Parse an address or a CIDR; an IPv4-mapped one becomes IPv4. Raises `ValueError` that names the text."""
    try:
        network = ipaddress.ip_network("" if "%" in text else text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address, a CIDR without host bits, or 'unix'") from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        inner = int(network.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((inner, network.prefixlen - 96))
    return network
