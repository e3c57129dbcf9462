"""Writing an answer to its client, which may go at any time.

aiohttp and the kernel say in many ways that a client is gone: `ClientConnectionResetError`, `BrokenPipeError`, a plain
`ConnectionError` if a write was waiting for room. Here all of them become `ClientGone`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web


class ClientGone(ConnectionResetError):
    """The end of a connection that its client closed or reset, or that was cut since the client took nothing.

    It is not a fault: neither aiohttp nor the gateway logs it.
    """


@contextmanager
def to_client() -> Iterator[None]:
    """Raise `ClientGone` for every error of the client's connection within the scope."""
    try:
        yield
    except ConnectionError as error:
        raise ClientGone(str(error)) from error


async def begin(request: web.Request, response: web.StreamResponse) -> None:
    """Send the head of an answer. Raises `ClientGone`."""
    with to_client():
        await response.prepare(request)


async def write(response: web.StreamResponse, block: bytes | memoryview) -> None:
    """Send a block of an answer's body, once the connection has room for it. Raises `ClientGone`."""
    with to_client():
        await response.write(block)


async def finish(response: web.StreamResponse) -> None:
    """End an answer. Raises `ClientGone`."""
    with to_client():
        await response.write_eof()
