"""A real Caddy on a free port, from the Caddyfile that is shipped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.functional.fronts import Front, front
from tests.functional.nginx import substituted

# Caddy writes this once its sockets listen.
_READY = b"serving initial configuration"


def rendered(text: str, port: int, gateway: str, root: Path) -> str:
    """Return the Caddyfile at a port of this machine's, without TLS, before a gateway, over these files."""
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
async def caddy(program: str, text: str, folder: Path) -> AsyncIterator[Front]:
    """Yield a Caddy over one Caddyfile; it listens when this yields, and has ended when the scope has."""
    file = await asyncio.to_thread(_laid_out, text, folder)
    homes = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = (program, "run", "--config", str(file), "--adapter", "caddyfile")
    async with front(_READY, *command, env={**os.environ, **homes}) as running:
        yield running


def _laid_out(text: str, folder: Path) -> Path:
    folder.mkdir()
    file = folder / "Caddyfile"
    file.write_text(text)
    return file
