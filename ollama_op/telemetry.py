"""Logs: one line per change of mind; JSON for machines, columns for people."""

import logging
import math
import sys
import time

import structlog
from structlog.typing import Processor

EXPORTERS = "opentelemetry."
QUIET_S = 300.0


class _Exports(logging.Filter):
    """Says once in a while that traces do not arrive: the SDK tells of each try and each batch."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the first line about it through, as a warning: nothing of ours has failed."""
        if not record.name.startswith(EXPORTERS):
            return True
        if record.levelno < logging.WARNING or time.monotonic() - self._told_at < QUIET_S:
            return False
        self._told_at = time.monotonic()
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = f"traces not sent: {record.getMessage()}", ()
        record.exc_info = record.exc_text = None
        return True


def set_up_logging(level: str, style: str) -> None:
    """Send every log, our own and the libraries', to stderr in one form.

    `style` auto means text on a terminal and JSON elsewhere.
    """
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("%H:%M:%S" if text else "iso", utc=not text, key="ts"),
    ]
    render: list[Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                timestamp_key="ts",
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
        if text
        else [
            structlog.processors.ExceptionRenderer(
                # The values of variables may be secrets.
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.EventRenamer("msg"),
            structlog.processors.JSONRenderer(),
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
    handler.addFilter(_Exports())
    # What libraries have to say at info is about their insides.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
