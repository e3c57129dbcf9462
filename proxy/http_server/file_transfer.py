"""The transfer of a stored file to a client: `sendfile(2)` on the connection's own socket, as its buffer drains."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from proxy.cache.body import FileBody
from proxy.errors import StoreError

TURN: Final = 2_097_152
"""Bytes sent before other connections have their turn; as many are read from the disk at a time."""


class ClientStalled(ConnectionResetError):
    """End of a transfer whose client took nothing for too long."""


class FileTransfer:
    """A head and then a span of a stored file, on their way to the socket of a connection.

    Its first bytes, up to `TURN`, are ready to be sent. `head` may be set until it starts; `sent` counts the bytes of
    the file. Making one raises `OSError` if no descriptor is left.

    `ended` is called once, on the event loop, with None when the kernel has taken everything, or with the reason for
    the end: `StoreError` if the file cannot be read or is shorter than its entry says, `ClientStalled` if the client
    took nothing for `patience` seconds, `ConnectionResetError` if the client is gone.
    """

    def __init__(
        self,
        connection: socket.socket,
        head: bytes,
        body: FileBody,
        span: range,
        patience: float,
        ended: Callable[[Exception | None], None],
    ) -> None:
        self.head = head
        self.sent = 0
        self._loop = asyncio.get_running_loop()
        # A descriptor of its own for the socket: an event loop watches each one for one owner only.
        descriptor = os.dup(connection.fileno())
        self._outlet = socket.socket(connection.family, connection.type, connection.proto, descriptor)
        # The loop's own descriptor is non-blocking too: the two share this state.
        self._outlet.setblocking(False)  # noqa: FBT003 - the signature is the socket's
        self._body = body
        self._offset = span.start
        self._stop = span.stop
        self._ready_to = min(span.start + TURN, span.stop)
        self._patience = patience
        self._ended = ended
        self._over = False
        self._watching = False
        self._timer: asyncio.TimerHandle | None = None
        self._moved = 0.0
        self._preparing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Send what can be sent at once, and the rest later; `ended` may be called before this returns."""
        self._push()
        if not self._over:
            self._moved = self._loop.time()
            self._timer = self._loop.call_later(self._patience, self._look)

    def abort(self) -> None:
        """Abort the transfer: the connection is gone, or its end is not waited for any more."""
        self._end(ConnectionResetError("the connection has ended"))

    def _push(self) -> None:
        try:
            done = self._send()
        except BlockingIOError:
            done = False
        except OSError as error:
            if error.errno == errno.EIO:
                self._end(StoreError(note="a stored body cannot be read"))
            else:
                self._end(ConnectionResetError("the client is gone"))
            return
        except StoreError as error:
            self._end(error)
            return
        if done:
            self._end(None)
        elif self._preparing is None and not self._watching:
            self._watching = True
            self._loop.add_writer(self._outlet.fileno(), self._push)

    def _send(self) -> bool:
        """Send for one turn, and return whether all is sent. Raises `BlockingIOError` if the kernel takes nothing."""
        # The head waits in the kernel for the first bytes of the body, and goes out with them.
        while self.head:
            self.head = self.head[self._outlet.send(self.head, socket.MSG_MORE) :]
        turn = self._offset + TURN
        while self._offset < self._stop:
            if self._offset >= turn:
                return False
            if self._offset >= self._ready_to and not self._prepare():
                return False
            most = min(self._ready_to, turn) - self._offset
            sent = os.sendfile(self._outlet.fileno(), self._body.descriptor, self._offset, most)
            if not sent:
                raise StoreError(note="a stored body is shorter than its entry says")
            self._offset += sent
            self.sent += sent
            self._moved = self._loop.time()
            if sent < most:
                # The kernel takes no more now.
                return False
        return True

    def _prepare(self) -> bool:
        """Return whether the next bytes can be sent without waiting for the disk; if not, begin to read them."""
        size = min(TURN, self._stop - self._offset)
        if self._body.is_ready(self._offset, size):
            self._ready_to = self._offset + size
            return True
        self._watch_no_more()
        self._preparing = self._loop.create_task(self._body.ready(self._offset, size))
        self._preparing.add_done_callback(lambda task: self._prepared(task, size))
        return False

    def _prepared(self, task: asyncio.Task[None], size: int) -> None:
        self._preparing = None
        if self._over or task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Exception):
            self._end(error)
            return
        self._ready_to = self._offset + size
        # The client is not blamed for the time that the disk took.
        self._moved = self._loop.time()
        self._push()

    def _look(self) -> None:
        """End the transfer if it has not moved for too long, else look again later."""
        idle = 0.0 if self._preparing is not None else self._loop.time() - self._moved
        if idle >= self._patience:
            self._end(ClientStalled("the client takes nothing"))
        else:
            self._timer = self._loop.call_later(self._patience - idle, self._look)

    def _watch_no_more(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_writer(self._outlet.fileno())

    def _end(self, error: Exception | None) -> None:
        if self._over:
            return
        self._over = True
        self._watch_no_more()
        if self._timer is not None:
            self._timer.cancel()
        if self._preparing is not None:
            self._preparing.cancel()
        with contextlib.suppress(OSError):
            self._outlet.close()
        self._ended(error)
