"""The life of links, and its bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from proxy.errors import FieldProblem, SettingProblem, SettingsError
from proxy.links.claims import is_whole

LEEWAY_SECONDS: Final = 60
"""Seconds that the clock of a minting program may be ahead. The end of a link has no leeway."""


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """A link's life if none is asked for, the longest one, and the window that expiry is rounded up to. In seconds.

    Raises `SettingsError` with every bad value.
    """

    default_ttl: int = 300
    max_ttl: int = 86_400
    window: int = 60

    def __post_init__(self) -> None:
        problems: list[SettingProblem] = []
        if self.max_ttl < 1:
            problems.append(SettingProblem("GATEWAY_LINK_MAX_TTL", "must be at least 1"))
        if not 1 <= self.default_ttl <= max(1, self.max_ttl):
            problems.append(SettingProblem("GATEWAY_LINK_TTL", "must be from 1 to GATEWAY_LINK_MAX_TTL"))
        if self.window < 1:
            problems.append(SettingProblem("GATEWAY_LINK_WINDOW", "must be at least 1"))
        if problems:
            raise SettingsError(problems)

    def ttl_problem(self, ttl: object) -> FieldProblem | None:
        """Return what is wrong with a life that was asked for, a whole number of seconds; None if nothing is."""
        if is_whole(ttl) and 1 <= ttl <= self.max_ttl:
            return None
        return FieldProblem("ttl", f"must be a whole number of seconds from 1 to {self.max_ttl}")

    def expires(self, now: float, ttl: int) -> int:
        """Return `ceil((now + ttl) / window) × window`: the same Unix second for every mint within a window."""
        return math.ceil((now + ttl) / self.window) * self.window

    @property
    def longest_life(self) -> int:
        """Seconds after which every link that is acceptable now has expired, the leeway included."""
        return self.max_ttl + self.window + LEEWAY_SECONDS

    def latest(self, now: float) -> float:
        """Return the Unix time after which no link expires that is acceptable at `now`."""
        return now + self.longest_life

    def earliest(self, expires: int, not_before: int | None) -> int:
        """Return the first Unix second at which a link of that end and beginning is acceptable."""
        begins = expires - self.longest_life
        return begins if not_before is None else max(begins, not_before - LEEWAY_SECONDS)


DEFAULT_POLICY: Final = LinkPolicy()
