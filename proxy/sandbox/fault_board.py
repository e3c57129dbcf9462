"""The faults that are laid on at the moment, and the requests that meet them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from proxy.sandbox.faults import Dressing, Fault, Headers, Point, WrongType, points

_RULE_LIMIT: Final = 1_000


class FaultRule:
    """One fault that is laid on, for one media or all, for some requests or until a moment.

    `times=None` means every request; `until` is Unix time in seconds.
    """

    def __init__(
        self, number: int, fault: Fault, point: Point, media_sid: str | None, times: int | None, until: float | None
    ) -> None:
        self.number = number
        self.fault = fault
        self.point = point
        self.media_sid = media_sid
        self.remaining = times
        self.until = until
        self._released = asyncio.Event()
        self._reached = asyncio.Event()

    def covers(self, point: Point, media_sid: str | None, now: float) -> bool:
        """Return whether a request at that point, about that media, meets this fault now."""
        return (
            self.point is point
            and self.media_sid in (None, media_sid)
            and self.remaining != 0
            and (self.until is None or now < self.until)
        )

    def spend(self) -> None:
        """Count one request that has met the fault."""
        if self.remaining is not None:
            self.remaining -= 1
        self._reached.set()

    async def reached(self) -> None:
        """Wait until a request has met the fault."""
        await self._reached.wait()

    def release(self) -> None:
        """Let every answer that this rule stalls go on, now and later."""
        self._released.set()

    async def stall(self, limit: float) -> None:
        """Wait for the release, at most `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                await self._released.wait()
        except TimeoutError:
            return


@dataclass(frozen=True, slots=True)
class Met:
    """The faults that one answer meets: at most one rule that changes its course, and every change of its fields."""

    rule: FaultRule | None = None
    dressing: tuple[Dressing, ...] = ()


class FaultBoard:
    """The rules in the order laid on, at most 1,000."""

    def __init__(self) -> None:
        self._rules: dict[int, FaultRule] = {}
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[FaultRule]:
        return iter(tuple(self._rules.values()))

    def add(
        self,
        fault: Fault,
        *,
        point: Point | None = None,
        media_sid: str | None = None,
        times: int | None = None,
        until: float | None = None,
    ) -> FaultRule:
        """Lay a fault on. Raises `ValueError` if it cannot act at that point, or the board is full."""
        possible = points(fault)
        if point is not None and point not in possible:
            raise ValueError(f"this fault acts on: {', '.join(possible)}")
        if times is not None and times < 1:
            raise ValueError("times is 1 or more")
        if len(self._rules) >= _RULE_LIMIT:
            raise ValueError(f"there are {_RULE_LIMIT} faults already")
        rule = FaultRule(next(self._numbers), fault, point or possible[0], media_sid, times, until)
        self._rules[rule.number] = rule
        return rule

    def get(self, number: int) -> FaultRule | None:
        return self._rules.get(number)

    def take(self, point: Point, media_sid: str | None, now: float) -> Met:
        """Return what a request meets: the oldest rule that applies, and every change of header fields."""
        rule: FaultRule | None = None
        dressing: list[Dressing] = []
        for candidate in self:
            if not candidate.covers(point, media_sid, now):
                continue
            if isinstance(candidate.fault, WrongType | Headers):
                dressing.append(candidate.fault)
                candidate.spend()
            elif rule is None:
                rule = candidate
                candidate.spend()
        return Met(rule, tuple(dressing))

    def clear(self) -> None:
        """Take every fault off, and let every stalled answer go on."""
        for rule in self:
            rule.release()
        self._rules.clear()
