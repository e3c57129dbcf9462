"""The load: a small C program that is built here, and wrk beside it, both on the core that the servers do not use."""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tests.benchmarks.machine import pinned, program
from tests.benchmarks.processes import BenchmarkFailed

_SOURCE: Final = Path(__file__).with_name("load.c")
_GRACE_SECONDS: Final = 120
_WRK: Final = re.compile(r"(?P<answers>\d+) requests in .*?Requests/sec:\s+(?P<rate>[\d.]+)", re.DOTALL)
_WRK_SCRIPT: Final = """\
local requests, at = {}, 0
function init(words)
  for one in io.open(words[1], "rb"):read("*a"):gmatch("[^%z]+") do requests[#requests + 1] = one end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
"""


class Answered(msgspec.Struct, frozen=True):
    """The result of a load: seconds for the first byte and the whole of an answer, and of the run.

    `busy` is the share of its core that the load itself needed: near 1 it is the load that was measured.
    """

    answers: int
    errors: int
    seconds: float
    busy: float
    body_bytes: int = 0
    first_p50: float = 0.0
    first_p99: float = 0.0
    p50: float = 0.0
    p99: float = 0.0


class Held(msgspec.Struct, frozen=True):
    """The result of slow readers."""

    errors: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Expected:
    """Status and Content-Length of every answer; None is any length."""

    status: int
    length: int | None


class Load:
    """Sends requests to ports of 127.0.0.1. Every answer has to be the expected one: else `BenchmarkFailed`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = folder / "load"
        self._requests = folder / "requests"
        compiler = program("cc")
        if compiler is None:
            raise BenchmarkFailed("cc is not installed: the load cannot be built")
        subprocess.run([compiler, "-O2", "-std=gnu11", "-Wall", "-o", self._program, _SOURCE], check=True)

    def steady(
        self,
        port: int,
        connections: int,
        seconds: float,
        requests: Sequence[bytes],
        expected: Expected,
        *,
        once: bool = False,
        core: int | None = 1,
    ) -> Answered:
        """Send requests one after the other on each connection, the list over and over, or each of them once."""
        mode = ["steady", str(port), str(connections), str(seconds)]
        words = [*mode, self._file(requests), str(expected.status), _length(expected), str(int(once))]
        answered = self._answered(words, seconds, core)
        if not answered.answers or (once and answered.answers != len(requests) and answered.seconds < seconds):
            raise BenchmarkFailed(f"{answered.answers} answers to {len(requests)} requests")
        return answered

    def crowd(self, port: int, connections: int, request: bytes, expected: Expected) -> Answered:
        """Send one request on each connection, all at one instant, from which the times count."""
        mode = ["crowd", str(port), str(connections), str(_GRACE_SECONDS)]
        answered = self._answered(
            [*mode, self._file([request]), str(expected.status), _length(expected)], _GRACE_SECONDS, 1
        )
        if answered.answers != connections:
            raise BenchmarkFailed(f"{answered.answers} answers for {connections} readers")
        return answered

    def wrk(self, port: int, connections: int, seconds: int, requests: Sequence[bytes]) -> Answered:
        """Return the same as `steady`, from wrk, which reads 8 KB at a time and knows whole seconds alone."""
        path = program("wrk")
        if path is None:
            raise BenchmarkFailed("wrk is not installed")
        script = self._folder / "requests.lua"
        script.write_text(_WRK_SCRIPT)
        options = ["-t1", f"-c{connections}", f"-d{seconds}", "-s", str(script), f"http://127.0.0.1:{port}"]
        before = _children_seconds()
        with pinned(1):
            said = subprocess.run(
                [path, *options, "--", self._file(requests)], capture_output=True, text=True, check=True
            ).stdout
        found = _WRK.search(said)
        if found is None or "Non-2xx" in said or "Socket errors" in said:
            raise BenchmarkFailed(f"wrk: {said}")
        answers = int(found["answers"])
        took = answers / float(found["rate"])
        return Answered(answers, 0, took, (_children_seconds() - before) / took)

    @contextmanager
    def slow(self, port: int, connections: int, seconds: float, request: bytes, bytes_a_second: int) -> Iterator[None]:
        """Run readers with small receive buffers, who all have asked once the scope begins, and stay until it ends."""
        mode = ["slow", str(port), str(connections), str(seconds)]
        words = [str(self._program), *mode, self._file([request]), str(bytes_a_second)]
        with pinned(1):
            process = subprocess.Popen(words, stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            try:
                process.stdout.readline()
                yield
                said = process.stdout.read()
            finally:
                process.kill()
        held = msgspec.json.decode(said, type=Held)
        if held.errors or not held.body_bytes:
            raise BenchmarkFailed(f"slow readers: {held}")

    def _file(self, requests: Sequence[bytes]) -> str:
        self._requests.write_bytes(b"".join(request + b"\0" for request in requests))
        return str(self._requests)

    def _answered(self, words: Sequence[str], seconds: float, core: int | None) -> Answered:
        with pinned(core):
            said = subprocess.run(
                [str(self._program), *words], capture_output=True, check=True, timeout=seconds + _GRACE_SECONDS
            ).stdout
        answered = msgspec.json.decode(said, type=Answered)
        if answered.errors:
            raise BenchmarkFailed(f"wrong or broken answers: {answered}")
        return answered


def _length(expected: Expected) -> str:
    return "-1" if expected.length is None else str(expected.length)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
