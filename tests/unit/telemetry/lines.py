"""Answers as the access log writes them."""

from __future__ import annotations

import json
import logging

from proxy.telemetry.access_log import ACCESS_LOGGER, LoggedAnswer
from proxy.telemetry.logs import JsonFormatter

NOW = 1_790_000_000.25


def record(**extra: object) -> logging.LogRecord:
    """Return a record of the access log, of that moment."""
    made = logging.LogRecord(ACCESS_LOGGER, logging.INFO, "", 0, "access", (), None)
    made.created = NOW
    made.__dict__.update(extra)
    return made


def facts_of(access: LoggedAnswer) -> dict[str, object]:
    """Return what its line says of it."""
    line = json.loads(JsonFormatter().format(record(batch=[access.noted(NOW)])))
    return {name: value for name, value in line.items() if name not in {"time", "level", "logger", "message"}}
