"""Decides what of an OllamaModel may enter the cluster, before it is stored. Pure.

The rules are those that the operator goes by later, in a status that who wrote the object may never
look at. Whatever does not change a spec passes, right or wrong: an object of before must be able to
lose its finalizer, to get its status and to go.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

import msgspec

from crd.door import mended, problems
from crd.form import complaint
from crd.names import CLOUD_HOST, InvalidNameError, ModelName
from crd.placement import DEFAULT_SERVER, Placement
from crd.v1alpha1 import GROUP, PLURAL, UNREADABLE, OllamaModelSpec
from ollama_op.admission.review import (
    AdmissionRequest,
    AdmissionResponse,
    Refusal,
    ResourceKind,
    StatusCause,
    StatusDetails,
)
from ollama_op.base.errors import sanitise

LONGEST_WARNING: Final = 120  # Kubernetes asks for no more, and cuts what is far longer
MOVES: Final = "latest"

NO_CLOUD: Final = (
    f"cloud models run on {CLOUD_HOST}, which is not allowed here; take one that runs on the server"
)

Sharers = Callable[[Placement, str], int]
"""Counts the live objects that name a model, other than the one with this uid."""


def judge(
    request: AdmissionRequest, *, registries: Collection[str], sharers: Sharers
) -> AdmissionResponse:
    """Decide whether the spec may be stored, and what to warn of if it may.

    `registries` are the hosts that models may come from, in lower case; none at all means all.
    """
    raw = _changed_spec(request)
    if raw is None:
        return AdmissionResponse(uid=request.uid, allowed=True)
    try:
        spec = msgspec.json.decode(raw, type=OllamaModelSpec)
    except UNREADABLE as error:
        return _refused(request, [_unreadable(error, raw)])
    if causes := _causes(spec, registries):
        return _refused(request, causes)
    uid = request.object.metadata.uid if request.object else ""
    return AdmissionResponse(uid=request.uid, allowed=True, warnings=_warnings(spec, uid, sharers))


def mutate(request: AdmissionRequest) -> AdmissionResponse:
    """Rewrite a name that has only one meaning, and is not written in that way.

    A tag at the end of `spec.name` moves to `spec.tag` if that is missing or says the same; a host
    is written in lower case, as hosts have no other. The rest of a name stays as it is: Ollama
    ignores its case, but a registry may not.
    """
    raw = _changed_spec(request)
    spec = None if raw is None else msgspec.json.decode(raw)
    allowed = AdmissionResponse(uid=request.uid, allowed=True)
    clear = mended(spec)
    if clear == spec or not isinstance(clear, dict):
        return allowed
    name, tag = clear.get("name"), clear.get("tag")
    if not name or not tag:
        return allowed
    steps = [  # in an object, to add is to replace what is there
        {"op": "add", "path": "/spec/name", "value": name},
        {"op": "add", "path": "/spec/tag", "value": tag},
    ]
    return AdmissionResponse(
        uid=request.uid,
        allowed=True,
        warnings=(_short(f"taken as spec.name {name} and spec.tag {tag}; better write it so"),),
        patch=msgspec.json.encode(steps),
        patch_type="JSONPatch",
    )


def _changed_spec(request: AdmissionRequest) -> msgspec.Raw | None:
    """Return the spec that is to be looked at, if there is one."""
    is_ours = request.resource == ResourceKind(GROUP, PLURAL) and not request.sub_resource
    if not is_ours or request.operation not in ("CREATE", "UPDATE") or request.object is None:
        return None
    new, old = request.object, request.old_object
    if new.metadata.deletion_timestamp is not None:
        return None
    if old is not None and msgspec.json.decode(new.spec) == msgspec.json.decode(old.spec):
        return None
    return new.spec


def _causes(spec: OllamaModelSpec, registries: Collection[str]) -> list[StatusCause]:
    """List what is wrong with a spec of the right form."""
    causes = [StatusCause(f"spec.{field}", problem) for field, problem in problems(spec)]
    with suppress(InvalidNameError):
        name = ModelName.of(spec.name, spec.tag)
        if registries and name.host.lower() not in registries:
            causes.insert(0, StatusCause("spec.name", _not_allowed(name.host, registries)))
        if registries and name.is_cloud and CLOUD_HOST not in registries:
            causes.insert(0, StatusCause("spec.tag", NO_CLOUD))
    return causes


def _unreadable(error: Exception, raw: msgspec.Raw) -> StatusCause:
    """Return which field breaks the schema. Another release may let it pass until here."""
    try:
        read = msgspec.json.decode(raw)
    except UNREADABLE:
        read = None
    field, problem = complaint(error, read, OllamaModelSpec)
    return StatusCause(f"spec.{field}".rstrip("."), problem)


def _not_allowed(host: str, registries: Collection[str]) -> str:
    allowed = ", ".join(sorted(registries))
    return (
        f"models of the registry {host} are not allowed here; take one of {allowed}, or have"
        " --allowed-registries of the operator name it"
    )


def _warnings(spec: OllamaModelSpec, uid: str, sharers: Sharers) -> tuple[str, ...]:
    warnings = []
    if spec.tag.lower() == MOVES and spec.expected_digest is None and spec.refresh_interval is None:
        warnings.append(
            "spec.tag: latest moves; expectedDigest would pin it, refreshInterval would follow it"
        )
    name = ModelName.of(spec.name, spec.tag)
    # How many, and not which: they may be in namespaces that are none of the author's business.
    if others := sharers(Placement(DEFAULT_SERVER, name), uid):
        noun = "OllamaModel names" if others == 1 else "OllamaModels name"
        warnings.append(f"{others} other {noun} this model; there will be one copy: {name}")
    return tuple(map(_short, warnings))


def _refused(request: AdmissionRequest, causes: list[StatusCause]) -> AdmissionResponse:
    name = request.object.metadata.name if request.object else ""
    clean = tuple(StatusCause(cause.field, sanitise(cause.message)) for cause in causes)
    message = "; ".join(f"{cause.field}: {cause.message}" for cause in clean)
    refusal = Refusal(message, StatusDetails(name, clean))
    return AdmissionResponse(uid=request.uid, allowed=False, status=refusal)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_WARNING else text[: LONGEST_WARNING - 3] + "..."
