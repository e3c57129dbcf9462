"""Writing an answer to its client, who may go at any time.

aiohttp and the kernel say in many ways that a client is gone: `ClientConnectionResetError`, `BrokenPipeError`, a plain
`ConnectionError` where a write was waiting for room. Here all of them become `ClientGone`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web


class ClientGone(ConnectionResetError):
    """The client has closed or reset its connection, or was cut off since it took nothing for too long.

    It is a fault of nobody: aiohttp lets it pass in silence, and so does the log.
    """


@contextmanager
def to_client() -> Iterator[None]:
    """Raise `ClientGone` for what the client's connection raises in here."""
    try:
        yield
    except ConnectionError as error:
        raise ClientGone(str(error)) from error


async def begin(request: web.Request, response: web.StreamResponse) -> None:
    """Send the head of an answer. Raises `ClientGone`."""
    with to_client():
        await response.prepare(request)


async def write(response: web.StreamResponse, block: bytes | memoryview) -> None:
    """Send a block of an answer's body, once there is room for it. Raises `ClientGone`."""
    with to_client():
        await response.write(block)


async def finish(response: web.StreamResponse) -> None:
    """End an answer. Raises `ClientGone`."""
    with to_client():
        await response.write_eof()
