"""`media-gateway serve` with its workers, as processes that can be counted, killed and scraped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from proxy.links import LinkMinter
from proxy.sandbox import Media, Sandbox
from tests.functional.harness import KEY, environment
from tests.functional.programs import Program
from tests.functional.scraping import Scrape, scrape
from tests.functional.serving import clean_environment


@dataclass
class Supervised:
    """A program with workers, and where it listens."""

    program: Program
    origin: str
    metrics: Path

    @property
    def supervisor(self) -> psutil.Process:
        return psutil.Process(self.program.inner.pid)

    @property
    def workers(self) -> list[int]:
        """Their process ids, in the order of their coming."""
        return [child.pid for child in sorted(self.supervisor.children(), key=lambda child: child.create_time())]

    async def scrape(self) -> Scrape:
        return await scrape(self.metrics)

    async def scraped(self, holds: Callable[[Scrape], bool]) -> Scrape:
        """The first scrape of which that holds."""
        found = await self.scrape()
        while not holds(found):
            found = await self.scrape()
        return found

    def target(self, media: Media) -> str:
        """A link's path and query."""
        return LinkMinter(self.origin, KEY).url(media.ref, ttl=3_600).removeprefix(self.origin)


Launch = Callable[[Sequence[str], Mapping[str, str]], AbstractAsyncContextManager[Program]]
"""Starts `media-gateway` with arguments and an environment; the program's lines are of its standard error."""


@asynccontextmanager
async def executed(
    command: Sequence[str], arguments: Sequence[str], environ: Mapping[str, str]
) -> AsyncIterator[Program]:
    """A program that is executed; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *command, *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env=environ,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        yield Program(process, process.stderr)
    finally:
        if process.returncode is None:
            process.kill()
            await process.stderr.read()
            await process.wait()
        # The transport of an ended program is closed by the loop's next turns.
        process._transport.close()  # type: ignore[attr-defined]


@asynccontextmanager
async def supervised_by(
    launch: Launch, sandbox: Sandbox, folder: Path, workers: int, arguments: Sequence[str], overrides: Mapping[str, str]
) -> AsyncIterator[Supervised]:
    """`serve --workers`, which serves; killed at the end if it still runs. Its access log is not kept."""
    metrics = folder / "metrics.sock"
    environ = environment(sandbox, folder / "cache", GATEWAY_METRICS_LISTEN=f"unix:{metrics}", **overrides)
    async with launch(
        ("serve", "--workers", str(workers), *arguments),
        clean_environment({name: value for name, value in environ.items() if value}),
    ) as program:
        line = await program.line("listening at ")
        yield Supervised(program, line.partition("listening at ")[2].partition(",")[0], metrics)


def supervised(
    sandbox: Sandbox,
    folder: Path,
    *,
    workers: int = 2,
    arguments: Sequence[str] = (),
    command: Sequence[str] = (sys.executable, "-m", "proxy"),
    **overrides: str,
) -> AbstractAsyncContextManager[Supervised]:
    """The same of a program that is executed."""
    return supervised_by(partial(executed, command), sandbox, folder, workers, arguments, overrides)
