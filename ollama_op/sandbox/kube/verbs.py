"""What each verb answers: from a request for a resource to a code and a body."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ollama_op.base.json import Object
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.kube.listing import list_page
from ollama_op.sandbox.kube.patching import patcher
from ollama_op.sandbox.kube.resources import APIResource
from ollama_op.sandbox.kube.rules import DeleteOptions, RuleWriter
from ollama_op.sandbox.kube.selectors import selector
from ollama_op.sandbox.kube.storage import ObjectKey, ObjectStore
from ollama_op.sandbox.kube.table import table
from ollama_op.sandbox.status import ApiError, bad_request, no_such_path, not_allowed

Outcome = tuple[int, Object]


@dataclass(frozen=True)
class ObjectRef:
    """What a path points at. `namespace` is None for all of them, empty for cluster scope."""

    resource: APIResource
    namespace: str | None
    name: str | None = None
    subresource: str | None = None

    @property
    def key(self) -> ObjectKey:
        """Where the object is in the store."""
        return self.namespace or "", self.name or ""

    @property
    def only_namespace(self) -> str | None:
        """The namespace that a list is narrowed to, if it is."""
        return self.namespace or None


@dataclass(frozen=True)
class Verbs:
    """The verbs, on one store."""

    store: ObjectStore
    writer: RuleWriter
    now: Callable[[], datetime]

    def call(self, target: ObjectRef, request: SandboxRequest) -> Outcome:
        """Carry out the verb that method and path make together.

        Raises: ApiError.
        """
        verb = _verb(request.method, one=target.name is not None)
        if target.namespace is None and verb != "list":
            raise no_such_path()
        if verb not in target.resource.verbs:
            raise not_allowed()
        if verb not in ("list", "get"):
            _check_dry_run(request)
        calls: dict[str, Callable[[ObjectRef, SandboxRequest], Outcome]] = {
            "list": self._list,
            "get": self._get,
            "create": self._create,
            "update": self._update,
            "patch": self._update,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        return calls[verb](target, request)

    def shown(
        self, resource: APIResource, obj: Object, request: SandboxRequest, *, headed: bool = True
    ) -> Object:
        """Return one stored object in the form that the client asked for."""
        if not request.accepts("Table"):
            return resource.shown(obj)
        meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        include = _include(request)
        return table(resource, [obj], now=self.now(), include=include, metadata=meta, headed=headed)

    def _list(self, target: ObjectRef, request: SandboxRequest) -> Outcome:
        resource = target.resource
        selects = selector(resource, target.only_namespace, request)
        meta, objects = list_page(self.store, resource.plural, selects, request)
        if request.accepts("Table"):
            include = _include(request)
            return 200, table(resource, objects, now=self.now(), include=include, metadata=meta)
        return 200, _listing(resource, meta, objects)

    def _get(self, target: ObjectRef, request: SandboxRequest) -> Outcome:
        obj = self.writer.existing(target.resource, target.key)
        return 200, self.shown(target.resource, obj, request)

    def _create(self, target: ObjectRef, request: SandboxRequest) -> Outcome:
        resource = target.resource
        body = resource.stored(_body(resource, request))
        obj = self.writer.create(
            resource, target.key[0], body, strict=_strict(request), dry_run=_dry_run(request)
        )
        return 201, self.shown(resource, obj, request)

    def _update(self, target: ObjectRef, request: SandboxRequest) -> Outcome:
        resource = target.resource
        patch = request.method == "PATCH"
        change = patcher(request) if patch else _always(_body(resource, request))
        obj = self.writer.update(
            resource,
            target.key,
            change,
            status=target.subresource is not None,
            whole=not patch,
            strict=_strict(request),
            dry_run=_dry_run(request),
        )
        return 200, self.shown(resource, obj, request)

    def _delete(self, target: ObjectRef, request: SandboxRequest) -> Outcome:
        resource = target.resource
        options, dry_run = _options(request), _dry_run(request)
        obj, gone = self.writer.delete(resource, target.key, options, dry_run=dry_run)
        if not gone:
            return 200, resource.shown(obj)
        details = resource.subject(obj["metadata"]["name"]).details(uid=obj["metadata"]["uid"])
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return 200, {**status, "details": details}

    def _delete_collection(self, target: ObjectRef, request: SandboxRequest) -> Outcome:
        resource, options = target.resource, _options(request)
        selects = selector(resource, target.only_namespace, request)
        _, objects = list_page(self.store, resource.plural, selects, request)
        for obj in objects:
            key = target.key[0], obj["metadata"]["name"]
            self.writer.delete(resource, key, options, dry_run=_dry_run(request))
        return 200, _listing(resource, {"resourceVersion": str(self.store.revision)}, objects)


def _listing(resource: APIResource, meta: Object, objects: Sequence[Object]) -> Object:
    return {
        "apiVersion": resource.api_version,
        "kind": f"{resource.kind}List",
        "metadata": meta,
        "items": [resource.shown(obj) for obj in objects],
    }


def _verb(method: str, *, one: bool) -> str:
    match method, one:
        case "GET", _:
            return "get" if one else "list"
        case "DELETE", _:
            return "delete" if one else "deletecollection"
        case "POST", False:
            return "create"
        case "PUT", True:
            return "update"
        case "PATCH", True:
            return "patch"
        case _:
            raise not_allowed()


def _body(resource: APIResource, request: SandboxRequest) -> Object:
    """Read an object of this resource.

    Raises: ApiError 400.
    """
    body = request.json_object()
    found = body.get("apiVersion"), body.get("kind")
    if found != (resource.api_version, resource.kind):
        expected = f"{resource.api_version} {resource.kind}"
        raise bad_request(f"the object provided is a {found[0]} {found[1]}, not a {expected}")
    return body


def _options(request: SandboxRequest) -> DeleteOptions:
    if not request.body:
        return DeleteOptions()
    try:
        return msgspec.convert(request.json_object(), DeleteOptions)
    except msgspec.ValidationError as error:
        raise bad_request(f"DeleteOptions cannot be read: {error}") from error


def _check_dry_run(request: SandboxRequest) -> None:
    """Refuse what dryRun cannot be.

    Raises: ApiError 422.
    """
    asked = request.query.get("dryRun", "All")
    if asked != "All":
        message = f'Unsupported value: "{asked}": supported values: "All"'
        raise ApiError(422, "Invalid", f"dryRun: {message}")


def _dry_run(request: SandboxRequest) -> bool:
    return "dryRun" in request.query


def _always(body: Object) -> Callable[[Object], Object]:
    return lambda _old: body


def _strict(request: SandboxRequest) -> bool:
    return request.query.get("fieldValidation") == "Strict"


def _include(request: SandboxRequest) -> str:
    return request.query.get("includeObject", "Metadata")
