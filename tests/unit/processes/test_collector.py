"""How often a worker looks for cycles."""

from __future__ import annotations

import gc

from proxy.processes.collector import collect_less


def test_the_collector_of_a_worker_runs_less_often_than_pythons_own_and_still_runs() -> None:
    before = gc.get_threshold()
    try:
        collect_less()
        assert all(0 < old < new for old, new in zip(before, gc.get_threshold(), strict=True))
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)
