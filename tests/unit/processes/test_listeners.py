"""Sockets: a TCP address, a unix socket that replaces no live one, and those that systemd passes."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest

from proxy.errors import SettingsError
from proxy.processes.listeners import open_listener
from proxy.settings import ListenAddress, TcpAddress, UnixAddress


@contextmanager
def listening(address: ListenAddress, environ: dict[str, str]) -> Iterator[socket.socket]:
    listener = open_listener(address, environ)
    try:
        yield listener.socket
    finally:
        listener.close()


def refusal(address: ListenAddress, environ: dict[str, str] | None = None) -> tuple[str, str]:
    with pytest.raises(SettingsError) as caught:
        open_listener(address, environ or {})
    (problem,) = caught.value.problems
    return problem.name, problem.message


def unix(path: Path) -> UnixAddress:
    return UnixAddress(PurePosixPath(path))


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_tcp_address_is_listened_at(host: str) -> None:
    with listening(TcpAddress(host, 0), {}) as bound:
        assert bound.gettimeout() == 0
        port = bound.getsockname()[1]
        with socket.create_connection((host, port), timeout=60):
            pass
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
@pytest.mark.parametrize(("host", "dialled"), [("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1")])
def test_an_ipv6_address_is_listened_at(host: str, dialled: str) -> None:
    with (
        listening(TcpAddress(host, 0), {}) as bound,
        socket.create_connection((dialled, bound.getsockname()[1]), timeout=60),
    ):
        assert bound.family is socket.AF_INET6


def test_a_port_in_use_is_one_clear_problem() -> None:
    with listening(TcpAddress("127.0.0.1", 0), {}) as bound:
        port = bound.getsockname()[1]
        assert refusal(TcpAddress("127.0.0.1", port)) == (
            "GATEWAY_LISTEN",
            f"127.0.0.1:{port} cannot be listened at: address already in use",
        )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_a_problem(host: str) -> None:
    name, message = refusal(TcpAddress(host, 0))
    assert (name, host in message) == ("GATEWAY_LISTEN", True)


def test_a_unix_socket_is_for_owner_and_group_until_closed(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with listening(unix(path), {}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert connects(path)
    assert not path.exists()


def test_a_socket_that_a_killed_gateway_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    assert path.is_socket()
    with listening(unix(path), {}):
        assert connects(path)


def test_a_socket_that_is_listened_at_is_not_stolen(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with listening(unix(path), {}) as bound:
        assert refusal(unix(path))[1].endswith("address already in use")
        assert connects(path)
        assert bound.getsockname() == str(path)


def test_a_busy_socket_whose_queue_is_full_is_not_stolen(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        assert refusal(unix(path))[1].endswith("address already in use")
        assert path.is_socket()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    path.write_text("letters")
    assert refusal(unix(path))[1].endswith("address already in use")
    assert path.read_text() == "letters"


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    assert "no such file" in refusal(unix(tmp_path / "none" / "gateway.sock"))[1]


def test_a_path_that_another_gateway_took_over_stays(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as successor:
        with listening(unix(path), {}):
            successor.bind(str(tmp_path / "next.sock"))
            (tmp_path / "next.sock").rename(path)
        assert path.is_socket()


def test_closing_does_not_mind_that_the_path_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with listening(unix(path), {}):
        path.unlink()
    assert not path.exists()


@pytest.mark.parametrize(
    "environ", [{"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "0", "LISTEN_PID": "own"}]
)
def test_sd_listen_fds_of_another_process_are_ignored(environ: dict[str, str]) -> None:
    own = {name: str(os.getpid()) if value == "own" else value for name, value in environ.items()}
    with listening(TcpAddress("127.0.0.1", 0), own) as bound:
        assert bound.fileno() != 3
