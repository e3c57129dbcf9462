"""Sockets to listen on: a TCP address, a unix socket, or one that systemd hands over."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final, assert_never

from proxy.errors import SettingProblem, SettingsError
from proxy.settings import ListenAddress, TcpAddress, UnixAddress

BACKLOG: Final = 4096
"""Connections that the kernel holds until they are accepted."""
_FIRST_PASSED: Final = 3  # sd_listen_fds(3): passed descriptors begin at 3
_PROBE_SECONDS: Final = 1.0


@contextmanager
def listening(address: ListenAddress, environ: Mapping[str, str]) -> Iterator[socket.socket]:
    """A bound, listening socket: the one systemd passed, else one at `address`. Closed, and unlinked, at the end.

    Raises `SettingsError` where the address cannot be had.
    """
    passed = _passed(environ)
    if passed is not None:
        with passed:
            yield passed
        return
    match address:
        case TcpAddress():
            with _tcp(address) as bound:
                yield bound
        case UnixAddress():
            path = Path(address.path)
            with _unix(path) as bound:
                made = path.stat().st_ino
                try:
                    yield bound
                finally:
                    # Another gateway may have taken the path over since.
                    if path.exists() and path.stat().st_ino == made:
                        path.unlink()
        case _:
            assert_never(address)


def _passed(environ: Mapping[str, str]) -> socket.socket | None:
    """The socket of a systemd socket unit (sd_listen_fds(3)): its first one, made for this very process."""
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS", "0") == "0":
        return None
    try:
        bound = socket.socket(fileno=_FIRST_PASSED)
    except OSError as error:
        raise _unfit("is no socket") from error
    if bound.type is not socket.SOCK_STREAM or not bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        bound.detach()
        raise _unfit("is no listening stream socket")
    # It is for this process alone, not for programs that it starts.
    bound.set_inheritable(False)
    bound.settimeout(0)
    return bound


def _unfit(reason: str) -> SettingsError:
    return SettingsError([SettingProblem("LISTEN_FDS", f"the descriptor that was passed {reason}")])


def _tcp(address: TcpAddress) -> socket.socket:
    try:
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
    except OSError as error:
        raise _refused(address, error) from error
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
    except OSError as error:
        bound.close()
        raise _refused(UnixAddress(PurePosixPath(path)), error) from error
    return bound


def _answers(path: Path) -> bool:
    """Whether somebody listens there, as far as can be told: a full queue or a refused permission is no absence."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED


def _refused(address: ListenAddress, error: OSError) -> SettingsError:
    reason = error.strerror or "cannot be used"
    return SettingsError([SettingProblem("GATEWAY_LISTEN", f"{address} cannot be listened at: {reason.lower()}")])
