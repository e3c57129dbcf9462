"""The machine under the figures: its cores and memory, and what it says of them."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

_PATH: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+[0-9.]*")
_PROGRAMS: Final = {"nginx": ("nginx", "-v"), "varnish": ("varnishd", "-V"), "wrk": ("wrk", "-v")}
_LIBRARIES: Final = ("media-gateway", "aiohttp", "uvloop")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and the time of the figures; `load` is the load average as the run began."""

    processor: str
    cores: int
    pinned: bool
    memory_bytes: int
    kernel: str
    python: str
    date: str
    load: float
    versions: Mapping[str, str]


def this_machine() -> Machine:
    """Return this machine, now."""
    return Machine(
        processor=_processor(),
        cores=len(cores()),
        pinned=can_pin(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        load=round(os.getloadavg()[0], 2),
        versions=dict(_versions()),
    )


def cores() -> Sequence[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def can_pin() -> bool:
    """Return whether servers and load can have a core each."""
    return len(cores()) >= 2


@contextmanager
def pinned(number: int | None) -> Iterator[None]:
    """Start what is started meanwhile on one core, if there are two; None is any core."""
    before = os.sched_getaffinity(0)
    if number is None or not can_pin():
        yield
        return
    os.sched_setaffinity(0, {sorted(before)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def program(name: str) -> str | None:
    """Return the path of a system program, None if it is not installed."""
    return shutil.which(name, path=_PATH)


def tcp_memory() -> int:
    """Return bytes that the kernel holds in TCP buffers, of all connections of the machine."""
    for line in Path("/proc/net/sockstat").read_text("ascii").splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for name, (command, option) in _PROGRAMS.items():
        path = program(command)
        if path is None:
            continue
        said = subprocess.run([path, option], capture_output=True, text=True)
        found = _VERSION.search(said.stdout + said.stderr)
        if found is not None:
            yield name, found[0].rstrip(".")
    yield "python", sys.version.split()[0]
