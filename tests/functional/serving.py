"""The `serve` command as a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

_READY = b"listening at "
_OWN_SETTINGS = ("GATEWAY_", "TWILIO_", "SIGNALWIRE_")
COMMAND = (sys.executable, "-m", "proxy", "serve")


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these settings in place of any of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OWN_SETTINGS)} | dict(settings)


@asynccontextmanager
async def serving(settings: Mapping[str, str], *launcher: str) -> AsyncIterator[None]:
    """Run `launcher… media-gateway serve`, which has drained and ended with 0 when the scope is left."""
    process = await asyncio.create_subprocess_exec(
        *launcher, *COMMAND, env=clean_environment(settings),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said = b""
    try:
        while _READY not in said:
            said = await process.stderr.readline()
            assert said, f"the gateway did not start: exit {await process.wait()}"
        drained = asyncio.create_task(process.stderr.read())
        try:
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            await drained
    finally:
        if process.returncode is None:
            process.kill()
        code = await process.wait()
    assert code == 0, f"the gateway ended with {code}"
