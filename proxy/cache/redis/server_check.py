"""A check of the server of the shared tier: if it can be used, and if not, why, in words for a person."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from proxy.cache.redis.keys import check_name
from proxy.cache.redis.pools import make_pool
from proxy.errors import StoreError
from proxy.settings import SentinelService, SharedServer

_SECONDS: Final = 5.0
_KEPT_MILLISECONDS: Final = 1_000
_CODE: Final = re.compile(r"[A-Z]{2,20}(?= )")


CLUSTER: Final = "it is a node of a Redis cluster, which is not supported: name one server, or one with sentinels"


async def is_cluster(redis: Redis) -> bool:
    """Return whether this Redis is a node of a cluster, where the keys of one script may lie on several nodes."""
    said: object = await redis.info("cluster")
    return isinstance(said, dict) and said.get("cluster_enabled") == 1


async def check_server(server: SharedServer, *, seconds: float = 0.0) -> None:
    """Write an entry of a second's life, read it, and erase it. All of it may take `seconds`, and five in any case.

    Raises `StoreError`; its `note` says why that failed, and repeats neither the URL nor what the server said, which
    may quote a password.
    """
    pool = make_pool(server, 1)
    name, value = check_name(secrets.token_hex(8)), secrets.token_bytes(8)
    try:
        async with asyncio.timeout(max(_SECONDS, seconds)), Redis(connection_pool=pool) as redis:
            if await is_cluster(redis):
                raise StoreError(note=CLUSTER)
            await redis.set(name, value, px=_KEPT_MILLISECONDS)
            if await redis.get(name) not in {value, None}:
                raise StoreError(note="gives back something else than what was written")
            await redis.delete(name)
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreError(note=_reason(error, tls=_speaks_tls(server))) from None
    finally:
        await pool.disconnect()


def _speaks_tls(server: SharedServer) -> bool:
    return server.tls is not None if isinstance(server, SentinelService) else server.startswith("rediss")


_REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ssl.SSLError, "TLS failed; does it speak TLS (rediss://), and which versions?"),
    (socket.gaierror, "its name cannot be resolved"),
    (ConnectionRefusedError, "the connection is refused; does it listen there?"),
    (FileNotFoundError, "there is no such socket, or no such file of a certificate"),
    (NoPermissionError, "its user may not do what the gateway needs; see the ACL in deploy/README.md"),
    (AuthenticationError, "it refuses the user or the password"),
    (AuthorizationError, "it refuses the user or the password"),
    (BusyLoadingError, "it is loading its data; try again in a while"),
    (ReadOnlyError, "it is a replica that takes no writes"),
    (MasterNotFoundError, "its sentinels know no master of that name, or none that is up"),
    (InvalidResponse, "what answers is not a Redis"),
)
"""The meaning of each kind of error. The first that fits counts: some are kinds of others that stand below."""


def _reason(error: BaseException, *, tls: bool) -> str:
    """Return why Redis cannot be used, from the kind of the error and of those that led to it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message}"
        for kind, reason in _REASONS:
            if isinstance(cause, kind):
                return reason
        if isinstance(cause, ResponseError):
            code = _CODE.match(str(cause))
            return f"it refuses a call ({type(cause).__name__ if code is None else code[0]})"
    return _broken(error, tls=tls)


def _broken(error: BaseException, *, tls: bool) -> str:
    match error:
        case TimeoutError() | NoAnswer():
            # A server without TLS waits for the end of what it takes for a line.
            return "it does not answer in time" + ("; does it speak TLS (rediss://)?" if tls else "")
        case NoConnection():
            return "the connection ended before an answer" + ("" if tls else "; does it want TLS (rediss://)?")
        case OSError(strerror=str(reason)):
            return reason.lower()
        case _:
            return f"it cannot be used ({type(error).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return an error and those that led to it, the first of them first."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return reversed(chain)
