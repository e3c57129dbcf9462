"""Stored files to a client without passing through this process: `sendfile(2)` on the connection's own socket.

Leans on these internals of aiohttp: a response whose `_send_headers_immediately` is off leaves its head with
`StreamWriter._headers_buf`, `_headers_written` says that it has gone out, and `output_size` what has gone out in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Final

from aiohttp import web
from aiohttp.http_writer import StreamWriter

from proxy.cache.body import FileBody
from proxy.errors import StoreError
from proxy.server.protocol import GatewayProtocol
from proxy.web.context import EXCHANGE, Headers
from proxy.web.cutting import reset

_CHUNK: Final = 1_048_576
"""Bytes sent before others have their turn."""


class FileSender:
    """Sends parts of stored files. `send_seconds`: how long a client may take nothing of what waits for it."""

    def __init__(self, send_seconds: float) -> None:
        self._send_seconds = send_seconds

    async def __call__(
        self, request: web.Request, status: int, headers: Headers, body: FileBody, first: int, size: int
    ) -> web.StreamResponse | None:
        """Answer with `size` bytes, at least one, from `first`; None where it takes the ordinary way.

        Raises `StoreError` where the file cannot be read or is damaged, `ConnectionResetError` where no client is left.
        """
        protocol, transport = request.protocol, request.transport
        connection = None if transport is None else transport.get_extra_info("socket")
        if transport is None or connection is None or transport.is_closing() or transport.get_write_buffer_size():
            return None
        if not isinstance(protocol, GatewayProtocol):
            return None
        await body.ready(first, min(size, _CHUNK))
        response = _Headed(status=status, headers=headers())
        await response.prepare(request)
        with _outlet(connection) as outlet, protocol.ends_with_it(outlet):
            try:
                async with asyncio.timeout(self._send_seconds) as patience:
                    await self._send(request, response.take_head(), body, range(first, first + size), outlet, patience)
            except TimeoutError:
                # It has taken next to nothing for too long.
                reset(transport)
                raise ConnectionResetError("the client takes nothing") from None
        await response.write_eof()
        return response

    async def _send(
        self,
        request: web.Request,
        head: bytes,
        body: FileBody,
        span: range,
        outlet: socket.socket,
        patience: asyncio.Timeout,
    ) -> None:
        loop = asyncio.get_running_loop()
        # The head waits in the kernel for the first bytes of the body, and leaves with them.
        while head:
            try:
                head = head[outlet.send(head, socket.MSG_MORE | socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                await _writable(outlet)
            except OSError as error:
                raise ConnectionResetError("the client is gone") from error
        offset = span.start
        while offset < span.stop:
            chunk = min(_CHUNK, span.stop - offset)
            # The client's time does not run while the disk is waited for.
            patience.reschedule(None)
            await body.ready(offset, chunk)
            patience.reschedule(loop.time() + self._send_seconds)
            sent = _send_part(outlet, body.descriptor, offset, chunk)
            if sent is None:
                await _writable(outlet)
            elif sent == 0:
                raise StoreError(note="a stored body is shorter than its entry says")
            else:
                offset += sent
                request[EXCHANGE].sent += sent
                await asyncio.sleep(0)


class _Headed(web.StreamResponse):
    """A response whose head is taken, and not written, by aiohttp."""

    _send_headers_immediately = False

    def take_head(self) -> bytes:
        """The head, which aiohttp takes as written from now on."""
        writer = self._payload_writer
        assert isinstance(writer, StreamWriter)
        head, writer._headers_buf, writer._headers_written = writer._headers_buf, None, True
        assert head is not None
        # That an answer is under way is told by this.
        writer.output_size += len(head)
        return head


@contextlib.contextmanager
def _outlet(connection: socket.socket) -> Iterator[socket.socket]:
    """The connection's socket under a descriptor of its own: an event loop watches each one for one owner only."""
    with socket.socket(connection.family, connection.type, connection.proto, os.dup(connection.fileno())) as outlet:
        # What the loop's own descriptor is, too: the two share the state.
        outlet.setblocking(False)  # noqa: FBT003 - the signature is the socket's
        yield outlet


def _send_part(outlet: socket.socket, descriptor: int, offset: int, size: int) -> int | None:
    """How many bytes the kernel took; None where it has no room."""
    try:
        return os.sendfile(outlet.fileno(), descriptor, offset, size)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.EIO:
            raise StoreError(note="a stored body cannot be read") from error
        raise ConnectionResetError("the client is gone") from error


async def _writable(outlet: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    writable: asyncio.Future[None] = loop.create_future()
    loop.add_writer(outlet.fileno(), _wake, writable)
    try:
        await writable
    finally:
        loop.remove_writer(outlet.fileno())


def _wake(writable: asyncio.Future[None]) -> None:
    if not writable.done():
        writable.set_result(None)
