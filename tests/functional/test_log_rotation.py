"""Logs in files as deploy/systemd has them: they turn over while every worker goes on writing, and lose no line."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
import pytest

from proxy.sandbox import Sandbox
from tests.documents import ROOT
from tests.functional.harness import environment
from tests.functional.programs import started
from tests.functional.test_deploy_systemd import entries

FOLDER = ROOT / "deploy/systemd"
LOGS = "/var/log/media-gateway"
IDS = re.compile(r"request_id=([0-9a-f]{32})$", re.MULTILINE)


async def read(path: Path) -> str:
    return await asyncio.to_thread(path.read_text)


async def until_written(path: Path, text: str) -> None:
    """Wait until a log holds this text."""
    while True:
        if text in await read(path):
            return
        await asyncio.sleep(0.02)


async def asked(origin: str, count: int) -> list[str]:
    """Return the ids of so many requests, each on a connection of its own, so that every worker has some."""
    ids: list[str] = []
    for _ in range(count):
        async with aiohttp.ClientSession() as session, session.get(origin + "/healthz") as reply:
            assert reply.status == 200
            ids.append(reply.headers["X-Request-Id"])
    return ids


def appending() -> Sequence[str]:
    """Return the two logs of the drop-in, by their names: the access log's first."""
    found = dict(entries((FOLDER / "logs.conf").read_text()))
    names = [found[name].removeprefix(f"append:{LOGS}/") for name in ("StandardOutput", "StandardError")]
    assert all("/" not in name and name.endswith(".log") for name in names), found
    return names


@pytest.mark.system("logrotate")
async def test_logs_turn_over_while_every_worker_goes_on_writing(
    sandbox: Sandbox, tmp_path: Path, program_path: Callable[[str], str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o750)
    access, program_log = (folder / name for name in appending())
    access.touch()
    program_log.touch()
    rules = tmp_path / "logrotate.conf"
    rules.write_text((FOLDER / "logrotate.conf").read_text().replace(LOGS, str(folder)))
    rules.chmod(0o644)

    async def rotate() -> None:
        command = [program_path("logrotate"), "--force", "--state", str(tmp_path / "state"), str(rules)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    # As systemd's `append:` opens them.
    shell = ("/bin/sh", "-c", 'out=$1 err=$2; shift 2; exec "$@" >>"$out" 2>>"$err"', "sh")
    command = (*shell, str(access), str(program_log), sys.executable, "-m", "proxy")
    settings = environment(sandbox, tmp_path / "cache")
    async with started(("serve", "--workers", "2"), settings, command=command) as program:
        await until_written(program_log, "listening at ")
        origin = (await read(program_log)).partition("listening at ")[2].partition(",")[0]
        before = await asked(origin, 30)
        for request_id in before:
            await until_written(access, request_id)
        await rotate()
        # What tells other programs to open their logs again ends nothing.
        program.signal(signal.SIGUSR1)
        program.signal(signal.SIGHUP)
        await until_written(program_log, "reloaded, links begin with")
        after = await asked(origin, 30)
        for request_id in after:
            await until_written(access, request_id)
        turned, now = await read(access.with_name(f"{access.name}.1")), await read(access)
        assert sorted(IDS.findall(turned)) == sorted(before)
        assert sorted(IDS.findall(now)) == sorted(after)
        assert "\0" not in now
        assert "listening at" in await read(program_log.with_name(f"{program_log.name}.1"))
        assert "listening at" not in await read(program_log)
        await rotate()
        assert {path.name for path in folder.iterdir()} == {
            *(name for log in appending() for name in (log, f"{log}.1", f"{log}.2.gz"))
        }
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
