"""`media-gateway init`: the file that it writes, and what it never does."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from pathlib import Path

import pytest

from proxy.settings import Scope, load
from tests.functional.test_cli import ACCOUNT, MEDIA, MESSAGE, RESOURCE, WITH_ACCOUNT, run

PROJECT = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def filled_in(text: str) -> str:
    """Return the file as a user completes it: every account that is commented out there."""
    tables = re.findall(r"(?m)^#\[\[accounts\]\]\n(?:#\w+ = .*\n)+", text)
    assert len(tables) == 2
    for table in tables:
        text = text.replace(table, re.sub(r"(?m)^#", "", table))
    return re.sub(r"(?m)^#(gateway_\w+ = )", r"\1", text)


def test_it_writes_keys_and_a_client_for_its_owner_alone(here: Path) -> None:
    result = run("init")
    file = here / "media-gateway.toml"
    assert (result.exit_code, stat.S_IMODE(file.stat().st_mode)) == (0, 0o600)
    assert [path.name for path in here.iterdir()] == [file.name]
    settings = load({}, file)
    assert len(settings.signing_keys) == 1
    (client,) = settings.clients
    assert (client.id, set(client.scopes)) == ("backend", {Scope.MINT, Scope.READ, Scope.DELETE})
    written = tomllib.loads(file.read_text("utf-8"))
    assert written["clients"][0]["secret"] not in result.output
    assert written["gateway_signing_keys"].partition(":")[2] not in result.output


def test_what_is_commented_out_is_right_once_it_is_not(here: Path) -> None:
    run("init")
    file = here / "media-gateway.toml"
    file.write_text(filled_in(file.read_text("utf-8")), "utf-8")
    settings = load({}, file)
    settings.require_serving()
    assert [(str(account.sid), account.origin) for account in settings.accounts] == [
        ("AC0123456789abcdef0123456789abcdef", "https://api.twilio.com"),
        (PROJECT, "https://example.signalwire.com"),
    ]
    assert str(settings.public_url) == "https://media.example.com"


def test_each_file_has_secrets_of_its_own(here: Path) -> None:
    assert run("init", "one.toml").exit_code == run("init", "two.toml").exit_code == 0
    one, two = (tomllib.loads((here / name).read_text("utf-8")) for name in ("one.toml", "two.toml"))
    assert one["gateway_signing_keys"] != two["gateway_signing_keys"]
    assert one["clients"][0]["secret"] != two["clients"][0]["secret"]


def test_the_printed_commands_name_the_file(here: Path) -> None:
    result = run("init", "my settings.toml")
    assert "media-gateway serve --config 'my settings.toml'" in result.output
    assert "Fill in one [[accounts]]" in result.output
    environ = {name: WITH_ACCOUNT[name] for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")}
    told = run("init", environ=environ)
    assert "Your account is taken from TWILIO_ACCOUNT_SID in the environment." in told.output
    assert WITH_ACCOUNT["TWILIO_AUTH_TOKEN"] not in (here / "media-gateway.toml").read_text("utf-8")


def left(file: Path) -> tuple[int, ...]:
    """Return what tells a file that was left alone: all of its state but when it was last looked at."""
    state = file.lstat()
    return state.st_mode, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@pytest.mark.parametrize("there", ["file", "link", "dangling", "folder", "pipe"])
def test_what_is_there_already_is_left_as_it_is(there: str, here: Path) -> None:
    file, other = here / "media-gateway.toml", here / "other"
    match there:
        case "file":
            file.write_text("mine", "utf-8")
        case "link":
            other.write_text("mine", "utf-8")
            file.symlink_to(other)
        case "dangling":
            file.symlink_to(other)
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
    before = left(file)
    result = run("init")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "media-gateway: media-gateway.toml: already exists, and was not changed\n"
    assert left(file) == before
    assert other.exists() == (there == "link")
    assert not other.exists() or other.read_text("utf-8") == "mine"


def test_a_folder_that_is_not_there_is_named() -> None:
    result = run("init", "no/such.toml")
    assert (result.exit_code, result.stderr) == (
        1, "media-gateway: no/such.toml: cannot be written: no such file or directory\n",
    )  # fmt: skip


def test_a_disk_that_is_full_leaves_nothing_behind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = run("init")
    assert (result.exit_code, result.stderr) == (
        1, "media-gateway: media-gateway.toml: cannot be written: no space left on device\n",
    )  # fmt: skip
    assert list(here.iterdir()) == []


def test_the_umask_takes_none_from_owner_and_gives_others_none(here: Path) -> None:
    before = os.umask(0o277)
    try:
        run("init", "strict.toml")
        os.umask(0)
        run("init", "lax.toml")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((here / name).stat().st_mode) for name in ("strict.toml", "lax.toml")] == [0o600, 0o600]


def test_a_second_shell_mints_for_the_first_shell_s_gateway(here: Path) -> None:
    run("init")
    file = here / "media-gateway.toml"
    file.write_text(filled_in(file.read_text("utf-8")).replace("AC0123456789abcdef0123456789abcdef", ACCOUNT), "utf-8")
    by_option = run("link", "--config", "media-gateway.toml", f"https://api.twilio.com{RESOURCE}")
    by_variable = run("link", f"{ACCOUNT}/{MESSAGE}/{MEDIA}", environ={"GATEWAY_CONFIG": str(file)})
    assert (by_option.exit_code, by_variable.exit_code) == (0, 0)
    for shell in (by_option, by_variable):
        explained = run("explain", shell.stdout.strip(), environ={"GATEWAY_CONFIG": str(file)})
        assert explained.exit_code == 0, explained.output


def test_the_option_wins_and_no_file_is_read_unasked(here: Path) -> None:
    run("init")
    assert run("link", f"{ACCOUNT}/{MESSAGE}/{MEDIA}").exit_code == 2
    environ = {"GATEWAY_CONFIG": str(here / "missing.toml")}
    missing = run("link", f"{ACCOUNT}/{MESSAGE}/{MEDIA}", environ=environ)
    assert (missing.exit_code, "missing.toml: cannot be read" in missing.stderr) == (2, True)
    both = run("link", "--config", "media-gateway.toml", f"{ACCOUNT}/{MESSAGE}/{MEDIA}", environ=environ)
    assert both.exit_code == 0
