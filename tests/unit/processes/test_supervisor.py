"""The service manager is told by sd_notify(3) if it is there, and nothing fails if it is not."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from pathlib import Path

import pytest

from proxy.processes.supervisor import ServiceManager


@pytest.mark.parametrize("abstract", [False, True])
def test_the_socket_may_be_a_file_or_abstract(tmp_path: Path, abstract: bool) -> None:
    place = f"@{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + place[1:] if abstract else place)
        listening.settimeout(60)
        ServiceManager({"NOTIFY_SOCKET": place}).ready()
        assert listening.recv(4_096).decode().splitlines()[:2] == ["READY=1", f"MAINPID={os.getpid()}"]


def test_without_a_service_manager_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    manager = ServiceManager({})
    manager.ready()
    manager.reloading()
    manager.stopping()
    assert caplog.records == []


def test_a_service_manager_that_has_gone_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "media_gateway"):
        ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).stopping()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
