"""A real Caddy on a free port, from the Caddyfile that is shipped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.functional.nginx import substituted

# Caddy writes this once its sockets listen.
_READY = b"serving initial configuration"


@dataclass(frozen=True)
class RunningCaddy:
    """A Caddy that serves; `said` is what it has logged."""

    process: asyncio.subprocess.Process
    said: list[bytes]

    async def stop(self) -> str:
        """End it; all that it has logged."""
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()
        return b"".join(self.said).decode()


def rendered(text: str, port: int, gateway: str, root: Path) -> str:
    """The Caddyfile at a port of this machine's, without TLS, before a gateway, over these files."""
    return substituted(
        text,
        {
            "{\n\t# A signature": "{\n\tadmin off\n\t# A signature",
            "\nmedia.example.com {": f"\nhttp://127.0.0.1:{port} {{",
            "127.0.0.1:8080": gateway,
            "root * /srv/media-gateway": f"root * {root}",
        },
    )


@asynccontextmanager
async def caddy(program: str, text: str, folder: Path) -> AsyncIterator[RunningCaddy]:
    """A Caddy over one Caddyfile; it listens when this yields, and has ended when the scope has."""
    file = _laid_out(text, folder)
    process = await asyncio.create_subprocess_exec(
        program, "run", "--config", str(file), "--adapter", "caddyfile",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
    )  # fmt: skip
    assert process.stderr is not None
    said: list[bytes] = []
    running = RunningCaddy(process, said)
    try:
        while said[-1:] == [] or _READY not in said[-1]:
            line = await process.stderr.readline()
            assert line, f"Caddy did not start: {b''.join(said).decode()}"
            said.append(line)
        drained = asyncio.create_task(_drain(process.stderr, said))
        try:
            yield running
        finally:
            await running.stop()
            await drained
    finally:
        await running.stop()


def _laid_out(text: str, folder: Path) -> Path:
    folder.mkdir()
    file = folder / "Caddyfile"
    file.write_text(text)
    return file


async def _drain(stream: asyncio.StreamReader, said: list[bytes]) -> None:
    said.extend([line async for line in stream])
