"""docker/prometheus and docker/grafana: that they name what the node exports, and that each alert fires."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from support import program
from support.metrics import NodeAndLostWorker, metrics_of, read_and_sent
from support.node import ROOT

from ainode.node.keeping import database
from ainode.node.keeping.ledger import Ledger
from ainode.node.metrics.course import Course

FOLDER = ROOT / "docker" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "docker" / "grafana" / "ainode.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
_NOT_A_METRIC = re.compile(r'"[^"]*"|\b(?:by|without|on|ignoring)\s*\([^)]*\)|\[[^]]*\]|\{[^}]*\}|\b\w+\s*\(')
_WORDS = {"and", "or", "unless", "sum", "max"}


def named(expression: str) -> set[str]:
    """Return the names of the metrics of an expression: what is left without strings, labels, ranges and functions."""
    bare = _NOT_A_METRIC.sub(" ", expression)
    return {name for name in re.findall(r"[A-Za-z_:][\w:]*", bare) if name not in _WORDS}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the labels of each metric that a node exports."""
    folder = tmp_path_factory.mktemp("node")
    engine, course = database.connect(f"sqlite:///{folder / 'catalog.sqlite'}"), Course(["spine_radiograph"])
    database.migrate(engine)
    read_and_sent(Ledger(engine, course))
    page = metrics_of(engine, course, folder, executors=NodeAndLostWorker(engine)).text()
    engine.dispose()
    labels: dict[str, set[str]] = {"up": {"job", "instance"}}
    for name, braces in re.findall(r"^(\w+)(\{.*\})? ", page, flags=re.MULTILINE):
        labels[name] = set(re.findall(r'(\w+)="', braces)) | {"job", "instance"}
    return labels


def test_the_scan_of_an_expression_finds_its_metrics() -> None:
    expression = 'histogram_quantile(0.9, sum by (route, le) (rate(a_bucket{route="x_y"}[1h]))) > 2 * b and sum(c) > 1'
    assert named(expression) == {"a_bucket", "b", "c"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_of_a_rule_and_of_the_dashboard_is_one_that_the_node_exports(
    exported: dict[str, set[str]], expression: str
) -> None:
    names = named(expression)
    assert names
    assert names <= exported.keys()
    known = set().union(*(exported[name] for name in names))
    assert set(re.findall(r'(\w+)\s*(?:=~|!=|=)\s*"', expression)) <= known
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    assert {label.strip() for group in grouped for label in group.split(",")} <= known


def test_every_legend_names_a_label_of_its_metric(exported: dict[str, set[str]]) -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            known = set().union(*(exported[name] for name in named(target["expr"])))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known, panel["title"]


def test_the_panels_of_the_dashboard_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_reads_its_configuration_and_the_rules(tmp_path: Path) -> None:
    promtool = program("promtool")
    token = tmp_path / "token"
    token.write_text("x")
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    changed = text.replace("/run/secrets/metrics_token", str(token)).replace("alerts.yml", str(FOLDER / "alerts.yml"))
    (tmp_path / "prometheus.yml").write_text(changed)
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_quiet_before_its_cause_and_fires_after_it() -> None:
    promtool = program("promtool")
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    assert [test["name"] for test in tests] == [rule["alert"] for rule in RULES]
    for test in tests:
        samples = [bool(one["exp_samples"]) for one in test["promql_expr_test"]]
        assert samples == [False, True]
        assert all(f'"{test["name"]}"' in one["expr"] for one in test["promql_expr_test"])
    command = [promtool, "test", "rules", FOLDER / "alerts_test.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
