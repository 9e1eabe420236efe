import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
import structlog

from ollama_op.telemetry import set_up_logging


class Terminal(io.StringIO):
    """Standard error, as a person sees it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Undo what is set up for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


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
