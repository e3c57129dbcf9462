"""The supervisor's own log: written at once and by no thread, for it starts other processes by forking."""

from __future__ import annotations

import logging
import sys
from typing import Final

from proxy.settings import LogFormat, Settings
from proxy.telemetry.logs import ROOT_LOGGER, JsonFormatter, TextFormatter

_logger: Final = logging.getLogger(ROOT_LOGGER)


class DirectLog:
    """Writes the program's log to standard error until it is closed."""

    def __init__(self, settings: Settings) -> None:
        self._handler = logging.StreamHandler(sys.stderr)
        self._propagated = _logger.propagate
        _logger.addHandler(self._handler)
        _logger.propagate = False
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """Write as these settings say."""
        as_json = settings.log_format is LogFormat.JSON
        self._handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
        _logger.setLevel(settings.log_level.value.upper())

    def close(self) -> None:
        """Leave the log to others."""
        _logger.removeHandler(self._handler)
        _logger.propagate = self._propagated
