import io
import json
import logging
import re
import subprocess
import sys
import types

import pytest
import structlog
from opentelemetry import trace

from ollama_op.base.logs import set_up_logging


class Terminal(io.StringIO):
    """Standard error, as a person sees it."""

    def isatty(self) -> bool:
        return True


def lines(capsys) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_away_from_a_terminal_a_line_is_an_object(capsys):
    """With a time in UTC, a level and a message, and whatever else was said."""
    set_up_logging("info", "auto")
    structlog.get_logger().info("pull completed", model="llama3.2:1b", size_bytes=7)
    (line,) = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("ts"))
    assert line == {
        "level": "info",
        "msg": "pull completed",
        "model": "llama3.2:1b",
        "size_bytes": 7,
    }


def test_on_a_terminal_a_line_is_text(monkeypatch):
    """With the time of day."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    set_up_logging("info", "auto")
    structlog.get_logger().info("pull completed", model="llama3.2:1b")
    text = re.sub(r"\x1b\[[0-9;]*m", "", sys.stderr.getvalue())
    assert re.match(r"\d\d:\d\d:\d\d \[info +\] pull completed +model=llama3.2:1b\n", text)


def test_a_kubernetes_newer_than_a_library_is_not_news():
    """Of every other warning a line is written."""
    code = """if True:
        import warnings
        from ollama_op.base.logs import set_up_logging
        set_up_logging("info", "json")
        warnings.warn("Kubernetes version v1.36.3 is not supported. Supported versions are")
        warnings.warn("Unable to parse Kubernetes version x")
    """
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert "Unable to parse" in json.loads(line)["msg"]


@pytest.mark.parametrize(("style", "form"), [("text", r"\d\d:.* hello\n"), ("json", r"\{.*\}\n")])
def test_the_form_can_be_chosen(capsys, style, form):
    """Away from a terminal, text has no colours."""
    set_up_logging("info", style)
    structlog.get_logger().info("hello")
    text = capsys.readouterr().err
    assert re.fullmatch(form, text)
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_important_lines_are_left_out(capsys, level, said):
    """Of our own, as the flag says."""
    set_up_logging(level, "json")
    log = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("hello")
    assert [line["level"] for line in lines(capsys)] == said


@pytest.mark.parametrize("level", ["debug", "error"])
def test_libraries_speak_in_the_same_form_when_it_matters(capsys, level):
    """Their insides stay inside."""
    set_up_logging(level, "json")
    logging.getLogger("httpx").info("HTTP Request: GET")
    logging.getLogger("kr8s").warning("version %s", "x")
    (line,) = lines(capsys)
    assert (line["level"], line["msg"]) == ("warning", "version x")


def crash(token: str) -> None:
    headers = {"authorization": token}
    raise ZeroDivisionError(len(headers))


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_crash_is_told_without_the_values_of_variables(monkeypatch, style, terminal):
    """Among them are headers and keys, and logs are read by many."""
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    set_up_logging("info", style)
    for log in (structlog.get_logger(), logging.getLogger("library")):
        try:
            crash("hunter2")
        except ZeroDivisionError:
            log.exception("model task crashed")
    text = sys.stderr.getvalue()
    assert text.count("ZeroDivisionError") >= 2
    assert "crash" in text
    assert '"hunter2"' not in text.replace('crash("hunter2")', "")
    assert "'hunter2'" not in text


# --- what a line cannot do

HOSTILE = [
    "x\n12:00:00 [error    ] forged",
    "x\r12:00:00 [error    ] forged",
    "\x1b[2J\x1b]0;title\x07",
    "a\x9bb\x7fc\x85d",
    "line\u2028line\u2029line",
    "\u202egnp.exe\u2066\u200f",
    "\x00\x0b\x0c\x1c\x1d\x1e",
    "with = and \n and 'quotes' \x1b",
    "\ud800",
]


class Rude:
    """Something whose representation is not one line."""

    def __repr__(self) -> str:
        return "rude\n\x1b[31m"


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("value", [*HOSTILE, HOSTILE, {"key": HOSTILE[0]}, Rude()])
def test_nobody_can_forge_a_line_or_drive_a_terminal(capsys, style, value):
    """Not in a value, not in the text, not through a library."""
    set_up_logging("info", style)
    structlog.get_logger().info("hello", value=value)
    structlog.get_logger().info(f"hello {value}")
    logging.getLogger("library").warning("hello %s", value)
    text = capsys.readouterr().err
    assert text.count("\n") == 3 == len(text.splitlines())
    assert all(char == "\n" or char.isprintable() for char in text)
    assert len([line for line in text.splitlines() if line[0] in "0123456789{"]) == 3


def fail(message: str) -> None:
    raise ValueError(message)


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("message", HOSTILE)
def test_an_exception_cannot_forge_a_line(capsys, style, message):
    """Its lines are indented, in text; as JSON it is part of one."""
    set_up_logging("info", style)
    for log in (structlog.get_logger(), logging.getLogger("library")):
        try:
            fail(message)
        except ValueError:
            log.exception("crashed")
    text = capsys.readouterr().err
    assert len([line for line in text.splitlines() if not line.startswith("    ")]) == 2
    assert all(char == "\n" or char.isprintable() for char in text)


def test_what_can_be_seen_is_left_as_it_is(capsys):
    """In any language."""
    set_up_logging("info", "text")
    structlog.get_logger().info("grüße", model="模型:1b", problem="a 'b' c", size_bytes=7)
    text = capsys.readouterr().err
    assert "grüße" in text
    assert "model=模型:1b" in text
    assert "size_bytes=7" in text
    assert "problem=\"a 'b' c\"" in text


def test_what_is_escaped_is_escaped_once(capsys):
    """To be read by people, after all."""
    set_up_logging("info", "text")
    structlog.get_logger().info("hello", value="a b\n\x1b")
    assert "value='a b\\n\\x1b'\n" in capsys.readouterr().err


def test_json_gives_back_what_was_said(capsys):
    """Whatever it was."""
    set_up_logging("info", "json")
    for value in HOSTILE[:-1]:
        structlog.get_logger().info("hello", value=value)
    assert [line["value"] for line in lines(capsys)] == HOSTILE[:-1]


# --- traces


def test_a_line_inside_a_span_names_it(capsys):
    """As W3C writes them; outside of one there is nothing to name."""
    set_up_logging("info", "json")
    context = trace.SpanContext(0xAB, 0xCD, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        structlog.get_logger().info("inside")
        logging.getLogger("library").warning("inside")
    structlog.get_logger().info("outside")
    *inside, outside = lines(capsys)
    assert {(line["trace_id"], line["span_id"]) for line in inside} == {
        ("ab".zfill(32), "cd".zfill(16))
    }
    assert not {"trace_id", "span_id"} & set(outside)


@pytest.mark.parametrize("module", [None, types.ModuleType("half imported")])
def test_without_tracing_nothing_is_imported_for_it(capsys, monkeypatch, module):
    """Nor expected to be whole while somebody else imports it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", module)
    set_up_logging("info", "json")
    structlog.get_logger().info("hello")
    (line,) = lines(capsys)
    assert "trace_id" not in line
    assert sys.modules["opentelemetry.trace"] is module


def test_what_opentelemetry_complains_of_is_said_once_in_our_words(capsys):
    """Its own words repeat headers and addresses, in which keys can be."""
    set_up_logging("info", "json")
    for _ in range(3):
        logging.getLogger("opentelemetry.exporter.otlp").error("refused http://u:hunter2@host")
        logging.getLogger("opentelemetry.util.re").warning("Header format invalid: %s", "hunter2")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["msg"].partition(";")[0]) for line in lines] == [
        ("warning", "traces not sent"),
        ("warning", "something for OpenTelemetry is not taken as it is"),
    ]
    assert "hunter2" not in str(lines)
