"""The systemd units: sound, hardened, and of use to the gateway as it is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from proxy.links import LinkMinter
from proxy.sandbox import Media, Sandbox
from proxy.settings import load
from tests.functional.harness import CLIENT, KEY, environment
from tests.functional.serving import serving
from tests.ports import free_port

FOLDER = Path(__file__).parents[2] / "deploy/systemd"
SERVICE, SOCKET = "media-gateway.service", "media-gateway.socket"
PROGRAM = "/opt/media-gateway/bin/media-gateway"

# Puts the limits of a unit on the process and becomes the command. The first filter is MemoryDenyWriteExecute= as
# systemd.exec(5) has it, the second SystemCallFilter=: whatever is not named gives EPERM.
CONFINE = """
import ctypes, os, sys

class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]

lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_init.argtypes = [ctypes.c_uint32]
lib.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare)
]
lib.seccomp_load.argtypes = [ctypes.c_void_p]
ALLOW, REFUSE, MASKED_EQUAL, WRITE_EXEC, EXEC = 0x7FFF0000, 0x00050001, 7, 6, 4

def number(name):
    return lib.seccomp_syscall_resolve_name(name.encode())

def add(filter, action, name, bits=None):
    compare = None if bits is None else (Compare * 1)(Compare(2, MASKED_EQUAL, bits, bits))
    assert lib.seccomp_rule_add_array(filter, action, number(name), 0 if bits is None else 1, compare) == 0, name

allowed = sys.argv[1].split(",")
filter = lib.seccomp_init(ALLOW)
add(filter, REFUSE, "mmap", WRITE_EXEC)
add(filter, REFUSE, "mprotect", EXEC)
add(filter, REFUSE, "pkey_mprotect", EXEC)
assert lib.seccomp_load(filter) == 0
filter = lib.seccomp_init(REFUSE)
for name in allowed:
    if number(name) >= 0:
        add(filter, ALLOW, name)
assert lib.seccomp_load(filter) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


def entries(text: str) -> list[tuple[str, str]]:
    """Return the `Name=value` lines of a unit."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def values(name: str, unit: str = SERVICE) -> list[str]:
    return [value for entry, value in entries((FOLDER / unit).read_text()) if entry == name]


def value(name: str) -> str:
    (only,) = values(name)
    return only


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """Return the units' files with a program that is there."""
    text = (FOLDER / SERVICE).read_text()
    assert text.count(PROGRAM) == 1
    (tmp_path / SERVICE).write_text(text.replace(PROGRAM, sys.executable))
    (tmp_path / SOCKET).write_text((FOLDER / SOCKET).read_text())
    return [str(tmp_path / name) for name in (SERVICE, SOCKET)]


