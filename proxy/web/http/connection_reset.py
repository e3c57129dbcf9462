"""Cutting a connection, so that its client knows that what it has is not the whole."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""socket(7) SO_LINGER: on, for no time."""


def reset(transport: asyncio.Transport | None) -> None:
    """Cut a connection so that its other end sees an error: an orderly close would end some answers (RFC 9112 §8).

    What waits in the kernel to be sent is dropped with it.
    """
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
