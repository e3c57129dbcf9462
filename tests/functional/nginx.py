"""A real nginx on a free port, from the site file that is shipped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.functional.fronts import Front, front

# nginx writes this once its sockets are bound and listening.
_READY = b"start worker processes"

_MAIN = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    default_type application/octet-stream;
    access_log {folder}/http.access.log;
    client_body_temp_path {folder}/body;
    # The folders of a level stay when their file is gone.
    proxy_temp_path {folder}/proxy 1 2;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {site};
}}
"""


def substituted(text: str, changes: Mapping[str, str]) -> str:
    """Return the text with each of these pieces replaced; every one has to be there."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the file"
        text = text.replace(old, new)
    return text


def taken_in(text: str, first_line: str) -> str:
    """Take in one commented block of the text: from the line `# first_line` to the end of its comment or block."""
    lines = text.split("\n")
    (start,) = (number for number, line in enumerate(lines) if line.strip() == f"# {first_line}")
    margin = lines[start][: lines[start].index("#")]
    depth = 0
    for number in range(start, len(lines)):
        if not lines[number].startswith(f"{margin}# "):
            break
        bare = lines[number].removeprefix(f"{margin}# ")
        lines[number] = margin + bare
        depth += bare.count("{") - bare.count("}")
        if "}" in bare and depth == 0:
            break
    return "\n".join(lines)


@dataclass(frozen=True)
class RunningNginx:
    """An nginx that serves; `folder` holds its logs."""

    folder: Path
    front: Front

    def access_log(self) -> str:
        return (self.folder / "media-gateway.access.log").read_text()

    def all_logs(self) -> str:
        """Return everything it has written, whichever log it went to."""
        files = [path.read_text() for path in sorted(self.folder.glob("*.log"))]
        return "\n".join([*files, self.front.log])

    def buffered_on_disk(self) -> bool:
        """Return whether an answer of the upstream's has ever been put in a temporary file."""
        return any((self.folder / "proxy").iterdir())

    async def stop(self) -> None:
        """End it, all logs written."""
        await self.front.stop()


@asynccontextmanager
async def nginx(program: str, site: str, folder: Path) -> AsyncIterator[RunningNginx]:
    """Yield an nginx over one site file; it listens when this yields, and has ended when the scope has."""
    main_file = await asyncio.to_thread(_laid_out, site, folder)
    command = (program, "-p", str(folder), "-c", str(main_file), "-e", "stderr")
    async with front(_READY, *command) as running:
        yield RunningNginx(folder, running)


def _laid_out(site: str, folder: Path) -> Path:
    """Return a folder for one nginx, with its main file, whose path this gives."""
    folder.mkdir()
    site_file, main_file = folder / "site.conf", folder / "nginx.conf"
    site_file.write_text(site)
    # Workers of a root's nginx become another user, who cannot reach the test's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    main_file.write_text(_MAIN.format(user=user, folder=folder, site=site_file))
    return main_file
