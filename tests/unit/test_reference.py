import re
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk import resources, trace
from opentelemetry.sdk.trace import export, sampling
from reference import EXITS, OPENTELEMETRY, OTLP, PATH, TRACES, page

from crd.occasions import Occasion
from ollama_op.base import exits

ROOT = Path(__file__).parents[2]
# The SDK reads these; the first has no effect, the others are about itself and of no use here.
IDLE = {"OTEL_BSP_EXPORT_TIMEOUT"}
IDLE |= {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"}


def test_the_reference_is_current():
    """All that has a name is listed as the code has it: `just reference` renders it."""
    assert PATH.read_text(encoding="utf-8") == page()


def test_every_event_has_a_line():
    """With its type and its words, in which no place for a value is left open."""
    lines = re.findall(r"^\| `(\w+)` \| (Normal|Warning) \| (.+) \| (.+) \|$", page(), re.MULTILINE)
    assert [line[:2] for line in lines] == [(each.reason, each.kind) for each in Occasion]
    assert not [line for line in lines if "{" in line[3]]


def test_every_exit_code_is_listed():
    """As the command line names them."""
    codes = {code for name, code in vars(exits).items() if name.startswith("EXIT_")}
    assert set(EXITS) == codes | {0}


def test_every_variable_of_opentelemetry_that_is_read_is_listed():
    """Whether by the operator itself or by the SDK, whose variables come and go."""
    parts = (trace_exporter, trace, export, sampling, resources)
    read = {name for part in parts for name in vars(part) if name.startswith("OTEL_")}
    for path in set((ROOT / "ollama_op").rglob("*.py")):
        read |= set(re.findall(r"OTEL_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
    assert {name.replace(TRACES, OTLP) for name in read} - IDLE == set(OPENTELEMETRY)
