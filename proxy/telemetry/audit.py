"""The audit log: one line for each purge, revocation, lift and deletion that a client asks for."""

from __future__ import annotations

import logging
from typing import Final

AUDIT_LOGGER: Final = "media_gateway.audit"

_log: Final = logging.getLogger(AUDIT_LOGGER)
# The audit log is written whatever the level of the program's log.
_log.setLevel(logging.INFO)


def log_audit(*, event: str, client_id: str, subject: str, outcome: str, request_id: str) -> None:
    """Write one line of the audit log.

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
