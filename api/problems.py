"""Every way in which a request can fail: the types of problem, and how one is told.

The table is public API: a type keeps its name, its title and its status. It is served as a page at
/docs/problems, where each `type` has its anchor.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from html import escape
from typing import Final

import msgspec

from api.bodies import FieldProblem, ProblemBody
from api.guide import frame, inline
from ollama_op.base.asgi import JSON_PROBLEM, NO_STORE, Answer, Header

PROBLEM_PAGE: Final = "/docs/problems"


class Kind(Enum):
    """A type of problem: status, title, and what to do about it."""

    BAD_REQUEST = 400, "Request not understood", (
        "The body is no JSON of the expected form, or a parameter has a value that it cannot have."
        " `errors` names the field and says what it takes."
    )  # fmt: skip
    UNAUTHORIZED = 401, "Key required", (
        "Send a valid key in the header `X-API-Key`, or a bearer token where the operator was"
        " started with --api-server-kubernetes-auth."
    )  # fmt: skip
    FORBIDDEN = 403, "Not permitted", (
        "The key, or the token's owner, may not do this, or not in this namespace."
    )  # fmt: skip
    MODEL_NOT_FOUND = 404, "Model not found", (
        "There is no OllamaModel of this name in the namespace. `?namespace=` names another one."
    )  # fmt: skip
    NAMESPACE_NOT_FOUND = 404, "Namespace not found", (
        "Models are made in namespaces that exist. Ask the cluster's administrator for one."
    )  # fmt: skip
    PATH_NOT_FOUND = 404, "Nothing here", "No such path; all of them are at /docs."
    METHOD_NOT_ALLOWED = 405, "Method not allowed", (
        "The path exists, but not with this method. The header `Allow` lists those that do."
    )  # fmt: skip
    MODEL_EXISTS = 409, "Model exists", (
        "There is an OllamaModel of this name. Change it with PATCH, delete it first, or give"
        " another `resourceName`."
    )  # fmt: skip
    CONFLICT = 409, "Changed meanwhile", (
        "Somebody else changed the model at the same time. Nothing was done: ask again."
    )  # fmt: skip
    PRECONDITION_FAILED = 412, "Not that version", (
        "The model is no longer what `If-Match` says. Read it, and decide again."
    )  # fmt: skip
    TOO_LARGE = 413, "Body too large", "A body may have 64 KiB."
    UNSUPPORTED_MEDIA_TYPE = 415, "Media type not supported", (
        "Bodies are `application/json`; PATCH also takes `application/merge-patch+json`."
    )  # fmt: skip
    INVALID = 422, "Not possible", (
        "The request has the right form, but is invalid: a name that Ollama does not take, a"
        " time zone that does not exist. `errors` names the field and says what it takes."
    )  # fmt: skip
    TOO_MANY_FAILURES = 429, "Too many failures", (
        "Too many different wrong keys came from this address. The header `Retry-After` says for"
        " how many seconds no key is looked at."
    )  # fmt: skip
    INTERNAL = 500, "Internal error", "A bug. The operator's log has the details."
    KUBERNETES_UNAVAILABLE = 503, "Kubernetes unavailable", (
        "The Kubernetes API did not take the write. Reads go on from what is known; try the write"
        " again after the seconds in `Retry-After`."
    )  # fmt: skip
    KUBERNETES_DENIES = 503, "Operator not permitted", (
        "Kubernetes does not let the operator's own account do this. Its administrator has to"
        " grant it; the operator's log says what is missing."
    )  # fmt: skip
    NOT_READY = 503, "Not ready", (
        "The operator has not seen all models yet. Try again after the seconds in `Retry-After`."
    )  # fmt: skip
    OLLAMA_UNAVAILABLE = 503, "Ollama unavailable", (
        "The Ollama server does not answer, so nobody knows what is on it."
    )  # fmt: skip

    def __init__(self, status: int, title: str, help_text: str) -> None:
        self.status, self.title, self.help = status, title, help_text

    @property
    def slug(self) -> str:
        """The anchor on the page."""
        return self.name.lower().replace("_", "-")


class Problem(Exception):
    """A request is not served. `detail` is read by whoever sent it."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.fields = kind, detail, tuple(fields)
        self.headers = headers or {}

    def body(self, path: str, prefix: str = "") -> ProblemBody:
        """Return what the client is told; `path`, below `prefix`, is what was asked for."""
        return ProblemBody(
            type=f"{prefix}{PROBLEM_PAGE}#{self.kind.slug}",
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            instance=prefix + path,
            error=self.detail,
            errors=tuple(FieldProblem(*field) for field in self.fields),
        )

    def answer(self, path: str, prefix: str = "") -> Answer:
        """Return the answer."""
        more: list[Header] = [(k.lower().encode(), v.encode()) for k, v in self.headers.items()]
        body = msgspec.json.encode(self.body(path, prefix))
        return Answer(self.kind.status, body, (JSON_PROBLEM, NO_STORE, *more))


def bad_field(field: str, message: str) -> Problem:
    """Return the 400 about one field or parameter."""
    return Problem(Kind.BAD_REQUEST, f"{field}: {message}", fields=[(field, message)])


def invalid_field(field: str, message: str) -> Problem:
    """Return the 422 about one field."""
    return Problem(Kind.INVALID, f"{field}: {message}", fields=[(field, message)])


def problem_page() -> bytes:
    """Render the page that explains all of them."""
    links = [f'<a href="#{kind.slug}">{kind.slug}</a>' for kind in Kind]
    article = [
        "<h1>What can go wrong</h1>",
        "<p>An answer with status 400 or above is a <code>problem+json</code> of such a type.</p>",
    ]
    for kind in Kind:
        article.append(f'<h3 id="{kind.slug}">{kind.slug}</h3>')
        article.append(f"<p>{kind.status} {escape(kind.title)}. {inline(kind.help)}</p>")
    return frame("What can go wrong", links, article).encode()
