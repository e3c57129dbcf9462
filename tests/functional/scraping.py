"""`/metrics` of a running gateway, read as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry.families import PREFIX

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """The samples of one moment."""

    samples: Mapping[tuple[str, Labels], float]

    @classmethod
    def of(cls, text: str) -> Scrape:
        return cls(
            {
                (sample.name, frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def get(self, name: str, **labels: str) -> float:
        """Return the sample with those labels, `name` without the prefix; 0 if there is none."""
        return self.samples.get((PREFIX + name, frozenset(labels.items())), 0.0)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all samples that have those labels among others."""
        wanted = frozenset(labels.items())
        return sum(value for (found, has), value in self.samples.items() if found == PREFIX + name and wanted <= has)


async def scrape(socket: Path) -> Scrape:
    """Read the metrics at a unix socket of `GATEWAY_METRICS_LISTEN`."""
    connector = aiohttp.UnixConnector(str(socket))
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://metrics/metrics") as response:
        assert response.status == 200
        return Scrape.of(await response.text())
