"""The addresses that may be connected to. The address itself is checked, so that no name can be rebound to another."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Final

from proxy.model import IPAddress

# (family, type, protocol, canonical name, address), as getaddrinfo gives it; the address begins with host and port.
AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")  # RFC 4291 §2.5.5.1, deprecated
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that was ever allocated (RFC 4291 §2.4)
_COMPATIBLE_ITSELF: Final = frozenset({ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1")})
# Special networks (IANA's special-purpose registries, RFC 6890) that some releases of the standard library do not know.
_SPECIAL_V4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "192.0.0.0/24",  # RFC 6890: protocols
            "192.31.196.0/24",  # RFC 7535: AS112
            "192.52.193.0/24",  # RFC 7450: AMT
            "192.88.99.0/24",  # RFC 7526: relays of 6to4, deprecated
            "192.175.48.0/24",  # RFC 7534: AS112
        ),
    )
)
_SPECIAL_V6: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # RFC 2928: Teredo (RFC 4380), benchmarks, ORCHID and the like
            "2001:db8::/32",  # RFC 3849: documentation
            "2620:4f:8000::/48",  # RFC 7534: AS112
            "3fff::/20",  # RFC 9637: documentation
        ),
    )
)
# RFC 5214 §6.1: the upper half of an ISATAP interface identifier, but for its universal and group bits. The lower half
# is an IPv4 address of the site that the tunnel leads into.
_ISATAP: Final = 0x0000_5EFE
_ISATAP_MASK: Final = 0xFCFF_FFFF


class AddressRefused(OSError):
    """The address is not one that the gateway connects to."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "the address is not public")


def embedded(address: IPAddress) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address within an IPv6 address: mapped, 6to4 (RFC 3056), NAT64 (RFC 6052), or compatible."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or _is_compatible(address):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def is_public(address: IPAddress) -> bool:
    """Return whether an address belongs to the public internet, and so does an IPv4 address that it stands for.

    It is the same on every Python. No private, loopback, link-local, shared (RFC 6598), multicast, unspecified,
    reserved or documentation address is public, none that protocols use (RFC 2928), and none of a tunnel into a site:
    Teredo (RFC 4380), ISATAP (RFC 5214), IPv4-compatible ones, and those of the relays of 6to4 (RFC 7526).
    """
    if _is_compatible(address) or _is_isatap(address):
        return False
    inner = embedded(address)
    if inner is not None:
        return is_public(inner)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_V6)


def _is_compatible(address: IPAddress) -> bool:
    return address in _COMPATIBLE and address not in _COMPATIBLE_ITSELF


def _is_isatap(address: IPAddress) -> bool:
    return address.version == 6 and (int(address) >> 32) & _ISATAP_MASK == _ISATAP


def _address_of(info: AddressInfo) -> IPAddress:
    # A zone index names an interface of this machine and is not part of the address (RFC 4007 §11).
    return ipaddress.ip_address(str(info[4][0]).partition("%")[0])


def _open(info: AddressInfo) -> socket.socket:
    return socket.socket(family=info[0], type=info[1], proto=info[2])


def public_socket(info: AddressInfo) -> socket.socket:
    """Open a socket for a public address. Raises `AddressRefused`."""
    if not is_public(_address_of(info)):
        raise AddressRefused
    return _open(info)


def local_socket(is_literal: Callable[[IPAddress], bool]) -> Callable[[AddressInfo], socket.socket]:
    """Return an opener of sockets for the configured exceptions: public, loopback, or literally one of them."""

    def make(info: AddressInfo) -> socket.socket:
        address = _address_of(info)
        if not ((embedded(address) or address).is_loopback or is_literal(address) or is_public(address)):
            raise AddressRefused
        return _open(info)

    return make
