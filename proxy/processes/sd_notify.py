"""What the service manager is told (sd_notify(3)): ready, reloading, stopping."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_log: Final = logging.getLogger("media_gateway.server")


class Notices:
    """Sends notices to the socket that `NOTIFY_SOCKET` of `environ` names; to nobody where it names none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        place = environ.get("NOTIFY_SOCKET", "")
        # An abstract address begins with NUL, which a variable cannot hold.
        self._place = "\0" + place[1:] if place.startswith("@") else place

    def ready(self) -> None:
        """It serves, under the settings that were read last."""
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=serving")

    def reloading(self) -> None:
        """It reads its settings again; `ready` follows."""
        moment = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={moment}\nSTATUS=reloading")

    def stopping(self) -> None:
        """It ends."""
        self._send("STOPPING=1\nSTATUS=draining")

    def _send(self, notice: str) -> None:
        if not self._place:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0)
                sender.sendto(notice.encode(), self._place)
        except OSError as error:
            _log.warning("The service manager could not be told: %s", error.strerror)
