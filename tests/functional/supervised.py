"""`media-gateway serve` with its workers, as processes that can be counted, killed and scraped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from proxy.links import LinkMinter
from proxy.sandbox import Media, Sandbox
from tests.functional.harness import KEY, environment
from tests.functional.preloaded import COMMAND
from tests.functional.programs import Program, started
from tests.functional.scraping import Scrape, scrape
from tests.functional.serving import clean_environment


@dataclass
class Supervised:
    """A program with workers, and the address at which it listens."""

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
        """Return the first scrape of which that holds."""
        found = await self.scrape()
        while not holds(found):
            found = await self.scrape()
        return found

    def target(self, media: Media) -> str:
        """Return a link's path and query."""
        return LinkMinter(self.origin, KEY).url(media.ref, ttl=3_600).removeprefix(self.origin)


@asynccontextmanager
async def supervised(
    sandbox: Sandbox,
    folder: Path,
    *,
    workers: int = 2,
    arguments: Sequence[str] = (),
    command: Sequence[str] = COMMAND,
    **overrides: str,
) -> AsyncIterator[Supervised]:
    """Run `serve --workers`, which serves; it is killed at the end if it still runs. Its access log is not kept."""
    metrics = folder / "metrics.sock"
    environ = environment(sandbox, folder / "cache", GATEWAY_METRICS_LISTEN=f"unix:{metrics}", **overrides)
    async with started(
        ("serve", "--workers", str(workers), *arguments),
        clean_environment({name: value for name, value in environ.items() if value}),
        command=command,
        with_output=False,
    ) as program:
        line = await program.line("listening at ")
        yield Supervised(program, line.partition("listening at ")[2].partition(",")[0], metrics)
