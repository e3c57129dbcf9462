"""`make demo`, and what is left when `make` ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
from yarl import URL

from tests.functional.programs import started

TOP = Path(__file__).parents[2]


@pytest.mark.system("make")
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=lambda one: one.name
)
async def test_ending_make_ends_all_that_the_demo_started(number: signal.Signals, tmp_path: Path) -> None:
    program, process = tmp_path / "media-gateway", tmp_path / "process"
    program.write_text(
        f'#!/bin/sh\necho $$ > {shlex.quote(str(process))}\nexec {shlex.quote(sys.executable)} -m proxy "$@"\n', "utf-8"
    )
    program.chmod(0o700)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # A test run in the background may ignore SIGINT, and hand that on.
    command = ["env", "--default-signal", "make", "-C", str(TOP), "-o", ".venv/.runtime", f"BIN={tmp_path}", "PORT=0"]
    async with started(["demo"], {"TMPDIR": str(temporary)}, command=command) as make:
        try:
            console = URL((await make.line("Console:")).split()[1])
            assert console.host is not None
            await make.line("Ctrl-C")
            # To make alone: a terminal would send it to the demo as well.
            make.signal(number)
            # The demo holds the same output: its end is that of the last of them.
            async with asyncio.timeout(30):
                await make.ended()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(console.host, console.port)
            assert "Traceback" not in "\n".join(make.lines)
            assert list(temporary.iterdir()) == []
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.read_text("ascii")), signal.SIGKILL)


async def test_a_demo_without_a_parent_to_follow_outlives_its_shell(tmp_path: Path) -> None:
    shell = ["/bin/sh", "-c", '"$@" & echo "began $!"', "sh", sys.executable, "-m", "proxy"]
    async with started(["demo"], {"PORT": "0", "TMPDIR": str(tmp_path)}, command=shell) as program:
        process = int((await program.line("began")).split()[1])
        console = URL((await program.line("Console:")).split()[1])
        assert await program.inner.wait() == 0
        assert console.host is not None
        try:
            _, writer = await asyncio.open_connection(console.host, console.port)
            writer.close()
            await writer.wait_closed()
        finally:
            os.kill(process, signal.SIGTERM)
        await program.ended()
