"""A gateway that is killed in the middle of everything leaves nothing behind that is served wrong."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import psutil
import pytest
from yarl import URL

from proxy.links import LinkMinter
from proxy.sandbox import Media, Sandbox, SandboxOptions
from tests.functional.harness import KEY, environment

FILLS = 200
SIZES = (900, 60_000, 400_000, 1_500_000)


@asynccontextmanager
async def gateway_process(sandbox: Sandbox, folder: Path, socket: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Yield a gateway in a process of its own, on a unix socket; killed at the end if it still runs."""
    environ = environment(
        sandbox, folder, GATEWAY_LISTEN=f"unix:{socket}", GATEWAY_PUBLIC_URL="http://gateway", GATEWAY_LOG_LEVEL="error"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", env={**os.environ, **environ}, stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_unix_connection(socket)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def fetch(session: aiohttp.ClientSession, link: str) -> bytes | None:
    """Return a whole body; None if the connection broke."""
    try:
        async with session.get(URL(link, encoded=True)) as response:
            assert response.status == 200, response.status
            return await response.read()
    except aiohttp.ClientError:
        return None


@pytest.mark.timeout(400)
@pytest.mark.parametrize("after", [1, 40, 120, 199])
async def test_kill_9_within_200_fills_leaves_no_wrong_byte(tmp_path: Path, after: int) -> None:
    """`after`: how many of the fills have come whole when the process dies."""
    chance = random.Random(after)
    async with Sandbox(SandboxOptions(seed=False)) as sandbox:
        media: list[Media] = [
            (await sandbox.add_message([("video/mp4", chance.randbytes(chance.choice(SIZES)))])).media[0]
            for _ in range(FILLS)
        ]
        minter = LinkMinter("http://gateway", KEY)
        links = {item.sid: minter.url(item.ref, ttl=3600) for item in media}
        folder, socket = tmp_path / "cache", tmp_path / "gateway.sock"
        connector = aiohttp.UnixConnector(str(socket), limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            gateway_process(sandbox, folder, socket) as process,
        ):
            under_way = [asyncio.ensure_future(fetch(session, links[item.sid])) for item in media]
            for _, done in zip(range(after), asyncio.as_completed(under_way), strict=False):
                await done
            workers = psutil.Process(process.pid).children()
            process.send_signal(signal.SIGKILL)
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
            whole = await asyncio.gather(*under_way)
        for item, body in zip(media, whole, strict=True):
            assert body is None or hashlib.sha256(body).hexdigest() == item.sha256
        await asyncio.to_thread(age, folder)
        connector = aiohttp.UnixConnector(str(socket), limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            gateway_process(sandbox, folder, socket) as process,
        ):
            for item in media:
                body = await fetch(session, links[item.sid])
                assert body is not None
                assert hashlib.sha256(body).hexdigest() == item.sha256
            process.terminate()
            assert await process.wait() == 0
        await asyncio.to_thread(assert_tidy, folder)


def age(folder: Path) -> None:
    """Let the files of the killed process seem so old that they are nobody's."""
    for path in (*(folder / "incoming").iterdir(), *(folder / "bodies").rglob("*")):
        os.utime(path, (1, 1))


def assert_tidy(folder: Path) -> None:
    """Check that every file is a stored response's, of its length; no fill of the killed process is left."""
    assert list((folder / "incoming").iterdir()) == []
    (database,) = folder.glob("index-*.sqlite3")
    with sqlite3.connect(database) as index:
        rows = dict(index.execute("SELECT generation, length FROM response"))
        total = index.execute("SELECT bytes, entries FROM total").fetchone()
    index.close()
    files = {path.name: path.stat().st_size for path in (folder / "bodies").rglob("*") if path.is_file()}
    assert rows == files
    assert total == (sum(rows.values()), len(rows))
