"""The metrics in the formats that Prometheus reads, by its own client library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.telemetry.families import PREFIX, Family, Kind
from proxy.telemetry.metrics import FAMILIES


def expose(totals: Sequence[float], accept: str) -> tuple[bytes, str]:
    """Return body and `Content-Type` for a scrape with that `Accept`. `totals` has a number for each cell."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(totals))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collected(Collector):
    """The families with the numbers of one moment."""

    def __init__(self, totals: Sequence[float]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            yield _metric(family, self._totals)

    def describe(self) -> Iterator[Metric]:
        """Return nothing: the names are distinct by the layout."""
        return iter(())


def _metric(family: Family, totals: Sequence[float]) -> Metric:
    name, places = PREFIX + family.name, _shown(family, totals)
    match family.kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(name, family.meaning, labels=family.labels)
            for values, place in places.items():
                counter.add_metric(values, totals[place])
            return counter
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(name, family.meaning, labels=family.labels)
            for values, place in places.items():
                gauge.add_metric(values, totals[place])
            return gauge
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(name, family.meaning, labels=family.labels)
            bounds = [*map(str, family.bounds), "+Inf"]
            for values, place in places.items():
                counts = accumulate(totals[place : place + len(bounds)])
                histogram.add_metric(
                    values, list(zip(bounds, counts, strict=True)), sum_value=totals[place + len(bounds)]
                )
            return histogram


def _shown(family: Family, totals: Sequence[float]) -> Mapping[tuple[str, ...], int]:
    places = family.places()
    return {values: place for values, place in places.items() if totals[place]} if family.sparse else places
