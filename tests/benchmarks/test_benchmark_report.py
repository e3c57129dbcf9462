"""The report of a benchmark: figures put together and shown."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import servers
from tests.benchmarks.bench import alternate, turns
from tests.benchmarks.chart import plot
from tests.benchmarks.machine import can_pin, cores, pinned, this_machine
from tests.benchmarks.processes import BenchmarkFailed, Child, listening, started
from tests.benchmarks.rates import CPU, RATE
from tests.benchmarks.readme import rendered, rewrite, sentence
from tests.benchmarks.results import Report, Series, Spread, read, write
from tests.benchmarks.servers import GATEWAY, NGINX, VARNISH, Server


def _unsigned(path: str, end: int) -> str:
    return f"{path}?{end}"


@pytest.fixture
def child(tmp_path: Path) -> Child:
    """Return a program that has ended."""
    with started([shutil.which("true") or "true"], tmp_path / "log") as ended:
        ended.process.wait()
    return ended


@pytest.fixture
def report() -> Report:
    samples = {GATEWAY: [300.0, 120.0, 100.0], NGINX: [100.0, 100.0, 50.0], VARNISH: [50.0, 50.0, 0.0]}
    rate = Series("hit-20k", "20 KB & more", RATE, True, samples)
    cpu = Series("hit-20k", "20 KB & more", CPU, False, samples)
    return Report(this_machine(), 3, 1.0, [rate, cpu], ["varnishd is not installed"])


def test_a_ratio_is_taken_within_each_round(report: Report) -> None:
    assert report.series[0].ratio(GATEWAY, NGINX) == Spread(2.0, 1.2, 3.0)


def test_there_is_no_ratio_to_nothing(report: Report) -> None:
    assert report.series[0].ratio(GATEWAY, VARNISH) is None
    assert report.series[0].ratio(GATEWAY, "another") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 5), st.integers(1, 12))
def test_in_every_round_each_server_has_one_turn(child: Child, count: int, rounds: int) -> None:
    names = [str(n) for n in range(count)]
    made = [Server(name, 1, child, _unsigned) for name in names]
    order = [server.name for server in turns(made, rounds)]
    by_round = [order[n : n + count] for n in range(0, len(order), count)]
    assert all(sorted(one) == names for one in by_round)
    assert len(by_round) == rounds
    if rounds >= 2 * count:
        assert {one[0] for one in by_round} == set(names)


def test_the_values_of_a_server_stand_in_the_rounds_order(child: Child) -> None:
    made = [Server(name, 1, child, _unsigned) for name in "ab"]
    seen: Counter[str] = Counter()

    def measured(server: Server) -> dict[str, float]:
        seen[server.name] += 1
        return {"figure": seen[server.name]}

    assert alternate(made, 3, measured) == {"figure": {"a": [1, 2, 3], "b": [1, 2, 3]}}


def test_a_report_is_read_as_it_was_written(report: Report, tmp_path: Path) -> None:
    write(report, tmp_path / "results.json")
    assert read(tmp_path / "results.json") == report


def test_the_plot_has_a_bar_for_each_measured_peer(report: Report) -> None:
    drawn = ET.fromstring(plot(report))
    bars = [one.get("class") for one in drawn.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == "10"]
    assert bars == ["nginx"]
    assert "20 KB & more" in [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]


def test_the_readme_changes_between_its_marks_alone(report: Report, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    rewrite(readme, "benchmark", rendered(report))
    text = readme.read_text()
    assert text.startswith("before\n<!-- benchmark -->\n|")
    assert text.endswith("<!-- /benchmark -->\nafter\n")
    assert "old" not in text
    assert "| **2.00** (1.20 to 3.00) |" in text
    assert "Varnishd is not installed." in text
    assert "less is better" not in text
    rewrite(readme, "benchmark", rendered(report))
    assert readme.read_text() == text


def test_a_readme_without_marks_is_left_alone(report: Report, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing\n")
    with pytest.raises(BenchmarkFailed):
        rewrite(readme, "benchmark", rendered(report))
    assert readme.read_text() == "nothing\n"


def test_kept_figures_go_into_the_readme_and_the_plot(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "README", tmp_path / "README.md")
    monkeypatch.setattr(benchmarks, "FRONT", tmp_path / "FRONT.md")
    (tmp_path / "README.md").write_text("<!-- benchmark -->\n<!-- /benchmark -->\n")
    (tmp_path / "FRONT.md").write_text("<!-- speed -->\n<!-- /speed -->\n")
    write(report, tmp_path / "results.json")
    words = ["--readme", "--json", str(tmp_path / "results.json"), "--plot", str(tmp_path / "plot.svg")]
    assert benchmarks.main(words) == 0
    assert "20 KB & more" in (tmp_path / "README.md").read_text()
    assert "**2.00** times nginx's rate (1.20 to 3.00" in (tmp_path / "FRONT.md").read_text()
    assert (tmp_path / "plot.svg").read_text() == plot(report)


def test_a_report_without_nginx_has_no_sentence(report: Report) -> None:
    with pytest.raises(BenchmarkFailed, match="hit-20k"):
        sentence(replace(report, series=[]))


def test_a_part_without_servers_is_measured_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "results.json"
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path / "whole.json")
    assert benchmarks.main(["--smoke", "--only", "entries", "--json", str(kept)]) == 0
    assert [series.part for series in read(kept).series] == ["entries"] * 3
    assert not (tmp_path / "whole.json").exists()
    assert "look-up in RAM" in capsys.readouterr().out


def test_servers_that_are_not_installed_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "program", {}.get)
    found, missing = servers.kinds()
    assert [kind.name for kind in found] == [GATEWAY]
    assert [text.split()[0] for text in missing] == ["nginx", "varnishd"]


def test_a_program_that_does_not_listen_fails_with_its_output(tmp_path: Path) -> None:
    with started(["sh", "-c", "echo no such thing"], tmp_path / "log") as said:
        said.process.wait()
        with pytest.raises(BenchmarkFailed, match="no such thing"):
            listening(said, 9)


@pytest.mark.skipif(not can_pin(), reason="this machine has one core")
def test_a_pinned_process_has_one_core_until_it_is_freed() -> None:
    before = cores()
    with pinned(1):
        assert cores() == [before[1]]
    assert cores() == before


def test_the_documents_show_the_figures_that_were_kept() -> None:
    readme = benchmarks.README.read_text("utf-8")
    assert f"<!-- benchmark -->\n{rendered(read(benchmarks.RESULTS))}<!-- /benchmark -->" in readme
    front = benchmarks.FRONT.read_text("utf-8")
    assert f"<!-- speed -->\n{sentence(read(benchmarks.RESULTS))}<!-- /speed -->" in front
    assert benchmarks.PLOT.is_file()
