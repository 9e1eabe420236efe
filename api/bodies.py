"""What the API says and understands, as structs: the schema at /openapi.json is made from them.

Fields are added, never renamed; what is not known or not so is left out. The first nine fields of
a model are those of the Go operator's API.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from crd.door import normal
from crd.model import Malformed, OllamaModel
from crd.reasons import Reason
from crd.v1alpha1 import (
    DeletionPolicy,
    OllamaModelSpec,
    Origin,
    Progress,
    RefreshWindow,
    State,
    Time,
)

NAMESPACE_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
OBJECT_NAME: Final = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"

Namespace = Annotated[
    str, Meta(pattern=NAMESPACE_PATTERN, description="Namespace of the OllamaModel.")
]
_OPTIONAL: Final = {"frozen": True, "kw_only": True, "rename": "camel", "omit_defaults": True}


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One model: what is wanted, and what is so."""

    name: Annotated[str, Meta(description="Name of the OllamaModel, unique in its namespace.")]
    namespace: Annotated[str, Meta(description="Namespace of the OllamaModel.")]
    model_name: Annotated[str, Meta(description="Model as Ollama knows it, without its tag.")]
    tag: Annotated[str, Meta(description="Tag of the model.")]
    state: Annotated[State, Meta(description="One word for where it stands.")]
    size: Annotated[int | None, Meta(description="Size of the model in bytes.")] = None
    formatted_size: Annotated[str | None, Meta(description="The size for people.")] = None
    last_pull_time: Annotated[Time | None, Meta(description="When it was last pulled.")] = None
    error: Annotated[str | None, Meta(description="What is wrong; absent when nothing is.")] = None

    ready: Annotated[bool, Meta(description="Whether the model is there and answers.")]
    reason: Annotated[
        str | None, Meta(description="One word for why; each is explained in docs/reasons.md.")
    ] = None
    message: Annotated[str | None, Meta(description="What is true now, and what happens next.")] = (
        None
    )
    progress: Annotated[Progress | None, Meta(description="The download under way.")] = None
    digest: Annotated[str | None, Meta(description="Ollama's digest of it, in bare hex.")] = None
    stalled: Annotated[bool, Meta(description="Whether a person must act.")] = False
    retrying: Annotated[
        bool, Meta(description="Whether something is wrong and is tried again by itself.")
    ] = False
    refresh_in_vain: Annotated[
        bool,
        Meta(description="Whether no refresh can help: the spec or the server has to change."),
    ] = False
    deleting: Annotated[bool, Meta(description="Whether it is about to be removed.")] = False
    refresh_requested: Annotated[
        bool, Meta(description="Whether a refresh was asked for and is not done yet.")
    ] = False
    attempts: Annotated[int | None, Meta(description="Failed tries in a row.")] = None
    next_retry_time: Annotated[Time | None, Meta(description="When it is tried next.")] = None
    next_refresh_time: Annotated[
        Time | None, Meta(description="When the next scheduled refresh is due.")
    ] = None
    origin: Annotated[Origin | None, Meta(description="How the model came to be there.")] = None
    shared_with: Annotated[
        int | None, Meta(description="How many other objects name the same model.")
    ] = None
    loaded: Annotated[bool | None, Meta(description="Whether it is in memory.")] = None
    remote_host: Annotated[
        str | None, Meta(description="Where a cloud model runs; absent for one on the server.")
    ] = None
    trace_id: Annotated[
        str | None, Meta(description="Trace of what was last done for it, if it is traced.")
    ] = msgspec.field(default=None, name="traceID")

    suspend: Annotated[bool, Meta(description="Whether it is left as it is.")] = False
    deletion_policy: Annotated[
        DeletionPolicy, Meta(description="What becomes of the model when this goes.")
    ] = DeletionPolicy.DELETE
    interval: Annotated[str | None, Meta(description="Time between looks at it.")] = None
    refresh_interval: Annotated[str | None, Meta(description="Time between refreshes.")] = None
    refresh_window: Annotated[
        RefreshWindow | None, Meta(description="When scheduled refreshes may begin.")
    ] = None
    timeout: Annotated[str | None, Meta(description="Longest time of a whole pull.")] = None
    insecure: Annotated[bool, Meta(description="Whether the registry may lack TLS.")] = False
    expected_digest: Annotated[str | None, Meta(description="The only digest that counts.")] = None
    keep_alive: Annotated[str | None, Meta(description="How long it is kept loaded.")] = None


class WindowBody(
    RefreshWindow, frozen=True, kw_only=True, rename="camel", omit_defaults=True,
    forbid_unknown_fields=True,
):  # fmt: skip
    """When scheduled refreshes may begin."""


class NewModel(
    OllamaModelSpec, frozen=True, kw_only=True, rename="camel", omit_defaults=True,
    forbid_unknown_fields=True,
):  # fmt: skip
    """A model that is wanted. All but `name` and `tag` may be left out."""

    refresh_window: WindowBody | None = None
    resource_name: (
        Annotated[
            str,
            Meta(
                pattern=OBJECT_NAME,
                description="Name of the OllamaModel; by default `<name>-<tag>` where that is a"
                " legal one, else a readable name with a hash.",
            ),
        ]
        | None
    ) = None
    namespace: Namespace | None = None

    def spec(self) -> OllamaModelSpec:
        """Return what goes into the object."""
        fields = OllamaModelSpec.__struct_fields__
        return OllamaModelSpec(**{name: getattr(self, name) for name in fields})


