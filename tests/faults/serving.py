"""Gateways over a faulty origin: in this process, and in processes of their own that can be killed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from proxy.processes.service import serving_alone
from proxy.settings import load
from tests.faults.origin import ACCOUNT, TOKEN, FaultyOrigin
from tests.functional.configuring import client_table
from tests.functional.harness import KEY, RunningGateway

OPERATOR = ("operator", "p" * 40)
_CLIENTS = client_table(OPERATOR, "purge revoke")


def environment(origin: FaultyOrigin, folder: Path, **overrides: str) -> dict[str, str]:
    """Return the settings that a gateway over this origin is started with.

    A body that stalls is waited for; a head that stalls only by a test that sets its limit, since on a busy machine a
    sound one takes its time.
    """
    return {
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "GATEWAY_UPSTREAM_URL": origin.url,
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_SIGNING_KEYS": KEY,
        "GATEWAY_CACHE_DIR": str(folder),
        "GATEWAY_MAX_MEDIA_BYTES": "2MB",
        "GATEWAY_LIMIT_IDLE_SECONDS": "2",
        "GATEWAY_LIMIT_HEADERS_SECONDS": "20",
        "GATEWAY_DRAIN_SECONDS": "1",
        **overrides,
    }


@asynccontextmanager
async def gateway_over(origin: FaultyOrigin, folder: Path, **overrides: str) -> AsyncIterator[RunningGateway]:
    """Yield a gateway in this process, with a client that may purge and revoke."""
    config = folder.parent / "gateway.toml"

    def prepare() -> None:
        config.write_text(_CLIENTS)
        config.chmod(0o600)

    await asyncio.to_thread(prepare)
    settings = await asyncio.to_thread(load, environment(origin, folder, **overrides), config)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        serving_alone(settings) as bound,
        aiohttp.ClientSession(auto_decompress=False, connector=connector) as session,
    ):
        yield RunningGateway(bound, session)


async def purge(gateway: RunningGateway, document: object) -> int:
    """Call `POST /purge`; return its status."""
    return await _operate(gateway, "/purge", document)


async def revoke(gateway: RunningGateway, document: object) -> int:
    """Call `POST /revoke`; return its status."""
    return await _operate(gateway, "/revoke", document)


async def _operate(gateway: RunningGateway, path: str, document: object) -> int:
    credentials = {"Authorization": aiohttp.encode_basic_auth(*OPERATOR)}
    return (await gateway.ask("POST", path, json=document, headers=credentials)).status


async def until_stored(folder: Path, count: int) -> None:
    """Wait for that many rows in the index of a folder: what a reader has whole is stored a moment later."""

    def rows() -> int:
        (database,) = folder.glob("index-*.sqlite3")
        with closing(sqlite3.connect(database)) as index:
            (found,) = index.execute("SELECT count(*) FROM response").fetchone()
        return int(found)

    while await asyncio.to_thread(rows) != count:
        pass


@dataclass
class Joins:
    """A count of the readers of fills, so that a test knows when all of them are there."""

    count: int = 0
    _waiting: list[tuple[int, asyncio.Event]] = field(default_factory=list)

    def add(self) -> None:
        """Count one more."""
        self.count += 1
        for count, reached in self._waiting:
            if self.count >= count:
                reached.set()

    async def reach(self, count: int) -> None:
        """Wait for that many in all."""
        reached = asyncio.Event()
        self._waiting.append((count, reached))
        if self.count < count:
            await reached.wait()
