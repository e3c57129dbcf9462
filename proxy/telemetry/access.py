"""The access log: one line for each answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from proxy.telemetry.redaction import redact

ACCESS_LOGGER: Final = "media_gateway.access"

_log: Final = logging.getLogger(ACCESS_LOGGER)
_LONGEST_TARGET: Final = 2_048
_LONGEST_AGENT: Final = 256


@dataclass(frozen=True, slots=True)
class Access:
    """One answer. `sent` is bytes of body, `seconds` from the request's head to the answer's end.

    `client` is an address, `client_id` a gateway client, `cache` the answer's `Cache-Status`, `kind` the problem's
    slug; each None where there is none. `aborted`: the connection was cut before the answer's end.
    """

    request_id: str
    client: str | None
    method: str
    target: str
    status: int
    sent: int
    seconds: float
    user_agent: str | None = None
    client_id: str | None = None
    cache: str | None = None
    kind: str | None = None
    aborted: bool = False

    def facts(self) -> dict[str, str | int | float | bool]:
        """Names and values to be written, absent ones left out."""
        facts: dict[str, str | int | float | bool | None] = {
            "client": self.client,
            "method": self.method,
            "target": shown_target(self.target),
            "status": self.status,
            "bytes": self.sent,
            "cache": self.cache,
            "problem": self.kind,
            "client_id": self.client_id,
            "aborted": True if self.aborted else None,
            "user_agent": None if self.user_agent is None else shown_agent(self.user_agent),
            "seconds": round(self.seconds, 4),
            "request_id": self.request_id,
        }
        return {name: value for name, value in facts.items() if value is not None}


def shown_target(target: str) -> str:
    """A target without its secrets.

    Long text is cut after its secrets are out: the better part of a signature would be as good as the whole.
    """
    return redact(target)[:_LONGEST_TARGET]


def shown_agent(agent: str) -> str:
    """A `User-Agent` without secrets, and cut."""
    return redact(agent)[:_LONGEST_AGENT]


def log_access(access: Access) -> None:
    """Write one line."""
    if _log.isEnabledFor(logging.INFO):
        _log.info("access", extra={"facts": access.facts()})
