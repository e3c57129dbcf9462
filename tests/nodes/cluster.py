"""Several nodes, each with a cache folder and a line to Redis of its own, over one upstream."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
from yarl import URL

from proxy.sandbox import Media, Sandbox
from proxy.sandbox.targets import media_path
from tests.functional.configuring import client_table
from tests.functional.harness import Reply, environment
from tests.functional.supervised import Supervised, supervised
from tests.nodes.cable import Cable
from tests.redis_server import RedisServer

OPERATOR = ("operator", "p" * 40)
AUTHORIZED = {"Authorization": aiohttp.encode_basic_auth(*OPERATOR)}
CLIENTS = client_table(OPERATOR, "mint read delete purge revoke")
BOUND = 50.0
"""Seconds within which whatever is waited for has come, also on a busy machine."""
Reach = Mapping[str, object]


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it holds."""
    async with asyncio.timeout(BOUND):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


def reach_of(kind: str, media: Media) -> Reach:
    """Return the document of a purge or a revocation: of a `media`, its `message`, or `all`."""
    message = {"account_sid": str(media.ref.account), "message_sid": str(media.ref.message)}
    match kind:
        case "media":
            return {"media": [{**message, "media_sid": str(media.ref.media)}]}
        case "message":
            return {"message": message}
        case _:
            return {"all": True}


def fetches(sandbox: Sandbox, media: Media) -> int:
    """Return how often the upstream was asked for the bytes of a media."""
    return sum(record.method == "GET" and record.path == media_path(media.ref) for record in sandbox.requests)


async def until_fetched(sandbox: Sandbox, media: Media) -> None:
    """Wait until the upstream has been asked once."""

    async def is_fetched() -> bool:
        return fetches(sandbox, media) == 1

    await eventually(is_fetched)


def deletions(sandbox: Sandbox) -> int:
    """Return how often the upstream was asked to delete something."""
    return sum(record.method == "DELETE" for record in sandbox.requests)


@dataclass
class Line:
    """A kept connection to one worker."""

    session: aiohttp.ClientSession
    made: list[None] = field(default_factory=list)

    async def ask(self, url: str) -> Reply:
        async with self.session.get(URL(url, encoded=True)) as response:
            reply = Reply(response.status, response.headers, await response.read())
        assert len(self.made) == 1, "the connection to the worker was not kept"
        return reply


