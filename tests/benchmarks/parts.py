"""The parts of a benchmark as processes of their own: an upstream, a gateway, and what the machine says of them.

Where there are two cores, the gateway has the first to itself; the upstream and the load share the second.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from proxy.links import LinkMinter
from proxy.model import MediaRef

KEY = f"bench:{'b' * 40}"
_ORIGIN = """
import asyncio, json, random, sys
from proxy.sandbox import Sandbox, SandboxOptions
async def main():
    async with Sandbox(SandboxOptions(seed=False)) as sandbox:
        def add(size):
            return sandbox.add_message([("video/mp4", random.Random(size).randbytes(size))]).media[0]
        print(json.dumps([sandbox.api_url, sandbox.cdn_host, sandbox.account_sid, sandbox.auth_token]), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            asked = json.loads(line)
            if "add" in asked:
                print(json.dumps(str(add(asked["add"]).ref)), flush=True)
            else:
                fetched = [r for r in sandbox.requests if r.origin == "cdn"]
                print(json.dumps(len(fetched)), flush=True)
asyncio.run(main())
"""


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep what this process does and starts meanwhile on one core, where the system can and there are two."""
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class Upstream:
    """A sandbox in a process of its own."""

    process: asyncio.subprocess.Process
    api_url: str
    cdn_host: str
    account_sid: str
    auth_token: str

    async def _ask(self, question: dict[str, int]) -> str | int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        answer: str | int = json.loads(await self.process.stdout.readline())
        return answer

    async def add(self, size: int) -> MediaRef:
        """A new media of that many random bytes."""
        return MediaRef.parse(*str(await self._ask({"add": size})).split("/"))

    def url(self, ref: MediaRef) -> str:
        """Where a media lies for who has the account's credentials."""
        return f"{self.api_url}/2010-04-01/Accounts/{ref.account}/Messages/{ref.message}/Media/{ref.media}"

    async def fetches(self) -> int:
        """How often bytes were fetched."""
        return int(await self._ask({"fetches": 1}))


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """Start a sandbox; it ends with the scope."""
    with pinned(1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ORIGIN, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
    assert process.stdout is not None
    try:
        yield Upstream(process, *json.loads(await process.stdout.readline()))
    finally:
        process.terminate()
        await process.wait()


@dataclass
class Served:
    """A gateway in a process of its own."""

    process: psutil.Process
    host: str
    port: int
    minter: LinkMinter

    def target(self, ref: MediaRef) -> str:
        """The request target of a link to a media, good for an hour."""
        return self.minter.url(ref, ttl=3600).removeprefix(self.minter.origin)

    def resident(self) -> int:
        """Bytes of memory that are the process's own."""
        memory: int = self.process.memory_full_info().uss
        return memory


@asynccontextmanager
async def gateway(source: Upstream, port: int, **settings: str) -> AsyncIterator[Served]:
    """Start a gateway over that upstream on a port; it ends with the scope."""
    with tempfile.TemporaryDirectory(prefix="media-gateway-bench-") as folder:
        environ = {
            **os.environ,
            "TWILIO_ACCOUNT_SID": source.account_sid,
            "TWILIO_AUTH_TOKEN": source.auth_token,
            "GATEWAY_UPSTREAM_URL": source.api_url,
            "GATEWAY_REDIRECT_HOSTS": source.cdn_host,
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_SIGNING_KEYS": KEY,
            "GATEWAY_CACHE_DIR": folder,
            "GATEWAY_DRAIN_SECONDS": "1",
            **settings,
        }
        with Path(folder, "log").open("wb") as log, pinned(0):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy", "serve", env=environ, stdout=log, stderr=log
            )
        try:
            await _reachable(port)
            yield Served(psutil.Process(process.pid), "127.0.0.1", port, LinkMinter(f"http://127.0.0.1:{port}", KEY))
        finally:
            process.terminate()
            await process.wait()


async def _reachable(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tcp_memory() -> int:
    """Bytes that the kernel holds in TCP buffers, of all connections of the machine."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their titles, each column as wide as it has to be."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))
