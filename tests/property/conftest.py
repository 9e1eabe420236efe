import sys
from typing import Any

import pytest
import structlog

from support.witness import Violation


def refuse_crashes(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Let no task crash: it would be restarted, and the bug forgotten."""
    if event["event"] == "model task crashed":
        raise Violation(f"a task crashed: {sys.exc_info()[1]!r}")
    raise structlog.DropEvent


@pytest.fixture(autouse=True)
def _no_crash() -> None:
    structlog.configure(processors=[refuse_crashes], cache_logger_on_first_use=False)
