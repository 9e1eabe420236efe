"""The API's description, OpenAPI 3.1: which operation takes what and answers what.

The schemas are those of the structs. The rest is written here and not left to Litestar, which
describes what a handler returns: ours return bytes that were prepared long before.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from api import bodies
from api.problems import Kind, Problem
from api.reads import MODELS
from api.requests import EventsQuery, ListQuery, OneQuery, WriteQuery
from crd.v1alpha1 import Progress, State
from ollama_op.base.json import Object

_REF: Final = "#/components/schemas/{name}"
_ALWAYS: Final = (Kind.UNAUTHORIZED, Kind.FORBIDDEN, Kind.TOO_MANY_FAILURES)
_TO_READ: Final = (Kind.BAD_REQUEST, *_ALWAYS, Kind.NOT_READY)
_TO_WRITE: Final = (
    Kind.BAD_REQUEST, *_ALWAYS, Kind.MODEL_NOT_FOUND, Kind.CONFLICT, Kind.PRECONDITION_FAILED,
    Kind.INVALID, Kind.KUBERNETES_UNAVAILABLE, Kind.KUBERNETES_DENIES, Kind.NOT_READY,
)  # fmt: skip
_WITH_BODY: Final = (Kind.TOO_LARGE, Kind.UNSUPPORTED_MEDIA_TYPE, Kind.INVALID)

_EXAMPLE: Final = bodies.Model(
    name="llama3.2-1b", namespace="default", model_name="llama3.2", tag="1b", state=State.PULLING,
    ready=False, reason="Pulling", message="Downloading 0.5 of 1.2 GiB.",
    progress=Progress(completed_bytes=553648128, total_bytes=1321098329, percent=42, text="42%"),
)  # fmt: skip
_HEADERS: Final = {
    "If-Match": "The ETag of the version that is meant, or a list; no other one is touched.",
    "If-None-Match": "The ETag of what the client has already.",
    "Last-Event-ID": "The id of the last event that was read.",
}
_AS_OLLAMA: Final = {
    "type": "string", "minLength": 1,
    "description": "As Ollama's own API writes it: `llama3.2:1b`, in place of `name` and `tag`.",
}  # fmt: skip
_NEW: Final = {"name": "llama3.2", "tag": "1b"}
_DESCRIPTION: Final = """
Which models an Ollama server should have. Reads are answered from memory and work while the
Kubernetes API is away; `X-View-Age` then says for how many seconds no news came. Writes make and
change OllamaModels, and the operator does the rest. Problems are `application/problem+json`; each
`type` is explained at [docs/problems](docs/problems).
""".strip()


@functools.cache  # to go through all the structs takes long, and tests make hundreds of APIs
def document(version: str, *, tokens: bool) -> bytes:
    """Write the description; `tokens` says whether bearer tokens are taken."""
    schemes: Object = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    if tokens:
        schemes["token"] = {"type": "http", "scheme": "bearer"}
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "ollama-op",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "./"}],  # beside this description
        "security": [{name: []} for name in schemes],
        "tags": [{"name": "models"}, {"name": "operator"}],
        "paths": _paths(),
        "components": {"schemas": _schemas(), "securitySchemes": schemes},
    }
    return msgspec.json.encode(described)


def _schemas() -> Object:
    structs = [
        bodies.Model, bodies.NewModel, bodies.Changes, bodies.Page, bodies.Plan,
        bodies.ProblemBody, bodies.Status, bodies.Deleted,
    ]  # fmt: skip
    schemas = msgspec.json.schema_components(structs, ref_template=_REF)[1]
    # In the body of a new model the tag may be in the name, and that be called `model`.
    new = schemas["NewModel"]
    new["properties"]["model"] = _AS_OLLAMA
    del new["required"]
    new["oneOf"] = [{"required": [field]} for field in ("name", "model")]
    return schemas


def _paths() -> Object:
    one, name = f"{MODELS}/{{name}}", _path_name()
    return {
        MODELS: {"get": _list(), "post": _create()},
        one: {
            "parameters": [name],
            "get": _operation(
                "getModel", "Read one model", query=OneQuery, headers=["If-None-Match"],
                answers={200: _model("The model."), 304: _plain("Not changed.")},
                problems=(*_TO_READ, Kind.MODEL_NOT_FOUND),
            ),
            "patch": _update(),
            "delete": _operation(
                "deleteModel", "Let a model go", query=WriteQuery, headers=["If-Match"],
                description="It stays, `deleting`, until it is removed from Ollama.",
                answers={204: _plain("It will go.")}, problems=_TO_WRITE,
            ),
        },
        f"{one}/events": {
            "parameters": [name],
            "get": _events("watchModel", "Follow one model", [Kind.MODEL_NOT_FOUND]),
        },
        **{
            f"{one}/{verb}": {
                "parameters": [name],
                "post": _operation(
                    f"{verb}Model", summary, query=WriteQuery, headers=["If-Match"],
                    answers={code: _model("The model.")}, problems=_TO_WRITE,
                ),
            }
            for verb, summary, code in (
                ("refresh", "Ask the registry for the newest version", 202),
                ("suspend", "Leave a model as it is", 200),
                ("resume", "Care for a model again", 200),
            )
        },
        "/api/v1/events": {"get": _events("watchModels", "Follow all models")},
        "/api/v1/plan": {
            "get": _operation(
                "getPlan", "What is about to happen", query=OneQuery, tag="operator",
                answers={200: _json("The plan.", "Plan")},
                problems=(*_TO_READ, Kind.OLLAMA_UNAVAILABLE),
            )
        },
        "/health": {"get": _open("health", "Whether the process answers")},
        "/readiness": {"get": _open("readiness", "Whether all models are known", Kind.NOT_READY)},
    }  # fmt: skip


# --- operations


def _list() -> Object:
    return _operation(
        "listModels", "List models", query=ListQuery, headers=["If-None-Match"],
        answers={200: _json("Models.", "Page"), 304: _plain("Not changed.")},
        problems=(*_TO_READ, Kind.INVALID),
    )  # fmt: skip


def _create() -> Object:
    created = _model("It is wanted now, and its pull begins.", ETag="Version.", Location="Where.")
    links = {
        f"{verb}{what}": {
            "operationId": f"{verb}Model",
            "parameters": {"name": "$response.body#/name"}
            | {"query.namespace": "$response.body#/namespace"},
        }
        for verb, what in (
            ("get", "It"), ("delete", "It"), ("refresh", "It"), ("suspend", "It"), ("resume", "It"),
        )
    }  # fmt: skip
    return _operation(
        "createModel", "Ask for a model", query=WriteQuery,
        description="The answer comes at once and never waits for the pull.",
        body=("NewModel", _NEW, ["application/json"]),
        answers={200: _model("With dryRun: what would be."), 201: {**created, "links": links}},
        problems=(
            Kind.BAD_REQUEST, *_ALWAYS, Kind.NAMESPACE_NOT_FOUND, Kind.MODEL_EXISTS, *_WITH_BODY,
            Kind.KUBERNETES_UNAVAILABLE, Kind.KUBERNETES_DENIES,
        ),
    )  # fmt: skip


def _update() -> Object:
    types = ["application/merge-patch+json", "application/json"]
    return _operation(
        "updateModel", "Change the tag or options", query=WriteQuery, headers=["If-Match"],
        body=("Changes", {"tag": "3b", "interval": "5m"}, types),
        answers={200: _model("The model.")}, problems=(*_TO_WRITE, *_WITH_BODY),
    )  # fmt: skip


def _events(operation_id: str, summary: str, problems: Sequence[Kind] = ()) -> Object:
    text = "`snapshot` (all) or `model` first, then `model` and `deleted` as things change."
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return _operation(
        operation_id, summary, query=EventsQuery, headers=["Last-Event-ID"],
        description=f"Server-sent events: {text} With Last-Event-ID it goes on from there.",
        answers={200: {"description": text, "content": stream}},
        problems=(*_TO_READ, *problems),
    )  # fmt: skip


def _open(operation_id: str, summary: str, *problems: Kind) -> Object:
    answers = {200: _json("Yes.", "Status")}
    operation = _operation(
        operation_id, summary, answers=answers, problems=problems, tag="operator"
    )
    return {**operation, "security": []}


def _operation(
    operation_id: str,
    summary: str,
    *,
    answers: Mapping[int, Object],
    problems: Sequence[Kind],
    description: str = "",
    query: type[msgspec.Struct] | None = None,
    headers: Sequence[str] = (),
    body: tuple[str, Object, list[str]] | None = None,
    tag: str = "models",
) -> Object:
    operation: Object = {"operationId": operation_id, "summary": summary, "tags": [tag]}
    if description:
        operation["description"] = description
    parameters = [*(_query(query) if query else ()), *map(_header, headers)]
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        name, example, types = body
        content = {"schema": {"$ref": _REF.format(name=name)}, "example": example}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(types, content)}
    told = {str(code): answer for code, answer in answers.items()}
    operation["responses"] = told | _problems(problems)
    return operation


# --- their parts


def _problems(kinds: Sequence[Kind]) -> Object:
    by_status: dict[int, list[Kind]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(kind.status, []).append(kind)
    schema = {"$ref": _REF.format(name="ProblemBody")}
    return {
        str(status): {
            "description": "; ".join(f"{kind.title}: {kind.help}" for kind in same),
            "content": {
                "application/problem+json": {
                    "schema": schema,
                    "examples": {kind.slug: {"value": _example(kind)} for kind in same},
                }
            },
        }
        for status, same in sorted(by_status.items())
    }


def _example(kind: Kind) -> bodies.ProblemBody:
    fields = [("tag", "is required")] if kind in (Kind.BAD_REQUEST, Kind.INVALID) else []
    return Problem(kind, kind.help, fields=fields).body(MODELS)


def _model(description: str, **headers: str) -> Object:
    headers = headers or {"ETag": "Version of the model, for If-Match and If-None-Match."}
    answer = _json(description, "Model", example=_EXAMPLE)
    named = {k: {"description": v, "schema": {"type": "string"}} for k, v in headers.items()}
    return {**answer, "headers": named}


def _json(description: str, name: str, example: object = None) -> Object:
    content: Object = {"schema": {"$ref": _REF.format(name=name)}}
    if example is not None:
        content["example"] = example
    return {"description": description, "content": {"application/json": content}}


def _plain(description: str) -> Object:
    return {"description": description}


def _path_name() -> Object:
    return {
        "name": "name", "in": "path", "required": True, "example": "llama3.2-1b",
        "description": "Name of the OllamaModel.", "schema": {"type": "string", "minLength": 1},
    }  # fmt: skip


def _header(name: str) -> Object:
    schema: Object = {"type": "string"}
    if name == "If-Match":
        schema["pattern"] = r'^((W/)?"[0-9]+"(, *(W/)?"[0-9]+")*|[0-9]+|\*)$'
    return {"name": name, "in": "header", "description": _HEADERS[name], "schema": schema}


def _query(kind: type[msgspec.Struct]) -> list[Object]:
    (_,), parts = msgspec.json.schema_components([kind], ref_template=_REF)
    found = []
    for name, schema in parts[kind.__name__]["properties"].items():
        text = schema.pop("description", "")
        found.append({"name": name, "in": "query", "description": text, "schema": schema})
    return found
