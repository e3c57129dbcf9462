"""The upstream of every server: a sandbox in a process of its own, and a slow line in front of it.

As a program it reads a line of JSON for each thing that is asked of it, and answers with one.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from proxy.model import MediaRef
from proxy.sandbox import Mode, Sandbox, SandboxOptions
from tests.benchmarks.machine import pinned
from tests.benchmarks.processes import end

_BLOCK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Media:
    """One media of the upstream's; `sha256` is that of its bytes, in hex."""

    ref: MediaRef
    length: int
    sha256: str


class Added(msgspec.Struct):
    """The media that were added, as `ACCOUNT/MESSAGE/MEDIA` and digest."""

    media: list[tuple[str, str]]


class Begun(msgspec.Struct):
    """The addresses of the sandbox; `slow_port` is that of the slow line to it."""

    port: int
    slow_port: int
    account_sid: str
    auth_token: str
    authorization: str


class Order(msgspec.Struct, omit_defaults=True):
    """Add `count` media of `size` bytes, or say how often the media `sid` was fetched.

    With `line`, open one more slow line that carries so many bytes a second, and say its port.
    """

    sid: str = ""
    line: int = 0
    size: int = 0
    count: int = 0


class Upstream:
    """The sandbox's process, as the benchmark talks with it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.begun = msgspec.json.decode(self._read(), type=Begun)

    def add(self, size: int, count: int) -> Sequence[Media]:
        """Add that many new media of that many bytes, no two alike."""
        self._write(Order(size=size, count=count))
        added = msgspec.json.decode(self._read(), type=Added)
        return [Media(MediaRef.parse(*name.split("/")), size, digest) for name, digest in added.media]

    def fetches(self, media: Media) -> int:
        """Return how often its bytes were asked for."""
        self._write(Order(sid=media.ref.media.value))
        return msgspec.json.decode(self._read(), type=int)

    def line(self, bytes_a_second: int) -> int:
        """Return the port of a new line to the sandbox that carries so many bytes a second on each connection."""
        self._write(Order(line=bytes_a_second))
        return msgspec.json.decode(self._read(), type=int)

    def _write(self, order: Order) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def upstream(slow_bytes: int) -> Iterator[Upstream]:
    """Start it on the load's core; its slow line carries that many bytes a second on each connection."""
    with pinned(1):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.origin", str(slow_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    with process:
        try:
            yield Upstream(process)
        finally:
            end(process)


async def _slow_line(port: int, bytes_a_second: int) -> asyncio.Server:
    """Return a server whose connections lead to `port`; what comes back takes its time."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, pace: float) -> None:
        with suppress(ConnectionError):
            while block := await source.read(_BLOCK):
                sink.write(block)
                await sink.drain()
                await asyncio.sleep(len(block) * pace)
        sink.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, far_writer, 0.0), pump(far_reader, writer, 1 / bytes_a_second))

    return await asyncio.start_server(carry, "127.0.0.1", 0)


async def _serve(slow_bytes: int) -> None:
    chance = random.Random(5)
    # The bytes come from the API itself: a cache that follows no redirect can stand in front of it as well.
    async with Sandbox(SandboxOptions(seed=False, mode=Mode.DIRECT)) as sandbox:
        port = int(sandbox.api_url.rpartition(":")[2])
        lines = [await _slow_line(port, slow_bytes)]
        begun = Begun(port, _port(lines[0]), sandbox.account_sid, sandbox.auth_token, sandbox.authorization)
        _say(begun)
        while octets := await asyncio.to_thread(sys.stdin.readline):
            order = msgspec.json.decode(octets, type=Order)
            if order.count:
                _say(Added([await _add(sandbox, chance.randbytes(order.size)) for _ in range(order.count)]))
            elif order.line:
                lines.append(await _slow_line(port, order.line))
                _say(_port(lines[-1]))
            else:
                _say(sum(record.path.endswith(order.sid) for record in sandbox.requests))


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _add(sandbox: Sandbox, octets: bytes) -> tuple[str, str]:
    (media,) = (await sandbox.add_message([("image/jpeg", octets)])).media
    return str(media.ref), media.sha256


def _say(answer: msgspec.Struct | int) -> None:
    sys.stdout.write(json.dumps(msgspec.to_builtins(answer)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
