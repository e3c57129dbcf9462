"""Protection of calls that a page of another site must not make through a browser (CSRF, DNS rebinding)."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from yarl import URL

from proxy.errors import Forbidden
from proxy.web.services.gateway import GATEWAY

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def own_origins(public_origin: str) -> frozenset[str]:
    """Return the gateway's own origins: that of the public URL, and for a loopback URL its other names too."""
    url = URL(public_origin)
    if url.host not in _LOOPBACK:
        return frozenset({str(url.origin())})
    return frozenset(str(url.with_host(host).origin()) for host in _LOOPBACK)


def require_same_origin(request: web.Request, *, from_browser: bool = False) -> None:
    """Raise `Forbidden` if a browser says that the page of another origin makes the call.

    Programs other than browsers send no `Origin`; with `from_browser` there has to be one.
    """
    origins = own_origins(request.app[GATEWAY].links.minter.origin)
    said = request.headers.getall("Origin", ())
    if any(origin not in origins for origin in said) or (from_browser and not said):
        raise Forbidden("This call is for the gateway's own pages.")


def require_own_host(request: web.Request) -> None:
    """Raise `Forbidden` if the request's `Host` does not name the gateway.

    A page of another site that has its own name resolve to this machine (DNS rebinding) sends that name as `Host`.
    """
    origins = own_origins(request.app[GATEWAY].links.minter.origin)
    host = request.headers.get("Host", "").lower()
    if all(origin.partition("://")[2] != host for origin in origins):
        raise Forbidden("The host of the request is not this gateway's.")
