"""The alert rules and the dashboard, against what a gateway really exports and what Prometheus understands."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from proxy.sandbox import Media
from proxy.settings import load
from proxy.telemetry.metrics import FAMILIES
from tests.documents import OBSERVABILITY, ROOT, rows
from tests.functional.harness import Gateways
from tests.functional.scraping import scrape

FOLDER = ROOT / "deploy/observability"
# What Prometheus itself gives every series of a scrape.
SCRAPED = frozenset({"job", "instance"})
FUNCTIONS = frozenset(
    {"avg_over_time", "changes", "count", "histogram_quantile", "increase", "rate", "sum", "time", "vector"}
)
WORDS = FUNCTIONS | {"and", "or", "by", "on", "offset"}

# --- what is shipped --------------------------------------------------------------------------------------------


class Rule(msgspec.Struct, forbid_unknown_fields=True, rename={"hold": "for"}):
    expr: str
    record: str = ""
    alert: str = ""
    hold: str = "0s"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Group(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    rules: list[Rule]


class RuleFile(msgspec.Struct, forbid_unknown_fields=True):
    groups: list[Group]


class Place(msgspec.Struct, forbid_unknown_fields=True):
    x: int
    y: int
    w: int
    h: int

    def meets(self, other: Place) -> bool:
        across = self.x < other.x + other.w and other.x < self.x + self.w
        return across and self.y < other.y + other.h and other.y < self.y + self.h


class Target(msgspec.Struct):
    expr: str
    legend: str = msgspec.field(name="legendFormat")


class Panel(msgspec.Struct):
    id: int
    title: str
    place: Place = msgspec.field(name="gridPos")
    targets: list[Target] = []


class Variable(msgspec.Struct):
    name: str
    definition: str = ""


class Templating(msgspec.Struct):
    variables: list[Variable] = msgspec.field(name="list")


class Annotation(msgspec.Struct):
    expr: str
    text: str = msgspec.field(name="textFormat")


class Annotations(msgspec.Struct):
    marks: list[Annotation] = msgspec.field(name="list")


class Dashboard(msgspec.Struct):
    panels: list[Panel]
    templating: Templating
    annotations: Annotations


RULES = [
    rule
    for group in msgspec.yaml.decode((FOLDER / "alerts.yaml").read_bytes(), type=RuleFile).groups
    for rule in group.rules
]
ALERTS = [rule for rule in RULES if rule.alert]
RECORDS = {rule.record: rule for rule in RULES if rule.record}
DASHBOARD = msgspec.json.decode((FOLDER / "dashboard.json").read_bytes(), type=Dashboard)


def drawn() -> list[Target]:
    """Return every query of the dashboard with the legend that its series get."""
    marks = [Target(mark.expr, mark.text) for mark in DASHBOARD.annotations.marks]
    return [target for panel in DASHBOARD.panels for target in panel.targets] + marks


def filled_in(expression: str) -> str:
    """Return a query of the dashboard as Grafana sends it."""
    for name, value in {"$__rate_interval": "1m", "$job": "media-gateway", "$instance": ".+"}.items():
        expression = expression.replace(name, value)
    return expression


EXPRESSIONS = [rule.expr for rule in RULES] + [filled_in(target.expr) for target in drawn()]

# --- PromQL, as far as it is used here --------------------------------------------------------------------------

_MATCHER = re.compile(r'(?P<label>\w+)(?P<operator>=~|!~|!=|=)"(?P<value>[^"]*)"')
_SELECTOR = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)\{(?P<matchers>[^}]*)\}")
_LABELS = re.compile(r"\b(?:by|on) \((?P<labels>[\w, ]*)\)")
_BARE = re.compile(r"\b(?P<name>[a-zA-Z_][\w:]*:[\w:]*|media_gateway_\w+)")
_DURATION = re.compile(r"\[?\b\d+[smhd]\b\]?")
_WORD = re.compile(r"[a-zA-Z_]\w*")


@dataclass(frozen=True)
class Query:
    """The series that an expression reads, with their matchers, and the labels that it names beside them."""

    selectors: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]
    labels: frozenset[str]
    rest: str

    @classmethod
    def of(cls, text: str) -> Query:
        found: list[tuple[str, tuple[tuple[str, str, str], ...]]] = []
        for selector in _SELECTOR.finditer(text):
            parts = selector["matchers"].split(", ")
            matchers = [_MATCHER.fullmatch(part) for part in parts]
            assert all(matchers), f"{selector['matchers']!r} is not understood"
            found.append((selector["name"], tuple((m["label"], m["operator"], m["value"]) for m in matchers if m)))
        rest = _SELECTOR.sub(" ", text)
        labels = {label.strip() for match in _LABELS.finditer(rest) for label in match["labels"].split(",")}
        rest = _LABELS.sub(" by ", rest)
        found += [(match["name"], ()) for match in _BARE.finditer(rest)]
        rest = _DURATION.sub(" ", _BARE.sub(" ", rest))
        return cls(tuple(found), frozenset(labels), rest)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.selectors)


def values_of(label: str) -> frozenset[str]:
    """Return what that label can be, in any metric that has it."""
    return frozenset(
        combination[family.labels.index(label)]
        for family in FAMILIES
        if label in family.labels
        for combination in family.values
    )


@pytest.fixture
async def exported(gateways: Gateways, photo: Media, tmp_path: Path) -> Mapping[str, frozenset[str]]:
    """Return the names that a gateway shows, each with its labels."""
    place = tmp_path / "metrics.sock"
    gateway = await gateways.start(GATEWAY_METRICS_LISTEN=f"unix:{place}")
    assert (await gateway.get(gateway.link(photo.ref))).status == 200
    scraped = await scrape(place)
    found: dict[str, frozenset[str]] = {"up": SCRAPED}
    for name, labels in scraped.samples:
        found[name] = found.get(name, SCRAPED) | {label for label, _ in labels}
    return found


def labels_of(query: Query, exported: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the labels of all series that an expression reads, those of the recorded ones among them."""
    return frozenset[str]().union(
        *(Query.of(RECORDS[name].expr).labels if name in RECORDS else exported[name] for name in query.names)
    )


