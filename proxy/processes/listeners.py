"""Sockets to listen on: a TCP address, a unix socket, or one that systemd hands over."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from proxy.errors import SettingProblem, SettingsError
from proxy.http_server.runner import BACKLOG
from proxy.settings import ListenAddress, PublicUrl, Settings, TcpAddress, UnixAddress

_FIRST_PASSED: Final = 3  # sd_listen_fds(3): passed descriptors begin at 3
_PROBE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound, listening socket, and the path and inode of a unix socket that was made for it."""

    socket: socket.socket
    path: Path | None = None
    inode: int = 0

    @property
    def port(self) -> int | None:
        """The port of a TCP socket."""
        return None if self.socket.family is socket.AF_UNIX else int(self.socket.getsockname()[1])

    def __str__(self) -> str:
        """Return the place where it listens: an origin, or `unix:` and a path."""
        place = self.socket.getsockname()
        if self.socket.family is socket.AF_UNIX:
            return f"unix:{place}"
        return str(PublicUrl.of(TcpAddress(str(place[0]), int(place[1]))))

    def close(self) -> None:
        """Close the socket, and unlink a unix socket that was made for it."""
        self.socket.close()
        # Another gateway may have taken the path over since.
        if self.path is not None and self.path.exists() and self.path.stat().st_ino == self.inode:
            self.path.unlink()


@dataclass(frozen=True, slots=True)
class Listeners:
    """The socket of a gateway, and the one of `/metrics` alone, if there is one."""

    main: Listener
    metrics: Listener | None = None

    def close(self) -> None:
        """Close and unlink both."""
        self.main.close()
        if self.metrics is not None:
            self.metrics.close()


def open_listeners(settings: Settings, environ: Mapping[str, str]) -> Listeners:
    """Open the sockets that the settings name. Raises `SettingsError` if one cannot be opened."""
    main = open_listener(settings.listen, environ)
    if settings.metrics_listen is None:
        return Listeners(main)
    try:
        return Listeners(main, _bound(settings.metrics_listen, "GATEWAY_METRICS_LISTEN"))
    except SettingsError:
        main.close()
        raise


def open_listener(address: ListenAddress, environ: Mapping[str, str]) -> Listener:
    """Return the socket that systemd passed, else open one at `address`. Blocks if a name has to be looked up.

    Raises `SettingsError` if that cannot be done.
    """
    passed = _passed(environ)
    return _bound(address, "GATEWAY_LISTEN") if passed is None else Listener(passed)


def _bound(address: ListenAddress, setting: str) -> Listener:
    try:
        match address:
            case TcpAddress():
                return Listener(_tcp(address))
            case UnixAddress():
                path = Path(address.path)
                return Listener(_unix(path), path, path.stat().st_ino)
            case _:
                assert_never(address)
    except OSError as error:
        reason = (error.strerror or "cannot be used").lower()
        raise SettingsError([SettingProblem(setting, f"{address} cannot be listened at: {reason}")]) from error


def _passed(environ: Mapping[str, str]) -> socket.socket | None:
    """Return the first socket that a systemd socket unit passed to this very process (sd_listen_fds(3)), if any."""
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS", "0") == "0":
        return None
    try:
        bound = socket.socket(fileno=_FIRST_PASSED)
    except OSError as error:
        raise _unfit("is not a socket") from error
    if bound.type is not socket.SOCK_STREAM or not bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        bound.detach()
        raise _unfit("is not a listening stream socket")
    # Programs that this process starts do not get it.
    bound.set_inheritable(False)
    bound.settimeout(0)
    return bound


def _unfit(reason: str) -> SettingsError:
    return SettingsError([SettingProblem("LISTEN_FDS", f"the descriptor that was passed {reason}")])


def _tcp(address: TcpAddress) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        bound.listen(BACKLOG)
        bound.settimeout(0)
    except OSError:
        bound.close()
        raise
    return bound


def _unix(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()  # left by a gateway that was killed
        bound.bind(str(path))
        path.chmod(0o660)
        bound.listen(BACKLOG)
        bound.settimeout(0)
    except OSError:
        bound.close()
        raise
    return bound


def _answers(path: Path) -> bool:
    """Return whether a program listens there. A full queue, or a lack of permission, does not say that none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED
