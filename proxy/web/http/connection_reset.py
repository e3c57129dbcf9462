"""Cutting a connection, so that the client knows that its copy is not whole."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""socket(7) SO_LINGER: on, for no time."""


def reset(transport: asyncio.Transport | None) -> None:
    """Cut a connection so that its other end sees an error: an orderly close would complete some answers (RFC 9112 §8).

    Bytes that wait in the kernel to be sent are dropped.
    """
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
