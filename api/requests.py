"""Reads what a request says: its query, its body, whom it is about. Wrong ones become Problems."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from msgspec import UNSET, Meta, UnsetType

from api.access import Caller
from api.bodies import NAMESPACE_PATTERN, OBJECT_NAME, Namespace
from api.problems import Kind, Problem, bad_field
from crd.door import problems
from crd.form import ALIEN, complaint
from crd.v1alpha1 import UNREADABLE, OllamaModelSpec, State

T = TypeVar("T")

MAX_BODY: Final = 64 << 10
JSON_TYPES: Final = frozenset({"application/json"})
_NAMESPACE: Final = re.compile(NAMESPACE_PATTERN.strip("^$"))
_OBJECT: Final = re.compile(OBJECT_NAME.strip("^$"))
# What a name takes, by its field.
TAKES: Final = {
    "namespace": "is no name of a namespace; write at most 63 of a-z, 0-9 and -, as in my-team",
    "resourceName": "is no name of an object; write a-z, 0-9, - and . as in llama3.2-1b",
}
PATCH_TYPES: Final = JSON_TYPES | {"application/merge-patch+json"}


class OneQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What can be said about the model that a path names.

    What is not known is refused: DELETE with a misspelt `namespace` would hit another model.
    """

    namespace: Namespace | UnsetType = UNSET


class WriteQuery(OneQuery, rename="camel", forbid_unknown_fields=True):
    """What can be said about a write."""

    dry_run: Annotated[
        bool, Meta(description="Ask Kubernetes for its verdict, and change nothing.")
    ] = False


class ListQuery(OneQuery, rename="camel", forbid_unknown_fields=True):
    """What a list can be narrowed to."""

    state: Annotated[State | UnsetType, Meta(description="Only models in this state.")] = UNSET
    q: Annotated[
        str, Meta(max_length=200, description="Only models with this text in their name or reason.")
    ] = ""
    limit: Annotated[int, Meta(ge=1, le=10_000, description="At most so many.")] | UnsetType = UNSET
    continue_: (
        Annotated[str, Meta(min_length=1, description="Those that follow; from the page before.")]
        | UnsetType
    ) = msgspec.field(default=UNSET, name="continue")


class EventsQuery(OneQuery, rename="camel", forbid_unknown_fields=True):
    """What a stream of events can be narrowed to."""


def read_query(request: Request[Caller, Any, Any], kind: type[T]) -> T:
    """Read the query.

    Raises: Problem 400.
    """
    pairs = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    try:
        return msgspec.convert(dict(pairs), kind, strict=False)
    except msgspec.ValidationError as error:
        raise unreadable(error, dict(pairs), kind) from None


async def read_body(
    request: Request[Caller, Any, Any],
    kind: type[T],
    media_types: frozenset[str] = JSON_TYPES,
    mend: Callable[[object], object] = lambda body: body,
) -> T:
    """Read a JSON body, once `mend` has put it into its best form.

    Raises: Problem 400, 413, 415.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in media_types:
        wanted = " or ".join(sorted(media_types))
        raise Problem(Kind.UNSUPPORTED_MEDIA_TYPE, f"The body has to be {wanted}.")
    body: object = None
    try:
        body = mend(msgspec.json.decode(await request.body()))
        return msgspec.convert(body, kind)
    except UNREADABLE as error:
        raise unreadable(error, body, kind) from None


def legal_namespace(text: str | UnsetType | None, default: str) -> str:
    """Return the namespace that is meant.

    Raises: Problem 400. The schema's `$` lets a last line feed pass.
    """
    if text is None or text is UNSET:
        return default
    if not _NAMESPACE.fullmatch(text):
        raise bad_field("namespace", TAKES["namespace"])
    return text


def is_legal_name(text: str) -> bool:
    """Return True if an object can have this name."""
    return _OBJECT.fullmatch(text) is not None


def check(spec: OllamaModelSpec) -> None:
    """Refuse a spec that has the right form and is invalid.

    Raises: Problem 422.
    """
    if found := problems(spec):
        detail = "; ".join(f"{field}: {problem}" for field, problem in found)
        raise Problem(Kind.INVALID, detail, fields=found)


def unreadable(error: Exception, raw: object, kind: type[Any]) -> Problem:
    """Return the 400 about something that is no `kind`."""
    path, problem = complaint(error, raw, kind)
    if problem == ALIEN:
        problem = TAKES.get(path, problem)
    return bad_field(path[:200] or "body", problem[:200])
