"""The C library's allocator: what is freed serves again, and a system without its settings is served as well."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from proxy.processes.allocator import reuse_freed_memory

_PROGRAM = """
import resource
from proxy.processes.allocator import reuse_freed_memory
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
    # Memory that is had anew costs 64 for each block.
    assert int(ended.stdout) < 640


def test_a_c_library_without_these_settings_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not reuse_freed_memory()