# --- names and labels -------------------------------------------------------------------------------------------


async def test_every_name_and_label_is_one_that_a_gateway_exports(exported: Mapping[str, frozenset[str]]) -> None:
    for expression in EXPRESSIONS:
        query = Query.of(expression)
        assert query.names, f"{expression!r} reads nothing"
        assert query.names <= exported.keys() | RECORDS.keys(), expression
        for name, matchers in query.selectors:
            assert {label for label, _, _ in matchers} <= exported.get(name, SCRAPED), expression
        assert query.labels <= labels_of(query, exported), expression


async def test_annotations_use_labels_that_their_alert_or_line_has(
    exported: Mapping[str, frozenset[str]],
) -> None:
    said = [(rule.expr, re.findall(r"\$labels\.(\w+)", " ".join(rule.annotations.values()))) for rule in ALERTS]
    said += [(filled_in(target.expr), re.findall(r"\{\{(\w+)\}\}", target.legend)) for target in drawn()]
    for expression, labels in said:
        query = Query.of(expression)
        assert set(labels) <= (query.labels or labels_of(query, exported)), expression


def matched() -> Iterator[tuple[str, str]]:
    """Yield every label with each value that a matcher names."""
    for expression in EXPRESSIONS:
        for _, matchers in Query.of(expression).selectors:
            for label, _, value in matchers:
                if label not in SCRAPED:
                    yield from ((label, alternative) for alternative in value.split("|"))


def test_every_matched_value_is_one_the_label_can_have() -> None:
    named = sorted(set(matched()))
    assert len(named) > 15
    for label, value in named:
        assert any(re.fullmatch(value, possible) for possible in values_of(label)), f"{label}={value}"


def test_nothing_in_an_expression_is_unknown() -> None:
    for expression in EXPRESSIONS:
        assert set(_WORD.findall(Query.of(expression).rest)) <= WORDS, expression