@pytest.mark.system("systemd-analyze")
def test_systemd_takes_the_units_without_a_word(units: list[str], program_path: Callable[[str], str]) -> None:
    done = subprocess.run(
        [program_path("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.system("systemd-analyze")
def test_the_service_is_exposed_no_more_than_it_needs(units: list[str], program_path: Callable[[str], str]) -> None:
    """1.5 of 10; without the hardening it is 9 and more."""
    done = subprocess.run(
        [program_path("systemd-analyze"), "security", "--offline=true", "--threshold=15", "--no-pager", units[0]],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_loaded_credentials_are_those_that_settings_name() -> None:
    loaded = {entry.partition(":")[0]: entry.partition(":")[2] for entry in values("LoadCredential")}
    named = dict(entry.split("=", 1) for entry in values("Environment"))
    files = {name: path for name, path in named.items() if name.endswith("_FILE")}
    assert set(files.values()) == {f"%d/{name}" for name in loaded}
    assert set(loaded.values()) == {f"/etc/media-gateway/{name}" for name in loaded}
    assert not any(name.endswith(("_TOKEN", "_KEYS", "_CLIENTS", "_SECRET")) for name in named)


def test_the_cache_is_the_folder_that_systemd_makes() -> None:
    assert "GATEWAY_CACHE_DIR=%C/" + value("CacheDirectory") in values("Environment")
    assert value("CacheDirectoryMode") == "0700"


def test_stopping_waits_longer_than_a_drain() -> None:
    settings = load({})
    assert int(value("TimeoutStopSec")) > settings.drain_seconds
    assert value("KillSignal") == "SIGTERM"


def test_there_are_descriptors_for_every_connection_that_is_let_in() -> None:
    settings = load({})
    assert int(value("LimitNOFILE")) > 2 * settings.limits.connections


def test_the_socket_listens_where_the_gateway_would() -> None:
    assert values("ListenStream", SOCKET) == [str(load({}).listen)]


def allowed_calls(program: str) -> set[str]:
    """Return the system calls that `SystemCallFilter=` leaves, its sets spelled out."""
    listed = subprocess.run([program, "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True)
    sets: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in listed.stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            current = sets.setdefault(word, set())
        elif not word:
            current = set()
        elif not word.startswith("#"):
            current.add(word)

    def spelled_out(names: list[str]) -> set[str]:
        found: set[str] = set()
        for name in names:
            found |= spelled_out(sorted(sets[name])) if name.startswith("@") else {name}
        return found

    allowed: set[str] = set()
    for entry in values("SystemCallFilter"):
        if entry.startswith("~"):
            allowed -= spelled_out(entry[1:].split())
        else:
            allowed |= spelled_out(entry.split())
    return allowed


@pytest.fixture
def confined(program_path: Callable[[str], str]) -> list[str]:
    """Return a launcher that puts the unit's limits on memory and system calls on a command."""
    assert value("MemoryDenyWriteExecute") == "yes"
    calls = allowed_calls(program_path("systemd-analyze"))
    assert {"read", "sendfile", "epoll_wait"} <= calls
    assert not calls & {"mount", "ptrace", "bpf", "setpriority"}
    return [sys.executable, "-c", CONFINE, ",".join(sorted(calls))]


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content + "\n")


@pytest.mark.system("systemd-analyze")
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_the_gateway_serves_within_the_limits_of_its_unit(
    sandbox: Sandbox, photo: Media, film: Media, tmp_path: Path, confined: list[str], loop: str
) -> None:
    credentials, port = tmp_path / "credentials", free_port()
    secrets = {"signing_keys": KEY, "clients": ":".join(CLIENT), "twilio_auth_token": sandbox.auth_token}
    _write(credentials, secrets)
    settings = environment(sandbox, tmp_path / "cache", GATEWAY_LOOP=loop, GATEWAY_LISTEN=f"127.0.0.1:{port}")
    for entry in values("Environment"):
        name, _, written = entry.partition("=")
        settings.pop(name.removesuffix("_FILE"), None)
        settings[name] = written.replace("%d", str(credentials)).replace("%C", str(tmp_path))
    async with serving(settings, *confined), aiohttp.ClientSession() as session:
        minter = LinkMinter(f"http://127.0.0.1:{port}", KEY)
        for media in (photo, film, photo):
            async with session.get(minter.url(media.ref)) as response:
                assert (response.status, await response.read()) == (200, media.read())
    assert (tmp_path / value("CacheDirectory")).is_dir()


@pytest.mark.system("systemd-analyze")
@pytest.mark.parametrize(
    ("attempt", "refused"),
    [
        ("import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)", True),
        ("import os; os.setpriority(os.PRIO_PROCESS, 0, 5)", True),
        ("import os; os.chroot('/')", True),
        ("import asyncio, ssl, uvloop, aiodns; uvloop.run(asyncio.sleep(0))", False),
        ("import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)", False),
    ],
)
async def test_the_limits_hold(confined: list[str], attempt: str, refused: bool) -> None:
    process = await asyncio.create_subprocess_exec(
        *confined, sys.executable, "-c", attempt, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert (process.returncode != 0, b"PermissionError" in said) == (refused, refused), said.decode()
