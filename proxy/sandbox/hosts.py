"""The hosts that a sandbox answers to, so that a page whose name was rebound to this machine reads nothing of it.

What `MediaUrl` names is fetched from anywhere, this machine's own servers among it, and kept as a media. A page of any
site may have its own name lead to 127.0.0.1, and is then of the same origin as the sandbox; only `Host` still tells.

A name tells that, and a port does not: what comes through a forwarded port, an end of TLS or a proxy has another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from proxy.settings import is_loopback, parse_host

# RFC 3986 §3.2: a host, and a port that may be empty.
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?", re.ASCII)
_LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class OwnHosts:
    """The hosts of one server: every loopback one, and `others`, as they are compared."""

    others: frozenset[str] = frozenset()

    def include(self, authority: str) -> bool:
        """Return whether `host[:port]`, as `Host` has it (RFC 9110 §7.2), is one of them."""
        match = _AUTHORITY.fullmatch(authority)
        host = None if match is None else _host(match["host"])
        if match is None or host is None or int(match["port"] or 0) > _LAST_PORT:
            return False
        return is_loopback(host) or host in self.others

    def answer(self, fields: list[str], target: str, *, may_lack: bool) -> bool:
        """Return whether a request is for one of them, by its `Host` fields and its target.

        A target in absolute form names a host too (RFC 9112 §3.2.2). `may_lack`: it is of HTTP/1.0, which knows no
        `Host` (RFC 9112 §3.2). What a browser sends always has one, so that such a request is no page's.
        """
        named = [*fields, *_authorities(target)]
        if len(fields) > 1 or not (fields or may_lack):
            return False
        return all(self.include(authority) for authority in named)


@lru_cache(64)
def own_hosts(listening: tuple[str, ...], named: tuple[str, ...]) -> OwnHosts:
    """Return the hosts of a server that listens at `listening`, and answers to `named` as well.

    Raises `ValueError` where one of `named` is not a host.
    """
    return OwnHosts(frozenset(filter(None, map(_host, listening))) | frozenset(map(parse_host, named)))


def _authorities(target: str) -> list[str]:
    """Return the authority of a target in absolute form; none of `/path` and of `*`."""
    if target.startswith("/") or target == "*":
        return []
    _, _, rest = target.partition("://")
    return [re.split("[/?#]", rest, maxsplit=1)[0]]


def _host(written: str) -> str | None:
    """Return a host as it is compared; None where it is none."""
    try:
        # An IPv6 address that something listens at stands without brackets.
        return parse_host(f"[{written}]" if ":" in written and not written.startswith("[") else written)
    except ValueError:
        return None
