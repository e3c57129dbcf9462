"""README.md beside this file names every test of the Media resource here, and what it names is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.clients.libraries import Kind
from tests.clients.systems import System
from tests.documents import rows

HERE: Final = Path(__file__).parent
README: Final = HERE / "README.md"
TITLE: Final = "The providers' own libraries"

_TEST: Final = re.compile(r"\btest_\w+")


class Row(NamedTuple):
    operation: str
    representation: str
    system: str
    python: str
    node: str
    curl: str


@pytest.fixture(scope="module")
def runs() -> list[str]:
    """Return every run that pytest would make of them, as `test_name[parameters]`."""
    options = ("--collect-only", "-q", "-p", "no:cacheprovider", f"--ignore={HERE / 'test_webhook_handlers.py'}")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(HERE)],
        cwd=HERE.parents[1],
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = [line.rpartition("::")[2] for line in ended.stdout.splitlines() if "::test_" in line]
    assert found
    return found


def table() -> list[Row]:
    return [Row(*cells) for cells in rows(README, TITLE, "operation")]


def is_run(runs: Sequence[str], test: str, *parameters: str) -> bool:
    """Return whether that test runs with these parameters, one beside the other."""
    wanted = re.compile(rf"{test}\[(.*-)?{'-'.join(map(re.escape, parameters))}(-.*)?\]")
    return any(wanted.fullmatch(run) for run in runs)


def test_every_row_of_the_table_is_run(runs: list[str]) -> None:
    for row in table():
        for kind in Kind:
            assert is_run(runs, row.python, kind, row.system), f"{kind}: {row}"
        for name in (row.node, row.curl):
            assert name == "—" or is_run(runs, name, row.system), f"{name}: {row}"


def test_every_operation_is_there_for_every_system() -> None:
    systems: dict[tuple[str, str], list[str]] = {}
    for row in table():
        systems.setdefault((row.operation, row.representation), []).append(row.system)
    assert {operation: sorted(found) for operation, found in systems.items()} == {
        operation: sorted(System) for operation in systems
    }
    for operation in ("fetch", "list", "wrong credentials", "unknown media", "too many requests"):
        assert (operation, "XML") in systems
    for operation in ("fetch", "delete", "wrong credentials", "unknown media", "too many requests"):
        assert (operation, "JSON") in systems
    assert ("fetch", "bytes") in systems


def test_every_test_is_named_and_every_name_is_a_test(runs: list[str]) -> None:
    tests = {run.partition("[")[0] for run in runs}
    named = set(_TEST.findall(README.read_text("utf-8")))
    assert named - tests == set(), "no tests"
    assert tests - named == set(), "not named"
