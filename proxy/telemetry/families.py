"""The layout of metrics in a row of cells: a family has a cell for each combination of its labels' values."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

PREFIX = "media_gateway_"


class Kind(enum.Enum):
    """The kind of a family's numbers. The gauges of processes add up, and each ends with its process."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `name` without prefix and suffix, `labels`, and every combination of their `values`.

    `first` is its first cell. A combination has one cell; in a histogram it has one for each of the `bounds`, one for
    the values beyond them, and one for the sum. A `sparse` family shows no zeros.
    """

    name: str
    meaning: str
    kind: Kind
    labels: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    first: int
    bounds: tuple[float, ...] = ()
    sparse: bool = False

    @property
    def stride(self) -> int:
        """The number of cells of one combination."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1

    @property
    def end(self) -> int:
        """The cell after the last of the family."""
        return self.first + self.stride * len(self.values)

    def places(self) -> dict[tuple[str, ...], int]:
        """Return the first cell of each combination."""
        return {values: self.first + number * self.stride for number, values in enumerate(self.values)}

    @property
    def exported(self) -> str:
        """The metric's name in Prometheus."""
        return PREFIX + self.name + ("_total" if self.kind is Kind.COUNTER else "")


class Layout:
    """The assignment of cells to families, one family after the other."""

    def __init__(self) -> None:
        self.families: list[Family] = []

    @property
    def width(self) -> int:
        """The number of cells in a row."""
        return self.families[-1].end if self.families else 0

    def gauges(self) -> list[int]:
        """Return the cells of gauges."""
        return [
            place for family in self.families if family.kind is Kind.GAUGE for place in range(family.first, family.end)
        ]

    def counter(self, name: str, meaning: str, *, sparse: bool = False, **labels: Sequence[str]) -> Family:
        """Add a number that only grows."""
        return self._add(name, meaning, Kind.COUNTER, labels, sparse=sparse)

    def gauge(self, name: str, meaning: str, **labels: Sequence[str]) -> Family:
        """Add a number that goes up and down."""
        return self._add(name, meaning, Kind.GAUGE, labels)

    def histogram(self, name: str, meaning: str, bounds: Sequence[float], **labels: Sequence[str]) -> Family:
        """Add the number of observations up to each of the `bounds`, and their sum."""
        return self._add(name, meaning, Kind.HISTOGRAM, labels, bounds)

    def _add(
        self,
        name: str,
        meaning: str,
        kind: Kind,
        labels: dict[str, Sequence[str]],
        bounds: Sequence[float] = (),
        *,
        sparse: bool = False,
    ) -> Family:
        values = tuple(product(*labels.values()))
        family = Family(name, meaning, kind, tuple(labels), values, self.width, tuple(bounds), sparse)
        self.families.append(family)
        return family
