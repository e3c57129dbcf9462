"""Calls that change something, or show what is behind, and that another site's page must not make through a browser."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from yarl import URL

from proxy.errors import Forbidden
from proxy.web.services import GATEWAY

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def own_origins(public_origin: str) -> frozenset[str]:
    """The origins that are this gateway's: the public URL's, and for a loopback one its other names."""
    url = URL(public_origin)
    if url.host not in _LOOPBACK:
        return frozenset({str(url.origin())})
    return frozenset(str(url.with_host(host).origin()) for host in _LOOPBACK)


def require_same_origin(request: web.Request, *, from_browser: bool = False) -> None:
    """Raise `Forbidden` where a browser says that another origin's page makes the call.

    A program that is no browser sends no `Origin`; with `from_browser` one has to be there.
    """
    origins = own_origins(request.app[GATEWAY].links.minter.origin)
    said = request.headers.getall("Origin", ())
    if any(origin not in origins for origin in said) or (from_browser and not said):
        raise Forbidden("This call is for the gateway's own pages.")


def require_own_host(request: web.Request) -> None:
    """Raise `Forbidden` where the request's `Host` does not name the gateway.

    A page of another site that has its own name resolve to this machine (DNS rebinding) sends that name as `Host`.
    """
    origins = own_origins(request.app[GATEWAY].links.minter.origin)
    host = request.headers.get("Host", "").lower()
    if all(origin.partition("://")[2] != host for origin in origins):
        raise Forbidden("The gateway is not known by this host name.")
