"""What is loaded, and when: time and memory for those who use it, and for nobody else.

One process imports in stages, and says after each what there is.
"""

import subprocess
import sys
from typing import Final

import pytest

STAGES: Final = {
    "help": "import ollama_op.cli.commands, ollama_op.app.process",
    "run": "import ollama_op.app.operator",
    "webhook": "import ollama_op.admission.webhook",
    "rest": "import api.app, ollama_op.rest.serving",
}
MADE_BY: Final = "ollama_op.admission.certificates"


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Return the modules that are there after each stage."""
    script = "import sys\n" + "".join(f"{each}\nprint(*sys.modules)\n" for each in STAGES.values())
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return {
        stage: {*line.split()} for stage, line in zip(STAGES, done.stdout.splitlines(), strict=True)
    }


@pytest.mark.parametrize(
    ("stage", "library"),
    [
        ("webhook", "litestar"),  # takes half a second
        ("rest", "opentelemetry"),
        ("rest", "prometheus_client"),
        ("rest", "ollama_op.metrics"),
        ("rest", MADE_BY),  # the certificates may come from elsewhere
    ],
)
def test_what_is_not_turned_on_is_not_loaded(
    loaded: dict[str, set[str]], stage: str, library: str
) -> None:
    """Neither at this stage nor before it."""
    found = loaded[stage]
    assert [name for name in found if name == library or name.startswith(f"{library}.")] == []


def test_what_is_turned_on_is_loaded(loaded: dict[str, set[str]]) -> None:
    """The check above can fail."""
    assert "litestar" in loaded["rest"]
    assert "litestar" not in loaded["webhook"]
