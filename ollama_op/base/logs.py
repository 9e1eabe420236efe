"""Logs: one line per change of mind; JSON for machines, columns for people.

What a line says may come from anybody: names, annotations, the answers of servers. Whatever is in
it, one line stays one line, and a terminal that shows it is told nothing but characters.
"""

import json
import logging
import math
import sys
import time
import warnings
from io import StringIO
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from crd.resource import Stored

SENDING: Final = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
NOT_SENT: Final = "traces not sent; ollama-op doctor says why"
NOT_TAKEN: Final = (
    "something for OpenTelemetry is not taken as it is; see OTEL_* in the environment"
)
QUIET_S: Final = 300.0  # after a word about either


def about(model: Stored) -> dict[str, Any]:
    """Return what every line about a model has, so that it can be found by any of it."""
    meta = model.metadata
    return {
        "object": f"{meta.namespace}/{meta.name}",
        "uid": meta.uid,
        "generation": meta.generation,
    }


class _Tracing(logging.Filter):
    """Says in our words, once in a while, what OpenTelemetry complains of.

    It tells of each try and each batch, and repeats headers and addresses, which hold keys.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the first line about it through, as a warning: nothing of ours has failed."""
        if not record.name.startswith("opentelemetry."):
            return True
        if record.levelno < logging.WARNING:
            return False
        is_sending = record.name.startswith(SENDING)
        message = NOT_SENT if is_sending else f"{NOT_TAKEN} ({record.name})"
        if time.monotonic() - self._told_at.get(message, -math.inf) < QUIET_S:
            return False
        self._told_at[message] = time.monotonic()
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = message, ()
        record.exc_info = record.exc_text = None
        return True


def set_up_logging(level: str, style: str) -> None:
    """Send every log, our own and the libraries', to stderr in one form.

    `style` auto means text on a terminal and JSON elsewhere.
    """
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_span,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("%H:%M:%S" if text else "iso", utc=not text, key="ts"),
    ]
    render: list[Processor] = (
        [
            escape,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                timestamp_key="ts",
                exception_formatter=write_traceback,
            ),
        ]
        if text
        else [
            structlog.processors.ExceptionRenderer(
                # The values of variables may be secrets.
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.EventRenamer("msg"),
            structlog.processors.JSONRenderer(serializer=_as_json),
        ]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    handler.addFilter(_Tracing())
    # What libraries have to say at info is about their insides.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    # kr8s says so of each that came after it; what is asked of one here has been there for long.
    warnings.filterwarnings("ignore", message="Kubernetes version .* is not supported")


def add_span(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Name the span in which the line is written, where something is traced at all."""
    trace = sys.modules.get("opentelemetry.trace")  # not imported for this: it takes its time
    if current := getattr(trace, "get_current_span", None):
        span = current().get_span_context()
        if span.is_valid:
            line["trace_id"], line["span_id"] = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    return line


def escape(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    r"""Write what is no visible character as Python does: \n, \x1b, \u2028, \u202e."""
    for key, value in line.items():
        if key == "event":
            line[key] = _visible(str(value))
        elif key != "exc_info":
            text = value if isinstance(value, str) else repr(value)
            if not text.isprintable():
                line[key] = _AsIs(repr(text) if isinstance(value, str) else _visible(text))
    return line


class _AsIs:
    """Text that is not to be quoted once more."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def write_traceback(out: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback, each of its lines indented: none can pass for a line of the log."""
    whole = StringIO()
    structlog.dev.plain_traceback(whole, exc_info)
    lines = whole.getvalue().strip("\n").split("\n")
    out.writelines(f"\n    {_visible(line)}" for line in lines)


def _as_json(line: EventDict, **how: Any) -> str:
    # JSON escapes all that is not ASCII, and all control characters of ASCII but this one.
    return json.dumps(line, **how).replace("\x7f", "\\u007f")
