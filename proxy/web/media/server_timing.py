"""`Server-Timing` (W3C Server Timing): the time that each step of an answer took."""

from __future__ import annotations

import time


class ServerTiming:
    """A measure of steps that follow each other; its text is the field's value, in milliseconds."""

    def __init__(self) -> None:
        self._reached = time.perf_counter()
        self._steps: dict[str, float] = {}

    def mark(self, step: str) -> None:
        """Add the time since the last mark to this step."""
        now = time.perf_counter()
        self._steps[step] = self._steps.get(step, 0.0) + now - self._reached
        self._reached = now

    def __str__(self) -> str:
        return ", ".join(f"{step};dur={seconds * 1_000:.3f}" for step, seconds in self._steps.items())
