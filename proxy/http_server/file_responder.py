"""Answers of the ordinary path with parts of stored files: aiohttp makes the head, and the bytes go past it.

Leans on these internals of aiohttp: a response whose `_send_headers_immediately` is off leaves its head in
`StreamWriter._headers_buf`, `_headers_written` says that it has gone out, and `output_size` how much has gone out.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.http_writer import StreamWriter

from proxy.cache.body import FileBody
from proxy.http_server.file_transfer import TURN, ClientStalled, FileTransfer
from proxy.http_server.protocol import GatewayProtocol
from proxy.web.exchange import EXCHANGE
from proxy.web.http.connection_reset import reset
from proxy.web.http.sending import finish, to_client
from proxy.web.media.delivery import Headers


class FileResponder:
    """Answers with parts of stored files. A client that takes nothing for `send_seconds` is cut off."""

    def __init__(self, send_seconds: float) -> None:
        self._send_seconds = send_seconds

    async def __call__(
        self, request: web.Request, status: int, headers: Headers, body: FileBody, first: int, size: int
    ) -> web.StreamResponse | None:
        """Answer with `size` bytes, at least one, from `first`; return None if another way has to be taken.

        Raises `StoreError` if the file cannot be read or is damaged, and `ClientGone` if the client is gone.
        """
        protocol, transport = request.protocol, request.transport
        connection = None if transport is None else transport.get_extra_info("socket")
        if transport is None or connection is None or transport.is_closing() or transport.get_write_buffer_size():
            return None
        if not isinstance(protocol, GatewayProtocol):
            return None
        # As long as the head has not gone out, a file that cannot be read can still be answered otherwise.
        ahead = min(size, TURN)
        if not body.is_ready(first, ahead):
            await body.ready(first, ahead)
        # The reason for the end is a result and not an exception: if the head cannot be made, it is never looked at.
        end: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def ended(error: Exception | None) -> None:
            if not end.done():
                end.set_result(error)

        try:
            transfer = FileTransfer(connection, b"", body, range(first, first + size), self._send_seconds, ended)
        except OSError:
            # No descriptor is left.
            return None
        with to_client(), protocol.ends_with_it(transfer):
            try:
                response = _Headed(status=status, headers=headers())
                await response.prepare(request)
                transfer.head = response.take_head()
                transfer.start()
                if (error := await end) is not None:
                    raise error
            except ClientStalled:
                reset(transport)
                raise
            finally:
                transfer.abort()
                request[EXCHANGE].sent += transfer.sent
        await finish(response)
        return response


class _Headed(web.StreamResponse):
    """A response whose head aiohttp makes and does not write."""

    _send_headers_immediately = False

    def take_head(self) -> bytes:
        """Take the head out; aiohttp regards it as written from now on."""
        writer = self._payload_writer
        assert isinstance(writer, StreamWriter)
        head, writer._headers_buf, writer._headers_written = writer._headers_buf, None, True
        assert head is not None
        # By this aiohttp knows that an answer is under way.
        writer.output_size += len(head)
        return head
