"""`media-gateway` as a program of its own: started, read, signalled and always ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from tests.functional.preloaded import COMMAND, forked


class Process(Protocol):
    """A process that was started, by whomever."""

    @property
    def pid(self) -> int: ...

    def send_signal(self, number: int, /) -> None: ...

    async def wait(self) -> int: ...


@dataclass
class Program:
    """A running program; `lines` are what it has printed so far, both streams."""

    inner: Process
    output: asyncio.StreamReader
    lines: list[str] = field(default_factory=list)

    async def line(self, with_text: str) -> str:
        """Return the next line that holds this text."""
        async for raw in self.output:
            self.lines.append(raw.decode().rstrip("\n"))
            if with_text in self.lines[-1]:
                return self.lines[-1]
        raise AssertionError(f"it ended without {with_text!r}:\n" + "\n".join(self.lines))

    def signal(self, number: int) -> None:
        self.inner.send_signal(number)

    async def ended(self) -> int:
        """Return its exit code, with the rest of its output read."""
        async for raw in self.output:
            self.lines.append(raw.decode().rstrip("\n"))
        return await self.inner.wait()


@asynccontextmanager
async def started(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    command: Sequence[str] = COMMAND,
    pass_fds: Sequence[int] = (),
    with_output: bool = True,
) -> AsyncIterator[Program]:
    """Yield the program with that environment and, of this one's, PATH alone; killed at the end if it still runs.

    Its lines are of standard error, and `with_output` of standard output too. `media-gateway` itself is forked by a
    process that has imported it; any other command is executed.
    """
    base = {
        name: os.environ[name]
        for name in ("PATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
        if name in os.environ
    }
    if command == COMMAND and not pass_fds:
        async with forked(arguments, {**base, **environ}, with_output=with_output) as (gateway, output):
            yield Program(gateway, output)
        return
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if with_output else asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.STDOUT if with_output else asyncio.subprocess.PIPE,
        env={**base, **environ},
        pass_fds=pass_fds,
    )
    said = process.stdout if with_output else process.stderr
    assert said is not None
    try:
        yield Program(process, said)
    finally:
        if process.returncode is None:
            process.kill()
            await said.read()
            await process.wait()
        # The transport of an ended program is closed by the loop's next turns.
        process._transport.close()  # type: ignore[attr-defined]
