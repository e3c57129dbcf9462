"""Files that `…_FILE` settings name: some are read, some are refused, and none takes forever."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from proxy.errors import SettingsError
from proxy.settings import load, secret_files

KEYS = "k1:" + "s" * 40
NAME = "GATEWAY_SIGNING_KEYS_FILE"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(KEYS + "\n")
    path.chmod(0o600)
    return path


def loaded(path: Path) -> str:
    (key,) = load({NAME: str(path)}).signing_keys
    return key.secret.get_secret_value()


def refused(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load({NAME: str(path)})
    (problem,) = caught.value.problems
    assert problem.name == NAME
    assert "s" * 40 not in problem.message
    return problem.message


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_file_that_others_cannot_read_causes_no_warning(
    secret: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    secret.chmod(mode)
    assert loaded(secret) == "s" * 40
    assert not caplog.records


def test_a_file_that_others_may_read_gets_a_warning(secret: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret.chmod(0o644)
    assert loaded(secret) == "s" * 40
    ((_, level, said),) = caplog.record_tuples
    assert (level, said.partition(":")[0]) == (logging.WARNING, NAME)
    assert KEYS not in said


def test_links_are_followed_as_kubernetes_lays_them(secret: Path, tmp_path: Path) -> None:
    (tmp_path / "..data").symlink_to(tmp_path)
    (tmp_path / "mounted").symlink_to("..data/keys")
    assert loaded(tmp_path / "mounted") == "s" * 40


@pytest.mark.parametrize("mode", [0o602, 0o622, 0o666])
def test_a_file_that_others_may_write_is_refused(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert refused(secret) == "other users may write to the file that it names"


def test_only_the_process_s_own_group_may_write(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret.chmod(0o660)
    assert loaded(secret) == "s" * 40
    monkeypatch.setattr(os, "getegid", lambda: secret.stat().st_gid + 1)
    assert refused(secret) == "other users may write to the file that it names"


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/full", "/"])
def test_what_is_neither_a_file_nor_a_pipe_is_refused(path: str) -> None:
    assert refused(Path(path)) == "expected a regular file or a pipe"


def test_a_link_to_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    assert refused(tmp_path / "link") == "expected a regular file or a pipe"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    return path


def test_a_pipe_is_read_to_its_end(pipe: Path) -> None:
    def write() -> None:
        with pipe.open("w") as file:
            file.write(KEYS[:10])
            file.flush()
            file.write(KEYS[10:])

    writer = threading.Thread(target=write)
    writer.start()
    assert loaded(pipe) == "s" * 40
    writer.join()


def test_a_descriptor_of_the_shell_is_a_pipe_too() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, KEYS.encode())
        os.close(writing)
        assert loaded(Path(f"/dev/fd/{reading}")) == "s" * 40
    finally:
        os.close(reading)


def test_a_pipe_without_a_writer_ends_the_start(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_files, "PIPE_SECONDS", 0.1)
    assert refused(pipe) == "the pipe that it names was not written to, or not closed, within 0.1 seconds"


def test_a_pipe_that_is_never_closed_ends_the_start(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_files, "PIPE_SECONDS", 0.1)
    writer = os.open(pipe, os.O_RDWR)
    try:
        os.write(writer, KEYS.encode())
        assert refused(pipe).startswith("the pipe that it names was not written to, or not closed")
    finally:
        os.close(writer)


def test_a_pipe_without_end_is_too_large(pipe: Path) -> None:
    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 65_536)
            except BrokenPipeError:
                return

    writer = threading.Thread(target=write)
    writer.start()
    assert refused(pipe) == "the file it names is larger than 1000000 bytes"
    writer.join()


def test_a_file_is_not_waited_for_as_a_pipe_is(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_files, "PIPE_SECONDS", 0.0)
    assert loaded(secret) == "s" * 40
