"""The metrics that the README explains are those that there are."""

from __future__ import annotations

from proxy.telemetry.metrics import FAMILIES
from tests.documents import README, rows


def test_the_table_of_metrics_is_that_of_the_program() -> None:
    exported = [
        (family.exported, ", ".join(family.labels) or "-", family.meaning.rstrip(".").replace("`", ""))
        for family in FAMILIES
    ]
    assert rows(README, "Metrics", "metric") == exported
