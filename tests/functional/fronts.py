"""A server in front of a gateway as a program of the system's: started, read and always ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Front:
    """A program that serves; `said` is what it has written to standard error."""

    process: asyncio.subprocess.Process
    said: list[bytes]

    @property
    def log(self) -> str:
        """The output so far; all of it once the program has been stopped."""
        return b"".join(self.said).decode()

    async def stop(self) -> None:
        """End it, all logs written."""
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()


@asynccontextmanager
async def front(ready: bytes, *command: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Front]:
    """Yield a program that says `ready` once it listens; it does when this yields, and has ended when the scope has."""
    process = await asyncio.create_subprocess_exec(
        *command, env=env,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    running = Front(process, [])
    try:
        while running.said[-1:] == [] or ready not in running.said[-1]:
            line = await process.stderr.readline()
            assert line, f"{command[0]} did not start: {running.log}"
            running.said.append(line)
        drained = asyncio.create_task(_drain(process.stderr, running.said))
        try:
            yield running
        finally:
            await running.stop()
            await drained
    finally:
        await running.stop()


async def _drain(stream: asyncio.StreamReader, said: list[bytes]) -> None:
    said.extend([line async for line in stream])
