"""What can be changed. Each write is one to Kubernetes; the operator then does what it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec
from litestar.di import NamedDependency
from litestar.handlers import delete, patch, post
from litestar.params import FromPath, SkipValidation
from msgspec import UNSET

from api.bodies import Changes, NewModel
from api.etags import ANY_ETAG, NoTagsError, versions
from api.naming import resource_name
from api.ports import Writer
from api.problems import Kind, Problem, bad_field, invalid_field
from api.reads import MODEL_ROUTE, MODELS, Known, RequestParams, permit
from api.requests import (
    PATCH_TYPES,
    TAKES,
    WriteQuery,
    check,
    is_legal_name,
    legal_namespace,
    read_body,
    read_query,
)
from api.telling import as_problem, no_model
from api.view import ViewEntry
from crd.door import mended, normal
from crd.model import Malformed, OllamaModel
from crd.names import InvalidNameError, ModelName, meant
from crd.v1alpha1 import ANY_REFRESH, REFRESH, UNREADABLE, OllamaModelSpec
from ollama_op.base.asgi import JSON, NO_STORE, PREFIX, Answer
from ollama_op.base.errors import Conflict, KubeError
from ollama_op.base.json import merge_patch

NameParam = FromPath[str]
Writing = NamedDependency[SkipValidation[Writer]]
Patch = Mapping[str, Any]

_REFRESH: Final = {"metadata": {"annotations": {REFRESH: ANY_REFRESH}}}


@dataclass(frozen=True)
class WriteTarget:
    """The object that a write is about."""

    namespace: str
    name: str
    dry_run: bool
    if_match: str
    known: str | None  # the resourceVersion that the object has, as far as is known

    def version(self) -> str | None:
        """Return the resourceVersion that the object must have, if it must have one.

        Of several the one that it has; Kubernetes has the last word.

        Raises: Problem 400, 412.
        """
        if self.if_match == ANY_ETAG:
            return None
        try:
            wanted = versions(self.if_match)
        except NoTagsError:
            problem = "is no ETag; send that of the model as it was read, or *"
            raise bad_field("If-Match", problem) from None
        if not wanted:
            raise self._is_other()
        return self.known if self.known in wanted else max(wanted, key=int)

    def _is_other(self) -> Problem:
        return Problem(Kind.PRECONDITION_FAILED, f"{self.name!r} is not that version any more.")

    def as_problem(self, error: KubeError) -> Problem:
        """Return the problem that a failed write of this object is."""
        if isinstance(error, Conflict) and self.if_match != ANY_ETAG:
            return self._is_other()
        return as_problem(error, self.name, self.namespace)


@post(MODELS)
async def create_model(request: RequestParams, reads: Known, writer: Writing) -> Answer:
    """Ask for a model. The answer comes at once; `state` then tells how far the pull is."""
    query = read_query(request, WriteQuery)
    new = await read_body(request, NewModel, mend=_whole)
    namespace = legal_namespace(query.namespace, reads.namespace)
    if new.namespace is not None:
        if query.namespace not in (UNSET, new.namespace):
            raise invalid_field("namespace", "is not the one in the query")
        namespace = legal_namespace(new.namespace, namespace)
    await permit(request, "create", namespace)
    reads.require_own(namespace)
    check(new.spec())
    spec = normal(new.spec())
    name = new.resource_name or resource_name(spec)
    if not is_legal_name(name):
        raise invalid_field("resourceName", TAKES["resourceName"])
    try:
        model = await writer.create(namespace, name, spec, dry_run=query.dry_run)
    except KubeError as error:
        raise as_problem(error, name, namespace, new=True) from error
    if query.dry_run:
        return _model(200, model)
    where = f"{request.scope.get(PREFIX, '')}{MODELS}/{quote(name)}"
    if namespace != reads.namespace:
        where += f"?namespace={quote(namespace)}"
    return _model(201, model).having((b"location", where.encode()))


@patch(MODEL_ROUTE)
async def update_model(
    request: RequestParams, reads: Known, writer: Writing, name: NameParam
) -> Answer:
    """Change the tag or the options of a model."""
    target = await _target(request, reads, name, "patch", body=Changes)
    spec = msgspec.json.decode(await request.body())  # as sent: a default in it is a change, too
    reads.require_list()
    entry = reads.view.get((target.namespace, name))
    if entry is None:
        raise no_model(name, target.namespace)
    _check_merged(entry.model, spec)
    if "tag" in spec and not isinstance(entry.model.spec, Malformed):
        spec |= _name_without_tag(entry.model.spec)
    return _model(200, await _patch(writer, target, {"spec": spec}))


@delete(
    MODEL_ROUTE, status_code=200
)  # Litestar forbids a body with 204; the answer says 204 by itself
async def delete_model(
    request: RequestParams, reads: Known, writer: Writing, name: NameParam
) -> Answer:
    """Let a model go. It is there, `deleting`, until the operator has removed it from Ollama."""
    target = await _target(request, reads, name, "delete")
    try:
        await writer.delete(
            target.namespace, name, version=target.version(), dry_run=target.dry_run
        )
    except KubeError as error:
        raise target.as_problem(error) from error
    return Answer(204)


@post(f"{MODEL_ROUTE}/refresh", status_code=202)
async def refresh_model(
    request: RequestParams, reads: Known, writer: Writing, name: NameParam
) -> Answer:
    """Ask the registry for the newest version of a model. The answer does not wait for it."""
    target = await _target(request, reads, name, "patch")
    return _model(202, await _patch(writer, target, _REFRESH))


@post(f"{MODEL_ROUTE}/suspend", status_code=200)
async def suspend_model(
    request: RequestParams, reads: Known, writer: Writing, name: NameParam
) -> Answer:
    """Leave a model as it is: no pull, no check."""
    target = await _target(request, reads, name, "patch")
    return _model(200, await _patch(writer, target, {"spec": {"suspend": True}}))


@post(f"{MODEL_ROUTE}/resume", status_code=200)
async def resume_model(
    request: RequestParams, reads: Known, writer: Writing, name: NameParam
) -> Answer:
    """Care for a model again."""
    target = await _target(request, reads, name, "patch")
    return _model(200, await _patch(writer, target, {"spec": {"suspend": None}}))


def _whole(body: object) -> object:
    """Return the body with name and tag in their fields.

    Raises: Problem 422 if there is a name that is none, or one with no tag anywhere.
    """
    body = mended(body)
    if isinstance(body, dict) and isinstance(name := body.get("name"), str) and "tag" not in body:
        try:
            ModelName.parse(
                name
            )  # a name that is none has no tag, either; its own fault comes first
            meant(name, None)
        except InvalidNameError as error:
            raise invalid_field(error.field, str(error)) from None
    return body


async def _target(
    request: RequestParams, reads: Known, name: str, verb: str, *, body: type[Any] | None = None
) -> WriteTarget:
    """Read what a write is about.

    Raises: Problem 400, 403, 404, 413, 415.
    """
    query = read_query(request, WriteQuery)
    namespace = legal_namespace(query.namespace, reads.namespace)
    await permit(request, verb, namespace)
    reads.require_own(namespace)
    if body is not None:
        await read_body(request, body, PATCH_TYPES)
    if not is_legal_name(name):  # and so there can be none; it must not become part of a path
        raise no_model(name, namespace)
    if_match = ", ".join(request.headers.getall("if-match", [ANY_ETAG])).strip()
    entry = reads.view.get((namespace, name))
    known = entry.model.metadata.resource_version if entry else None
    return WriteTarget(namespace, name, query.dry_run, if_match, known)


async def _patch(writer: Writer, target: WriteTarget, change: Patch) -> OllamaModel:
    if (version := target.version()) is not None:
        meta = change.get("metadata", {})
        change = {**change, "metadata": {**meta, "resourceVersion": version}}
    try:
        return await writer.patch(target.namespace, target.name, change, dry_run=target.dry_run)
    except KubeError as error:
        raise target.as_problem(error) from error


def _name_without_tag(spec: OllamaModelSpec) -> dict[str, str]:
    """Return what a name that carries its tag has to become when the tag changes."""
    name = normal(spec).name
    return {} if name == spec.name else {"name": name}


def _check_merged(model: OllamaModel, change: Patch) -> None:
    """Refuse a change that makes the spec invalid.

    Raises: Problem 422.
    """
    if isinstance(model.spec, Malformed):
        return  # the API server knows all of it, and judges
    spec = merge_patch(msgspec.to_builtins(normal(model.spec)), change)
    try:
        check(msgspec.convert(spec, OllamaModelSpec))
    except UNREADABLE as error:
        raise AssertionError("two specs of the right form made one that is not") from error


def _model(status: int, model: OllamaModel) -> Answer:
    entry = ViewEntry(model)
    return Answer(status, entry.body, (JSON, (b"etag", entry.etag), NO_STORE))
