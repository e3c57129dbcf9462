"""The hosts that a sandbox answers to, so that a page whose name was rebound to this machine reads nothing of it.

What `MediaUrl` names is fetched from anywhere, this machine's own servers among it, and kept as a media. A page of any
site may have its own name lead to 127.0.0.1, and is then of the same origin as the sandbox; only `Host` still tells.

The name tells such a page and the port does not: a request through a forwarded port, an end of TLS or a proxy has
another one.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# RFC 3986 §3.2: a host, and a port that may be empty.
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?", re.ASCII)
_LAST_PORT: Final = 65_535
_LONGEST_NAME: Final = 253
_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class OwnHosts:
    """The hosts of one server: every loopback one, and `others`, as they are compared."""

    others: frozenset[str] = frozenset()

    def include(self, authority: str) -> bool:
        """Return whether `host[:port]`, as in `Host` (RFC 9110 §7.2), is one of them."""
        match = _AUTHORITY.fullmatch(authority)
        host = None if match is None else _host(match["host"])
        if match is None or host is None or int(match["port"] or 0) > _LAST_PORT:
            return False
        return _is_loopback(host) or host in self.others

    def answer(self, fields: list[str], target: str, *, may_lack: bool) -> bool:
        """Return whether a request is for one of them, by its `Host` fields and its target.

        A target in absolute form names a host too (RFC 9112 §3.2.2). `may_lack` is for HTTP/1.0, which knows no `Host`
        (RFC 9112 §3.2): a browser always sends one, so no page sent such a request.
        """
        named = [*fields, *_authorities(target)]
        if len(fields) > 1 or not (fields or may_lack):
            return False
        return all(self.include(authority) for authority in named)


@lru_cache(64)
def own_hosts(listening: tuple[str, ...], named: tuple[str, ...]) -> OwnHosts:
    """Return the hosts of a server that listens at `listening`, and answers to `named` as well.

    Raises `ValueError` if one of `named` is not a host.
    """
    return OwnHosts(frozenset(filter(None, map(_host, listening))) | frozenset(map(parse_host, named)))


def _authorities(target: str) -> list[str]:
    """Return the authority of a target in absolute form, and nothing for `/path` and `*`."""
    if target.startswith("/") or target == "*":
        return []
    _, _, rest = target.partition("://")
    return [re.split("[/?#]", rest, maxsplit=1)[0]]


def parse_host(text: str) -> str:
    """Return a host name in lower case, or an IP address in its shortest form and without brackets.

    Raises `ValueError` if the text is neither.
    """
    if text.startswith("[") and text.endswith("]") and "%" not in text:
        address = ipaddress.IPv6Address(text[1:-1])
        return str(address.ipv4_mapped or address)
    name = text.lower().removesuffix(".")
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise ValueError("expected a host name in ASCII")
    # A name that ends in a number is read as an IPv4 address by resolvers, in forms that hide what it is (127.1).
    return str(ipaddress.IPv4Address(name)) if _NUMERIC.fullmatch(name) else name


def _host(written: str) -> str | None:
    """Return a host as it is compared, or None if it is not one."""
    try:
        # An IPv6 address that a server listens at stands without brackets.
        return parse_host(f"[{written}]" if ":" in written and not written.startswith("[") else written)
    except ValueError:
        return None


@lru_cache(64)
def _is_loopback(host: str) -> bool:
    """Return whether a parsed host is this machine itself (RFC 6761 §6.3, RFC 1122 §3.2.1.3, RFC 4291 §2.5.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
