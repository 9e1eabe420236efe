"""From what Kubernetes said to what the client is told. No foreign text but about their fields."""

import math
from typing import Final

import structlog

from api.problems import Kind, Problem
from ollama_op.base.errors import Conflict, KubeError, KubeUnreachable, NotFound, NotPermitted

log = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 5


def as_problem(
    error: KubeError, name: str = "", namespace: str = "", *, new: bool = False
) -> Problem:
    """Return the problem that a failed write is; `new` is for one that creates."""
    match error:
        case KubeUnreachable():
            return _unavailable(error)
        case NotPermitted() if not error.by_admission:  # the operator's own account
            log.error("kubernetes denies the rest api a write", problem=str(error))
            return Problem(
                Kind.KUBERNETES_DENIES,
                "Kubernetes does not let the operator do this.",
                headers={"retry-after": str(12 * RETRY_AFTER_S)},
            )
        case NotFound() if new:
            return Problem(Kind.NAMESPACE_NOT_FOUND, f"There is no namespace {namespace!r}.")
        case NotFound():
            return no_model(name, namespace)
        case Conflict(reason="AlreadyExists"):
            detail = f"There is an OllamaModel {name!r} in namespace {namespace!r} already."
            return Problem(Kind.MODEL_EXISTS, detail)
        case Conflict():
            return Problem(Kind.CONFLICT, f"{name!r} was changed by somebody else just now.")
        case _ if error.fields:
            detail = "; ".join(f"{field}: {message}" for field, message in error.fields)
            return Problem(Kind.INVALID, detail, fields=error.fields)
        case _:
            log.warning("kubernetes refuses a write of the rest api", problem=str(error))
            return Problem(Kind.INVALID, "Kubernetes does not take this object.")


def no_model(name: str, namespace: str) -> Problem:
    """Return the 404 about a model."""
    detail = f"No OllamaModel {name!r} in namespace {namespace!r}."
    return Problem(Kind.MODEL_NOT_FOUND, detail)


def _unavailable(error: KubeUnreachable) -> Problem:
    log.warning("kubernetes takes no write of the rest api", problem=str(error))
    wait_s = max(RETRY_AFTER_S, math.ceil(error.retry_after_s))
    return Problem(
        Kind.KUBERNETES_UNAVAILABLE,
        "The Kubernetes API does not answer; nothing is known to be changed.",
        headers={"retry-after": str(wait_s)},
    )
