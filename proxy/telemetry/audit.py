"""The audit log: one line for each thing that a client had erased, revoked, opened again or deleted."""

from __future__ import annotations

import logging
from typing import Final

AUDIT_LOGGER: Final = "media_gateway.audit"

_log: Final = logging.getLogger(AUDIT_LOGGER)
# Who did what is told whatever else is wanted of the log.
_log.setLevel(logging.INFO)


def log_audit(*, event: str, client_id: str, subject: str, outcome: str, request_id: str) -> None:
    """Write one line.

    `event`: `purge`, `revoke`, `lift` or `delete`. `subject`: `ACCOUNT/MESSAGE/MEDIA`, `ACCOUNT/MESSAGE`, `ACCOUNT`, or
    `*` for everything. `outcome`: `done`, or a problem's slug.
    """
    facts = {
        "event": event,
        "client_id": client_id,
        "subject": subject,
        "outcome": outcome,
        "request_id": request_id,
    }
    _log.info("audit", extra={"facts": facts})
