"""A Redis master with a replica, and three real sentinels that replace it, each a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NoConnection

from tests.ports import free_port
from tests.redis_server import Certificate, RedisServer, redis_running

SERVICE = "media"


@dataclass
class Watched:
    """Running servers: `servers` are a master and its replica as they were at the beginning."""

    servers: tuple[RedisServer, RedisServer]
    sentinels: Sequence[RedisServer]
    credentials: str
    scheme: str
    options: str

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"{self.scheme}://{self.credentials}{hosts}/{SERVICE}{self.options}"

    @property
    def master(self) -> RedisServer:
        return self.servers[0]

    @property
    def replica(self) -> RedisServer:
        return self.servers[1]

    async def failed_over(self) -> None:
        """Wait until the replica is a master that takes writes."""
        while True:
            # The sentinels cut every client of a server off that changes its part.
            with suppress(NoConnection):
                said = await self.replica.command("INFO", "replication")
                if isinstance(said, dict) and said["role"] == "master":
                    return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def watched(
    program: str,
    folder: Path,
    *,
    certificate: Certificate | None = None,
    password: str | None = None,
    sentinel_password: str | None = None,
) -> AsyncIterator[Watched]:
    """Yield a master, a replica that has all of it, and three sentinels that know both."""
    tls = certificate is not None
    async with AsyncExitStack() as stack:

        async def server(name: str, *options: str) -> RedisServer:
            secured = ("--requirepass", password, "--masterauth", password) if password else ()
            replication = ("--repl-diskless-sync-delay", "0", *(("--tls-replication", "yes") if tls else ()))
            return await stack.enter_async_context(
                redis_running(
                    program, folder / name, certificate=certificate, options=(*secured, *replication, *options)
                )
            )

        master = await server("master")
        replica = await server("replica", "--replicaof", "127.0.0.1", str(master.port))
        for one in (master, replica):
            one.password = password
        await _until_synchronised(replica)
        sentinels = [
            await stack.enter_async_context(
                _sentinel(program, folder / f"sentinel-{number}", master.port, certificate, password, sentinel_password)
            )
            for number in range(3)
        ]
        found = Watched(
            (master, replica),
            sentinels,
            f":{password}@" if password else "",
            "rediss+sentinel" if tls else "redis+sentinel",
            f"?ssl_ca_certs={certificate.authority}" if certificate else "",
        )
        await _until_all_know(found, sentinel_password)
        yield found


@asynccontextmanager
async def _sentinel(
    program: str,
    folder: Path,
    master: int,
    certificate: Certificate | None,
    password: str | None,
    own_password: str | None,
) -> AsyncIterator[RedisServer]:
    port = free_port()
    await asyncio.to_thread(folder.mkdir, parents=True)
    listening = (
        [f"port {port}"]
        if certificate is None
        else [
            "port 0", f"tls-port {port}", "tls-replication yes", "tls-auth-clients no",
            f"tls-cert-file {certificate.certificate}", f"tls-key-file {certificate.key}",
            f"tls-ca-cert-file {certificate.authority}",
        ]
    )  # fmt: skip
    lines = [
        "bind 127.0.0.1", *listening, f"dir {folder}", f"unixsocket {folder / 'redis.sock'}",
        f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2",
        f"sentinel down-after-milliseconds {SERVICE} 1000",
        f"sentinel failover-timeout {SERVICE} 5000",
        *([f"sentinel auth-pass {SERVICE} {password}"] if password else []),
        *([f"requirepass {own_password}", f"sentinel sentinel-pass {own_password}"] if own_password else []),
    ]  # fmt: skip
    config = folder / "sentinel.conf"
    await asyncio.to_thread(config.write_text, "\n".join(lines) + "\n")
    server = RedisServer(program, folder, port, (str(config), "--sentinel"), certificate, ready=b"+monitor")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def _until_synchronised(replica: RedisServer) -> None:
    while True:
        said = await replica.command("INFO", "replication")
        if isinstance(said, dict) and said["master_link_status"] == "up":
            return
        await asyncio.sleep(0.05)


async def _until_all_know(watched: Watched, password: str | None) -> None:
    """Wait until every sentinel knows the replica and both others: before that nothing is failed over."""
    for sentinel in watched.sentinels:
        client = Redis(unix_socket_path=str(sentinel.socket_path), password=password, decode_responses=True)
        try:
            while True:
                masters = await client.sentinel_masters()
                assert isinstance(masters, dict)
                state = masters[SERVICE]
                if state["num-slaves"] == 1 and state["num-other-sentinels"] == 2:
                    break
                await asyncio.sleep(0.05)
        finally:
            await client.aclose()