def _changeable() -> list[tuple[str, Any, Any]]:
    """List what PATCH may change: every field of a spec but the model's name."""
    hints = {field.name: field for field in msgspec.structs.fields(NewModel)}
    names = [name for name in OllamaModelSpec.__struct_fields__ if name not in ("name", "tag")]
    return [
        ("tag", hints["tag"].type | UnsetType, UNSET),
        *((name, hints[name].type | None | UnsetType, UNSET) for name in names),
    ]


Changes = msgspec.defstruct(
    "Changes",
    _changeable(),
    rename="camel",
    forbid_unknown_fields=True,
    namespace={
        "__doc__": "A JSON merge patch: what is given changes, null sets an option back to its"
        " default. Another model is another OllamaModel, so `name` cannot be changed."
    },
)


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Models in the order of their namespaces and names."""

    items: list[Model]
    continue_: Annotated[
        str | None,
        Meta(description="Ask again with this as `continue` for those that follow."),
    ] = msgspec.field(default=None, name="continue")


class Ref(msgspec.Struct, frozen=True):
    """Which OllamaModel."""

    namespace: str
    name: str


class PlannedModel(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One model on the Ollama server, or not there yet, and who names it."""

    model: Annotated[str, Meta(description="Full name as `ollama list` shows it.")]
    wanted_by: Annotated[tuple[Ref, ...], Meta(description="Objects that name the model.")] = ()
    size: Annotated[int | None, Meta(description="Bytes.")] = None
    digest: Annotated[str | None, Meta(description="Digest in bare hex.")] = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator is about to do, from what is wanted and what is there."""

    pull: Annotated[list[PlannedModel], Meta(description="Wanted, and not there.")]
    keep: Annotated[
        list[PlannedModel],
        Meta(description="There, and wanted, or held by an object that is suspended."),
    ]
    delete: Annotated[
        list[PlannedModel], Meta(description="There, and about to go with its last object.")
    ]
    paused: Annotated[
        list[PlannedModel],
        Meta(description="Not there, and wanted only by objects that are suspended or wrong."),
    ]
    unmanaged: Annotated[
        list[PlannedModel],
        Meta(description="There without an OllamaModel. Empty for a key limited to namespaces."),
    ]


class FieldProblem(msgspec.Struct, frozen=True):
    """What is wrong with one field."""

    field: Annotated[str, Meta(description="Path of the field, or name of the parameter.")]
    message: Annotated[str, Meta(description="Why it is not taken.")]


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not served, as RFC 9457 has it."""

    type: Annotated[str, Meta(description="Where this kind of problem is explained.")]
    title: Annotated[str, Meta(description="The kind of problem; the same for each `type`.")]
    status: Annotated[int, Meta(ge=400, le=599, description="The HTTP status.")]
    detail: Annotated[str, Meta(description="What happened here.")]
    instance: Annotated[str, Meta(description="Path of the request.")]
    error: Annotated[str, Meta(description="The same as `detail`, for older clients.")]
    errors: Annotated[
        tuple[FieldProblem, ...], Meta(description="What is wrong with which field.")
    ] = ()


class Status(msgspec.Struct, frozen=True):
    """A word about the server."""

    status: Annotated[str, Meta(description="`ok`, or what is missing.")]


class Deleted(msgspec.Struct, frozen=True):
    """A model whose object has gone."""

    name: str
    namespace: str


def describe(model: OllamaModel) -> Model:
    """Return what the API says about an object."""
    meta, spec, status = model.metadata, model.spec, model.status
    ready, stalled = status.condition("Ready"), _holds(model, "Stalled")
    reason = ready.reason if ready else None
    row = known.row if (known := Reason.of(reason)) else None
    wanted = (
        {"model_name": spec.name or "", "tag": spec.tag or ""}
        if isinstance(spec, Malformed)
        else _wanted(normal(spec))
    )
    return Model(
        name=meta.name,
        namespace=meta.namespace,
        state=status.state or State.PENDING,
        error=status.error or (spec.problem[:1024] if isinstance(spec, Malformed) else None),
        ready=ready is not None and ready.status == "True",
        reason=reason,
        # What Available means never changes, and would be a sixth of a long list.
        message=ready.message if ready and ready.reason != Reason.AVAILABLE else None,
        progress=status.progress if status.state is State.PULLING else None,
        stalled=stalled,
        retrying=reason is not None and not (row and row.is_fine) and not stalled,
        refresh_in_vain=row is not None and not row.is_refreshable,
        deleting=meta.deletion_timestamp is not None,
        refresh_requested=model.refresh_wish is not None,
        **{name: getattr(status, name) for name in _FROM_STATUS},
        **wanted,
    )


_FROM_STATUS: Final = (
    "size", "formatted_size", "last_pull_time", "digest", "attempts", "next_retry_time",
    "next_refresh_time", "origin", "shared_with", "loaded", "remote_host", "trace_id",
)  # fmt: skip


def _wanted(spec: OllamaModelSpec) -> dict[str, Any]:
    return {"model_name": spec.name, "tag": spec.tag} | {
        name: getattr(spec, name)
        for name in OllamaModelSpec.__struct_fields__
        if name in Model.__struct_fields__ and name not in ("name", "tag")
    }


def _holds(model: OllamaModel, kind: str) -> bool:
    found = model.status.condition(kind)
    return found is not None and found.status == "True"
