"""What is told of each question to the webhook: a span, a number, a line of the log if it says no.

Of what is in the object nothing is told but its name, and the paths of fields that are wrong.
"""

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter
from typing import Final, Protocol

import structlog

from ollama_op.admission.review import ERROR, INVALID, AdmissionRequest, AdmissionResponse
from ollama_op.base import tracing
from ollama_op.base.asgi import Scope
from ollama_op.base.tracing import Span, Value

log = structlog.get_logger(__name__)

PATHS: Final = ("/validate", "/mutate")
LONGEST_USER_NAME: Final = 253  # that Kubernetes takes; who asks may be somebody else
SERVER_ERROR: Final = 500


class ObserveReview(Protocol):
    """Is notified of each request: path, operation, result, seconds."""

    def __call__(self, path: str, operation: str, result: str, duration_s: float, /) -> None:
        """Record one request."""


def nobody(_path: str, _operation: str, _result: str, _duration_s: float) -> None:
    """Record one request, and forget it."""


class AdmissionLog:
    """One question, and how it went."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.operation, self.result = "", ERROR
        self.is_answered = False

    def decided(self, request: AdmissionRequest, response: AdmissionResponse) -> None:
        """Record what it was about, and what was decided."""
        self.operation, self.result = request.operation, response.result
        name = request.object.metadata.name[:LONGEST_USER_NAME] if request.object else ""
        namespace = request.namespace[:LONGEST_USER_NAME]
        about: dict[str, Value] = {
            "k8s.namespace.name": namespace,
            "ollama_op.object": name,
            "ollama_op.operation": request.operation[:LONGEST_USER_NAME],
            "ollama_op.allowed": response.allowed,
        }
        if response.status is not None:
            fields = [cause.field for cause in response.status.details.causes]
            about |= {"ollama_op.reason": INVALID, "ollama_op.fields": ", ".join(fields)}
            message = response.status.message
            log.info("object refused", object=f"{namespace}/{name}", problem=message)
        self._span.set(about)

    def answered(self, code: int) -> None:
        """Record what goes back."""
        self.is_answered = True
        self._span.set({"http.response.status_code": code})
        if code >= SERVER_ERROR:
            self._span.fail(str(code), f"HTTP {code}")


@contextmanager
def asked(scope: Scope, observe: ObserveReview) -> Generator[AdmissionLog]:
    """Record one request, as a part of the API server's trace if it keeps one."""
    began, parent = perf_counter(), tracing.sent(scope["headers"])
    method, path = scope["method"], scope["path"]
    about = {"http.request.method": method, "url.path": path}
    name = f"{method} {path}" if path in PATHS else method  # a scanner makes up any path
    with tracing.span(name, about, kind="server", parent=parent, root=parent is None) as span:
        question = AdmissionLog(span)
        yield question
    if question.is_answered:
        observe(path, question.operation, question.result, perf_counter() - began)
