"""Pools of connections to a Redis: at an address of its own, or at the one that its sentinels say."""

from __future__ import annotations

import asyncio
from typing import TypedDict

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxy.settings import SentinelService, SharedServer

Address = tuple[str, int]


class _Common(TypedDict):
    """Options of each connection."""

    socket_timeout: None
    socket_connect_timeout: None
    retry: Retry
    protocol: int
    decode_responses: bool
    driver_info: None


def _common() -> _Common:
    return _Common(
        # With a time of its own redis-py loses a cancellation that comes as it has sent a command (Python 3.11).
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=False,
        # It would be looked up on disk for each connection.
        driver_info=None,
    )


def make_pool(server: SharedServer, connections: int) -> ConnectionPool:
    """Return a pool of at most so many connections, which tries nothing twice.

    How long a connection and an answer are waited for is the caller's to say. A pool at an address makes callers wait
    for a connection, where redis-py's own refuses them.
    """
    if isinstance(server, SentinelService):
        return _SentinelPool(server, connections)
    return BlockingConnectionPool.from_url(server, max_connections=connections, timeout=None, **_common())


class _Sentinels(Sentinel):
    """The sentinels of a service, which are asked all at once: one that hangs keeps none waiting for the others."""

    async def discover_master(self, service_name: str) -> Address:
        """Return the address of the service's master, as the first sentinel says that knows of one.

        Raises `MasterNotFoundError`, after the error of a sentinel that could not be asked, where there is one.
        """
        asked = [asyncio.create_task(self._ask(sentinel, service_name)) for sentinel in self.sentinels]
        trouble: BaseException | None = None
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    address = await answer
                except (RedisError, OSError) as error:
                    trouble = error
                else:
                    if address is not None:
                        return address
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise MasterNotFoundError(f"no sentinel knows a master of {service_name}") from trouble

    async def _ask(self, sentinel: Redis, service_name: str) -> Address | None:
        masters: object = await sentinel.sentinel_masters()
        state = masters.get(service_name) if isinstance(masters, dict) else None
        if not isinstance(state, dict) or not self.check_master_state(state, service_name):
            return None
        match state:
            case {"ip": str(host), "port": int(port)}:
                return host, port
            case _:
                return None


class _SentinelPool(SentinelConnectionPool):
    """The connections to a service's master, and those to its sentinels, which end together."""

    def __init__(self, service: SentinelService, connections: int) -> None:
        tls = {} if service.tls is None else {"ssl": True, **dict(service.tls)}
        secret = service.sentinel_password
        self._sentinels = _Sentinels(  # type: ignore[no-untyped-call]
            service.sentinels,
            sentinel_kwargs={
                **_common(), **tls, "password": None if secret is None else secret.get_secret_value(),
            },
        )  # fmt: skip
        super().__init__(  # type: ignore[no-untyped-call]
            service.service,
            self._sentinels,
            max_connections=connections,
            db=service.db,
            username=service.username,
            password=None if service.password is None else service.password.get_secret_value(),
            **tls,
            **_common(),
        )

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - as redis-py calls it
        """Close the connections; those to the sentinels too, if it is for good."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self._sentinels.aclose()
