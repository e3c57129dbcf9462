"""The places of bytes on the CDN: its paths, and the redirects that lead there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, assert_never

from aiohttp import web

from proxy.model import AccountSid, Provider
from proxy.sandbox.faults import RedirectHops, Redirecting, RedirectLoop, RedirectStatus, RedirectTo
from proxy.sandbox.messages import Media
from proxy.sandbox.options import Mode
from proxy.sandbox.state import State

_TEMPORARY: Final = 307
_PATH: Final = re.compile(r"(?P<public>/[^/]+)?/(?P<account>[^/]+)/(?P<key>[0-9a-f]{32})", re.ASCII)
_HOP: Final = re.compile(r"hop=(?P<left>[0-9]{1,2}|endless)&status=(?P<status>[0-9]{3})(?:&lap=(?P<lap>[0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the CDN: an account, the key of a media, and whether it is in the public part."""

    account: str
    key: str
    public: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop on a longer way: the number of redirects left (None: no end), their status, and the lap so far."""

    left: int | None
    status: int
    lap: int = 0


def public_root(account: AccountSid) -> str:
    """Return the path that public media have before the account."""
    match account.provider:
        case Provider.TWILIO:
            return "/media.twiliocdn.com"
        case Provider.SIGNALWIRE:
            return "/files.signalwire.com"
        case _:
            assert_never(account.provider)


def parse_place(path: str, account: AccountSid) -> Place | None:
    """Return the place that a CDN path names, or None."""
    match = _PATH.fullmatch(path)
    if match is None or match["public"] not in (None, public_root(account)):
        return None
    return Place(match["account"], match["key"], match["public"] is not None)


def parse_hop(query: str) -> Stop | None:
    """Return the stop that a query names, or None."""
    match = _HOP.fullmatch(query)
    if match is None:
        return None
    left = None if match["left"] == "endless" else int(match["left"])
    return Stop(left, int(match["status"]), int(match["lap"] or 0))


def first_redirect(state: State, media: Media, fault: Redirecting | None) -> web.Response:
    """Make the API's answer to a fetch of bytes."""
    match fault:
        case None:
            return _redirect(_TEMPORARY, _final(state, media))
        case RedirectStatus(status):
            return _redirect(status, _final(state, media))
        case RedirectHops(hops, status):
            return _on_the_way(state, media, Stop(hops - 1, status))
        case RedirectLoop(status):
            return _on_the_way(state, media, Stop(None, status))
        case RedirectTo(location, status):
            return _redirect(status, location)
        case _:
            assert_never(fault)


def next_redirect(state: State, media: Media, hop: Stop) -> web.Response:
    """Make the CDN's answer at a stop on the way."""
    if hop.left is None:
        return _on_the_way(state, media, Stop(None, hop.status, hop.lap + 1))
    return _on_the_way(state, media, Stop(hop.left - 1, hop.status))


def _on_the_way(state: State, media: Media, hop: Stop) -> web.Response:
    if hop.left is not None and hop.left <= 0:
        return _redirect(hop.status, _final(state, media))
    left = "endless" if hop.left is None else str(hop.left)
    lap = f"&lap={hop.lap}" if hop.left is None else ""
    return _redirect(hop.status, f"{state.cdn_url}{_path(state, media)}?hop={left}&status={hop.status}{lap}")


def _redirect(status: int, location: str) -> web.Response:
    return web.Response(status=status, headers={"Location": location})


def _final(state: State, media: Media) -> str:
    path = _path(state, media)
    match state.mode:
        case Mode.REDIRECT_PUBLIC:
            return state.cdn_url + path
        case Mode.REDIRECT_SIGNED | Mode.DIRECT:
            return state.cdn_url + state.signer.sign(path, int(state.now()) + state.options.link_life)
        case _:
            assert_never(state.mode)


def _path(state: State, media: Media) -> str:
    root = public_root(media.ref.account) if state.mode is Mode.REDIRECT_PUBLIC else ""
    return f"{root}/{media.ref.account}/{media.key}"
