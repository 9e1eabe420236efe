"""What must be true of any object before it is stored: readable, complete, valid."""

import re
from collections.abc import Iterator

import msgspec

from ollama_op.base.json import Object
from ollama_op.sandbox.kube.resources import APIResource
from ollama_op.sandbox.kube.schema import check_schema, default, prune
from ollama_op.sandbox.status import Cause, bad_request

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_NAME_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or"
    " '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used"
    f" for validation is '{_SUBDOMAIN}')"
)
_MAX_NAME = 253
_MAX_ANNOTATIONS_BYTES = 256 * 1024


class _Meta(msgspec.Struct):
    """The types that metadata must have to be read at all."""

    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resourceVersion: str | None = None  # noqa: N815  Kubernetes' name
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None


def admit(resource: APIResource, body: Object, *, strict: bool) -> Object:
    """Read a body: types of metadata, unknown fields dropped or (`strict`) refused.

    Raises: ApiError 400.
    """
    meta = body.get("metadata") or {}
    try:
        msgspec.convert(meta, _Meta)
    except msgspec.ValidationError as error:
        raise bad_request(f"metadata cannot be read: {error}") from error
    kept = {k: v for k, v in meta.items() if v not in (None, "", {}, [])}
    rest = {k: v for k, v in body.items() if k not in ("apiVersion", "kind", "metadata")}
    if resource.schema is not None:
        rest, unknown = prune(resource.schema, rest)
        if unknown and strict:
            found = ", ".join(f'unknown field "{name}"' for name in unknown)
            raise bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a'
                f" {resource.kind}: strict decoding error: {found}"
            )
    return {"metadata": kept, **rest}


def complete(resource: APIResource, new: Object) -> Object:
    """Fill in defaults and check everything.

    Raises: ApiError 422.
    """
    meta = new["metadata"]
    causes = list(_check_meta(meta))
    if resource.schema is not None:
        new = {"metadata": meta, **default(resource.schema, _without_meta(new))}
        causes += check_schema(resource.schema, _without_meta(new), "")
    if causes:
        raise resource.subject(meta["name"]).invalid(causes)
    return new


def _check_meta(meta: Object) -> Iterator[Cause]:
    prefix = re.sub("-$", "a", meta.get("generateName", ""))  # it may end where a name may not
    if not meta["name"]:
        message = "Required value: name or generateName is required"
        yield Cause("metadata.name", "FieldValueRequired", message)
    for field, name in (("metadata.generateName", prefix), ("metadata.name", meta["name"])):
        if name and (len(name) > _MAX_NAME or not re.fullmatch(_SUBDOMAIN, name)):
            yield Cause(field, "FieldValueInvalid", f'Invalid value: "{name}": {_NAME_RULE}')
    texts = meta.get("annotations", {}).items()
    if sum(len(k.encode()) + len(v.encode()) for k, v in texts) > _MAX_ANNOTATIONS_BYTES:
        message = f"Too long: may not be more than {_MAX_ANNOTATIONS_BYTES} bytes"
        yield Cause("metadata.annotations", "FieldValueTooLong", message)


def _without_meta(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if k != "metadata"}
