"""What every script in findings/ has; they run by hand, as they install what they show."""

import os
import re
from pathlib import Path

import pytest

FINDINGS = Path(__file__).parents[2] / "findings"
SCRIPTS = sorted(FINDINGS.glob("*.sh"))
HEAD = (r"^# Expected:", r"^# Seen:", r"\d+\.\d+\.\d+")
REGISTRIES = r"pypi\.org|pythonhosted|proxy\.golang|index-url|GOPROXY|GONOSUMDB|goproxy"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_finding_says_what_it_shows(script: Path) -> None:
    """It can be run, begins with what was expected and seen of which version, and may fail."""
    assert os.access(script, os.X_OK)
    text = script.read_text()
    first, head, *_ = text.split("\nset -euo pipefail\n")[0].split("\n", 1)
    assert first == "#!/usr/bin/env bash"
    assert [word for word in HEAD if not re.search(word, head, re.MULTILINE)] == []
    assert "exit 1" in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_finding_stands_alone(script: Path) -> None:
    """It names no package registry, which is everybody's own, and nothing of this project."""
    text = script.read_text()
    assert re.findall(REGISTRIES, text) == []
    assert re.findall(r"ollama_op|ollama-op|smithforge", text) == []


def test_each_finding_has_its_line() -> None:
    """The table has every script, once, and no other."""
    lines = (FINDINGS / "README.md").read_text().splitlines()
    linked = [match[1] for line in lines if (match := re.match(r"\| \[[\w-]+\]\((.+?)\)", line))]
    assert sorted(linked) == [script.name for script in SCRIPTS]
    assert linked