@dataclass
class Node:
    """A gateway with one worker or several, its folder, and its line to Redis."""

    gateway: Supervised
    folder: Path
    cable: Cable
    settings: Mapping[str, str]
    session: aiohttp.ClientSession
    lines: list[Line] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return self.gateway.origin

    def environment(self, sandbox: Sandbox) -> dict[str, str]:
        """Return the settings of a command on the same machine."""
        return environment(sandbox, self.folder / "cache", **self.settings)

    def link(self, media: Media) -> str:
        return self.origin + self.gateway.target(media)

    async def ask(self, method: str, url: str, **options: object) -> Reply:
        target = URL(url if "://" in url else self.origin + url, encoded=True)
        async with self.session.request(method, target, **options) as response:  # type: ignore[arg-type]
            return Reply(response.status, response.headers, await response.read())

    async def get(self, media: Media, **headers: str) -> Reply:
        """Return a signed link's answer."""
        return await self.ask("GET", self.link(media), headers=headers)

    async def whole(self, media: Media) -> Reply:
        """Return the answer of a signed link that has to be the whole media."""
        reply = await self.get(media)
        assert (reply.status, len(reply.body)) == (200, media.length), reply.body[:300]
        assert reply.body == media.read()
        return reply

    async def each_worker(self, media: Media) -> list[Reply]:
        """Return the answers of every worker to a signed link."""
        if not self.lines:
            await self._connect()
        return [await line.ask(self.link(media)) for line in self.lines]

    async def purge(self, reach: Reach) -> int:
        return await self._operate("/purge", reach)

    async def revoke(self, reach: Reach) -> int:
        return await self._operate("/revoke", reach)

    async def lift(self, reach: Reach) -> int:
        return await self._operate("/revoke", {**reach, "lift": True})

    async def mint(self, media: Media) -> int:
        """Call `POST /links`; return its status."""
        return await self._operate("/links", reach_of("media", media))

    async def minted_type(self, media: Media) -> str | None:
        """Return the content type that `POST /links` tells of a media."""
        reply = await self.ask("POST", "/links", json=reach_of("media", media), headers=AUTHORIZED)
        document: dict[str, list[dict[str, str | None]]] = json.loads(reply.body)
        return document["links"][0]["content_type"]

    async def delete(self, media: Media) -> int:
        """Call `DELETE` of the Media resource; return its status."""
        reply = await self.ask("DELETE", media_path(media.ref) + ".json", headers=AUTHORIZED)
        return reply.status

    async def _operate(self, path: str, document: object) -> int:
        return (await self.ask("POST", path, json=document, headers=AUTHORIZED)).status

    @property
    def processes(self) -> list[psutil.Process]:
        supervisor = self.gateway.supervisor
        return [supervisor, *supervisor.children()]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let nothing of it run meanwhile."""
        processes = self.processes
        _send(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _send(processes, signal.SIGCONT)

    async def kill(self) -> None:
        """End it at once, as with its machine."""
        _send(self.processes, signal.SIGKILL)
        await self.gateway.program.ended()

    async def stop(self) -> None:
        """Let it drain and end."""
        self.gateway.program.signal(signal.SIGTERM)
        assert await self.gateway.program.ended() == 0

    async def _connect(self) -> None:
        """Make a kept connection to each worker: it alone runs while the connection is made."""
        workers = [psutil.Process(pid) for pid in self.gateway.workers]
        for worker in workers:
            others = [other for other in workers if other != worker]
            made: list[None] = []
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_create_end.append(_counting(made))
            connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=3_600)
            session = aiohttp.ClientSession(connector=connector, auto_decompress=False, trace_configs=[tracing])
            self.lines.append(Line(session, made))
            _send(others, signal.SIGSTOP)
            try:
                await self.lines[-1].ask(self.origin + "/healthz")
            finally:
                _send(others, signal.SIGCONT)

    async def close(self) -> None:
        for line in self.lines:
            await line.session.close()


def _counting(made: list[None]) -> Callable[..., Awaitable[None]]:
    async def count(*_: object) -> None:
        made.append(None)

    return count


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


class Cluster:
    """Starts nodes over one upstream and one Redis; all of them end with the test."""

    def __init__(self, stack: AsyncExitStack, sandbox: Sandbox, redis: RedisServer, folder: Path) -> None:
        self.sandbox = sandbox
        self.redis = redis
        self.nodes: list[Node] = []
        self._stack = stack
        self._folder = folder
        self._numbers = itertools.count()

    async def start(self, workers: int = 1, *, folder: Path | None = None, url: str = "", **overrides: str) -> Node:
        """Return one node more; `folder` is that of one that has ended, `url` another one of Redis than by a cable."""
        node = await self._stack.enter_async_context(self._running(workers, folder, url, overrides))
        self.nodes.append(node)
        return node

    async def start_two(self, workers: int = 1) -> tuple[Node, Node]:
        """Return two nodes, the second one with so many workers."""
        return await asyncio.gather(self.start(), self.start(workers))

    async def start_three(self) -> tuple[Node, Node, Node]:
        """Return three nodes, the second one with two workers."""
        return await asyncio.gather(self.start(), self.start(workers=2), self.start())

    async def each_worker(self, media: Media) -> list[Reply]:
        """Return the answers of every worker of every node to a signed link, one after the other."""
        return [reply for node in self.nodes for reply in await node.each_worker(media)]

    async def statuses(self, media: Media) -> set[int]:
        return {reply.status for reply in await self.each_worker(media)}

    async def tags(self, media: Media) -> set[str]:
        """Return the entity-tags under which the workers serve a media, each of them whole."""
        replies = await self.each_worker(media)
        assert [(reply.status, reply.body == media.read()) for reply in replies] == [(200, True)] * len(replies)
        return {reply.headers["ETag"] for reply in replies}

    @asynccontextmanager
    async def _running(
        self, workers: int, folder: Path | None, url: str, overrides: Mapping[str, str]
    ) -> AsyncIterator[Node]:
        if folder is None:
            folder = self._folder / str(next(self._numbers))
            await asyncio.to_thread(_lay_out, folder)
        async with AsyncExitStack() as stack:
            cable = await stack.enter_async_context(Cable(self.redis.port).laid())
            settings = {
                "GATEWAY_SHARED_CACHE": url or f"redis://127.0.0.1:{cable.port}/0",
                # On a busy machine the cable, which this process is, may be late with an answer.
                "GATEWAY_LIMIT_SHARED_SECONDS": "10",
                **overrides,
            }
            gateway = await stack.enter_async_context(
                supervised(
                    self.sandbox, folder, workers=workers, arguments=("--config", str(folder / "gateway.toml")),
                    **settings,
                )
            )  # fmt: skip
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
            await stack.enter_async_context(session)
            node = Node(gateway, folder, cable, settings, session)
            stack.push_async_callback(node.close)
            yield node


def _lay_out(folder: Path) -> None:
    folder.mkdir(parents=True)
    config = folder / "gateway.toml"
    config.write_text(CLIENTS)
    config.chmod(0o600)