@pytest.mark.parametrize(
    "expression", ["rate(media_gateway_fills{tier='disk'}[5m])", "sum(media_gateway_fills{tier=disk})"]
)
def test_a_matcher_that_is_not_understood_is_an_error(expression: str) -> None:
    with pytest.raises(AssertionError, match="is not understood"):
        Query.of(expression)


def test_the_dashboard_shows_every_metric() -> None:
    variables = " ".join(variable.definition for variable in DASHBOARD.templating.variables)
    shown = {name for target in drawn() for name in Query.of(filled_in(target.expr)).names} | Query.of(variables).names
    for family in FAMILIES:
        of_a_histogram = {family.exported + suffix for suffix in ("_bucket", "_count")}
        assert shown & (of_a_histogram | {family.exported}), family.exported


# --- the alerts -------------------------------------------------------------------------------------------------


def test_every_alert_has_its_line_in_the_runbook() -> None:
    names = [rule.alert for rule in ALERTS]
    assert len(set(names)) == len(names)
    assert [row[0] for row in rows(OBSERVABILITY, "Alerts", "alert")] == names


def test_every_alert_says_its_subject_and_its_severity() -> None:
    for rule in ALERTS:
        assert rule.labels["severity"] in {"critical", "warning"}, rule.alert
        assert rule.annotations["summary"].endswith("."), rule.alert
        assert rule.annotations.keys() <= {"summary", "description"}, rule.alert


def test_thresholds_are_four_fifths_of_the_limits() -> None:
    limits = load({}).limits
    thresholds = {
        rule.alert: int(rule.expr.rpartition(" > ")[2]) for rule in ALERTS if rule.alert.endswith("NearLimit")
    }
    # Of the fills, one account has at most half.
    assert thresholds == {
        "MediaGatewayFillsNearLimit": limits.fills // 2 * 4 // 5,
        "MediaGatewayConnectionsNearLimit": limits.connections * 4 // 5,
    }


def test_every_alert_is_seen_to_fire() -> None:
    tests = (FOLDER / "alerts.test.yaml").read_text()
    assert set(re.findall(r'alertname="(\w+)"', tests)) == {rule.alert for rule in ALERTS}


# --- as Prometheus reads them -----------------------------------------------------------------------------------


def promtool(program: str, *arguments: str) -> None:
    done = subprocess.run([program, *arguments], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.system("promtool")
def test_prometheus_takes_the_rules(program_path: Callable[[str], str]) -> None:
    promtool(program_path("promtool"), "check", "rules", "alerts.yaml")


@pytest.mark.system("promtool")
def test_alerts_fire_when_they_should_and_not_otherwise(program_path: Callable[[str], str]) -> None:
    promtool(program_path("promtool"), "test", "rules", "alerts.test.yaml")


@pytest.mark.system("promtool")
def test_prometheus_takes_every_query_of_the_dashboard(program_path: Callable[[str], str], tmp_path: Path) -> None:
    queries = [{"record": f"query:{place}", "expr": filled_in(target.expr)} for place, target in enumerate(drawn())]
    assert not [query for query in queries if "$" in query["expr"]]
    path = tmp_path / "queries.yaml"
    path.write_bytes(msgspec.yaml.encode({"groups": [{"name": "dashboard", "rules": queries}]}))
    promtool(program_path("promtool"), "check", "rules", str(path))


# --- the dashboard's own form -----------------------------------------------------------------------------------


def test_panels_lie_side_by_side_within_the_width() -> None:
    places = [panel.place for panel in DASHBOARD.panels]
    for number, place in enumerate(places):
        assert 0 <= place.x < place.x + place.w <= 24
        assert not [other for other in places[:number] if place.meets(other)]
    assert len({panel.id for panel in DASHBOARD.panels}) == len(places)


def test_every_variable_of_a_query_is_defined() -> None:
    defined = {variable.name for variable in DASHBOARD.templating.variables} | {"__rate_interval"}
    text = (FOLDER / "dashboard.json").read_text()
    assert set(re.findall(r"\$\{?(\w+)", text)) == defined
