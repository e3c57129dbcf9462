"""Memory that is freed serves again, and cycles are looked for less often."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys

import pytest

from proxy.processes.tuning import collect_less, reuse_freed_memory

_PROGRAM = """
import resource
from proxy.processes.tuning import reuse_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        [b"x" * 262_144 for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
assert reuse_freed_memory()
faults()
print(faults())
"""


def test_the_memory_of_freed_blocks_serves_for_the_next() -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library is not glibc")
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    # Memory that is had again costs 64 for each block.
    assert int(ended.stdout) < 640


def test_a_c_library_without_these_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not reuse_freed_memory()


def test_a_worker_collects_cycles_less_often_but_still_does() -> None:
    before = gc.get_threshold()
    try:
        collect_less()
        assert all(0 < old < new for old, new in zip(before, gc.get_threshold(), strict=True))
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)
