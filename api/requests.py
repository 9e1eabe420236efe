"""Reads what a request says: its query, its body, whom it is about. Wrong ones become Problems."""

import re
from difflib import get_close_matches
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import fields

from api.access import Caller
from api.bodies import NAMESPACE, OBJECT, Namespace
from api.problems import Kind, Problem, bad_field, invalid_field
from crd.names import InvalidNameError, ModelName
from crd.options import InvalidOptionError, options
from crd.v1alpha1 import UNREADABLE, OllamaModelSpec, State

T = TypeVar("T")

MAX_BODY: Final = 64 << 10
JSON_TYPES: Final = frozenset({"application/json"})
_NAMESPACE: Final = re.compile(NAMESPACE.strip("^$"))
_OBJECT: Final = re.compile(OBJECT.strip("^$"))
PATCH_TYPES: Final = JSON_TYPES | {"application/merge-patch+json"}
# How msgspec names the field that it means.
_IN_MESSAGE: Final = re.compile(r"field `(.*)`")
_AT: Final = re.compile(r" - at `(?:key in )?\$?\.?(.*)`$")


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
        raise unreadable(error, kind) from None


async def read_body(
    request: Request[Caller, Any, Any], kind: type[T], media_types: frozenset[str] = JSON_TYPES
) -> T:
    """Read a JSON body.

    Raises: Problem 400, 413, 415.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in media_types:
        wanted = " or ".join(sorted(media_types))
        raise Problem(Kind.UNSUPPORTED_MEDIA_TYPE, f"The body has to be {wanted}.")
    body = await request.body()
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise unreadable(error, kind) from None


def legal_namespace(text: str | UnsetType | None, default: str) -> str:
    """Return the namespace that is meant.

    Raises: Problem 400. The schema's `$` lets a last line feed pass.
    """
    if text is None or text is UNSET:
        return default
    if not _NAMESPACE.fullmatch(text):
        raise bad_field("namespace", "is no legal name")
    return text


def is_legal_name(text: str) -> bool:
    """Tell whether an object can have this name."""
    return _OBJECT.fullmatch(text) is not None


def check(spec: OllamaModelSpec) -> None:
    """See that a spec of the right form can be meant.

    Raises: Problem 422.
    """
    try:
        ModelName.of(spec.name, spec.tag)
    except InvalidNameError as error:
        raise invalid_field("tag" if error.part == "tag" else "name", str(error)) from None
    try:
        options(spec)
    except InvalidOptionError as error:
        raise invalid_field(error.field, error.problem) from None


def unreadable(error: Exception, kind: type[Any]) -> Problem:
    """Make the 400 out of what msgspec says about something that is no `kind`."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Problem(Kind.BAD_REQUEST, "The body is no JSON.", fields=[("body", "is no JSON")])
    at = _AT.search(text)
    text = text[: at.start()] if at else text
    path = at[1] if at else ""
    if named := _IN_MESSAGE.search(text):
        text = (
            "is required" if "missing" in text else _unknown(named[1], kind if not path else None)
        )
        path = f"{path}.{named[1]}".lstrip(".")
    return bad_field(path[:200] or "body", f"{text[0].lower()}{text[1:]}"[:200])


def _unknown(name: str, kind: type[Any] | None) -> str:
    known = [field.encode_name for field in fields(kind)] if kind else []
    close = get_close_matches(name, known, n=1)
    return "is not known here" + (f"; did you mean {close[0]}?" if close else "")
