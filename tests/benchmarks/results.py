"""The results: one list of figures for each server, a figure for each round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.benchmarks.machine import Machine


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the least and the greatest of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Series:
    """One figure of one part: `samples` has, for each server, a value for each round.

    `rising`: more is better. A `ratio` of two servers is taken within each round, so that what the machine does
    meanwhile is in both.
    """

    part: str
    title: str
    figure: str
    rising: bool
    samples: Mapping[str, Sequence[float]]

    def spread(self, server: str) -> Spread:
        """Return the spread of one server's values."""
        return Spread.of(self.samples[server])

    def ratio(self, server: str, peer: str) -> Spread | None:
        """Return the spread of the server's values over the peer's; None if one is not measured, or the peer's is 0."""
        own, other = self.samples.get(server), self.samples.get(peer)
        if own is None or other is None or not all(other):
            return None
        return Spread.of([mine / theirs for mine, theirs in zip(own, other, strict=True)])


@dataclass(frozen=True, slots=True)
class Report:
    """A run: the machine, how long and how often, every series, and what is to be said beside them."""

    machine: Machine
    rounds: int
    seconds: float
    series: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of_part(self, part: str, figure: str) -> Series | None:
        """Return the series with that figure, None if it was not measured."""
        return next((one for one in self.series if (one.part, one.figure) == (part, figure)), None)


def write(report: Report, path: Path) -> None:
    """Keep a report as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def read(path: Path) -> Report:
    """Return the report that was kept. Raises `msgspec.DecodeError` if the file holds none."""
    return msgspec.json.decode(path.read_bytes(), type=Report)
