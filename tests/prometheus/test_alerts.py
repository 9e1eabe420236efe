"""The alerts and the dashboard, against Prometheus' own tool and what is really exported."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ollama_op.metrics.served import Admitted
from support.virtual.measured import measured
from support.virtual.world import MB

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config/prometheus"
CASES = Path(__file__).with_name("rules_test.yaml")
GROUPS = yaml.safe_load((CONFIG / "rules.yaml").read_text())["spec"]["groups"]
RULES: dict[str, dict[str, Any]] = {rule["alert"]: rule for g in GROUPS for rule in g["rules"]}
REFERENCE = (ROOT / "docs/reference.md").read_text()
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}


def promtool(*command: str, text: str = "") -> str:
    """Run promtool, which must be content; return what it says."""
    done = subprocess.run(
        ["promtool", *command], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
async def exposition() -> str:
    """Scrape an operator that has pulled and loaded a model, and serves the webhook."""
    async with measured() as m:
        m.w.ollama.publish("m:1", MB)
        await m.w.apply("m", "m:1", spec={"keepAlive": "-1"})
        await m.w.until("m", lambda s: s.get("loaded") is True)
        m.metrics.served.note("/api/v1/models", "GET", 200, 0.001)
        m.metrics.admitted = Admitted(m.w.now)
        return m.text()


async def test_promtool_finds_no_fault_with_the_metrics(exposition):
    """Names, units, help and types are as Prometheus' people want them."""
    assert promtool("check", "metrics", text=exposition) == ""


async def test_what_is_shown_and_warned_of_is_exported(exposition):
    """A metric that was renamed must not leave an alert that can never fire."""
    exported = set()
    for family in text_string_to_metric_families(exposition):
        exported |= {family.name + suffix for suffix in SUFFIXES.get(family.type, [""])}
    asked = [rule["expr"] for rule in RULES.values()]
    panels = json.loads((CONFIG / "dashboard.json").read_text())["panels"]
    asked += [target["expr"] for panel in panels for target in panel.get("targets", [])]
    for expr in asked:
        names = set(re.findall(r"\b(?:ollama_(?:op|api)|process)_\w+", expr))
        assert names, expr
        assert names <= exported, expr


async def test_every_metric_is_explained(exposition):
    """The reference, which is made without an operator, has a row for each and for nothing else.

    With its type and its labels.
    """
    rows = re.findall(
        r"^\| `(ollama_\w+)`(?: †)? \| (\w+) \|.*?\| (.*?) \|", REFERENCE, re.MULTILINE
    )
    said = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(exposition):
        name = family.name + "_total" * (family.type == "counter")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found |= {name: (family.type, labels)} if name.startswith("ollama_") else {}
    assert found == said


def test_the_dashboard_is_what_the_code_makes():
    """Else: just dashboard."""
    render = runpy.run_path(str(CONFIG / "dashboard.py"))["render"]
    assert (CONFIG / "dashboard.json").read_text() == render()


def test_every_alert_fires_when_it_should_and_only_then(tmp_path):
    """Played minute by minute; what is said in words is another test's affair."""
    bare = [{**g, "rules": [without_words(rule) for rule in g["rules"]]} for g in GROUPS]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": bare}))
    shutil.copy(CASES, tmp_path)
    promtool("test", "rules", str(tmp_path / CASES.name))


def without_words(rule: dict[str, Any]) -> dict[str, Any]:
    """Leave the annotations out, which promtool would compare too."""
    return {key: value for key, value in rule.items() if key != "annotations"}


def test_the_rules_are_what_prometheus_reads(tmp_path):
    """With their templates."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": GROUPS}))
    assert f"SUCCESS: {len(RULES)} rules found" in promtool(
        "check", "rules", str(tmp_path / "rules.yaml")
    )


def fired() -> dict[str, set[str]]:
    """Return the labels of each alert that a case expects."""
    labels: dict[str, set[str]] = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for test in case["alert_rule_test"]:
            for alert in test.get("exp_alerts", []):
                labels.setdefault(test["alertname"], set()).update(alert["exp_labels"])
    return labels


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_what_it_is_about(name):
    """One summary for all that are alike; who it is and what follows stands in the description."""
    rule, words = RULES[name], RULES[name]["annotations"]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["for"]
    assert "{{" not in words["summary"]
    assert set(re.findall(r"\$labels\.(\w+)", words["description"])) <= fired()[name]
    assert words["runbook_url"] == f"docs/alerts.md#{name.lower()}"


def test_every_alert_has_its_section():
    """And no section is of an alert that is not there."""
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/alerts.md").read_text(), re.MULTILINE)
    assert headings == list(RULES)
