"""Clients that ask without a pause, note whatever is not as it should be, and try nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from yarl import URL

from tests.functional.harness import bare


@dataclass
class Load:
    """The outcome of a load so far."""

    answered: int = 0
    faults: list[str] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, fault: str | None) -> None:
        if fault is None:
            self.answered += 1
        else:
            self.faults.append(fault)
        self._more.set()

    async def goes_on(self, answers: int) -> None:
        """Wait for so many good answers more."""
        enough = self.answered + answers
        while self.answered < enough:
            self._more.clear()
            await self._more.wait()


class _Client:
    """One client with one connection at a time, kept as long as the server says that it keeps it."""

    def __init__(self, origin: URL) -> None:
        self._origin = origin
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, url: str, body: bytes | None) -> str | None:
        """Return what is wrong with the answer."""
        try:
            if self._connection is None:
                self._connection = await asyncio.open_connection(self._origin.host, self._origin.port)
            reader, writer = self._connection
            writer.write(f"GET {url} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
            head = bare(await reader.readuntil(b"\r\n\r\n"))
            came = await reader.readexactly(int(head.headers["Content-Length"]))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            return repr(error)
        if head.headers.get("Connection", "").lower() == "close":
            self.close()
        if head.status != 200:
            return f"{head.status} {came[:300]!r}"
        return None if body is None or came == body else f"{len(came)} wrong bytes"

    def close(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None


@asynccontextmanager
async def loaded(origin: str, expected: Mapping[str, bytes | None], *, clients: int = 8) -> AsyncIterator[Load]:
    """Ask for these targets in turn; each is to be answered 200, with that body if one is given."""
    load = Load()

    async def ask_on() -> None:
        client = _Client(URL(origin))
        try:
            while True:
                for target, body in expected.items():
                    load.note(await client.ask(target, body))
        finally:
            client.close()

    tasks = [asyncio.create_task(ask_on()) for _ in range(clients)]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
