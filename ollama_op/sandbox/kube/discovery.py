"""What clients ask before they ask for objects: versions, API groups, resources, OpenAPI.

OpenAPI v3 has what `kubectl explain` and the validation of `kubectl apply` read, and no more. There
is neither aggregated discovery nor OpenAPI v2: kubectl does without.
"""

from collections.abc import Sequence
from itertools import groupby

from ollama_op.base.json import Object
from ollama_op.sandbox.kube.resources import APIResource

SERVER_VERSION = {
    "major": "1",
    "minor": "35",
    "gitVersion": "v1.35.4-sandbox",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "",
}
_ACCESS_REVIEW = {
    "name": "selfsubjectaccessreviews",
    "singularName": "selfsubjectaccessreview",
    "namespaced": False,
    "kind": "SelfSubjectAccessReview",
    "verbs": ["create"],
}
SERVED = {  # whatever the question, which kubectl sends as protobuf
    "kind": "SelfSubjectAccessReview",
    "apiVersion": "authorization.k8s.io/v1",
    "status": {"allowed": True},
}
ACCESS_REVIEW_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def documents(resources: Sequence[APIResource]) -> dict[str, Object]:
    """Return every discovery document by its path."""
    lists = {
        api_version: [entry for resource in group for entry in _entries(resource)]
        for api_version, group in groupby(resources, lambda r: r.api_version)
    }
    lists["authorization.k8s.io/v1"] = [_ACCESS_REVIEW]
    return {
        "/version": SERVER_VERSION,
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(name) for name in lists if "/" in name],
        },
        **{f"/apis/{name.partition('/')[0]}": _group(name) for name in lists if "/" in name},
        **{_root(name): _resource_list(name, entries) for name, entries in lists.items()},
        "/openapi/v3": {
            "paths": {
                _root(name).lstrip("/"): {"serverRelativeURL": f"/openapi/v3{_root(name)}"}
                for name in lists
            }
        },
        **{
            f"/openapi/v3{_root(name)}": _openapi([r for r in resources if r.api_version == name])
            for name in lists
        },
    }


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _group(api_version: str) -> Object:
    name, _, version = api_version.partition("/")
    entry = {"groupVersion": api_version, "version": version}
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": [entry],
        "preferredVersion": entry,
    }


def _resource_list(api_version: str, entries: Sequence[Object]) -> Object:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version,
        "resources": list(entries),
    }


def _entries(resource: APIResource) -> list[Object]:
    entry: Object = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
        "shortNames": list(resource.short_names),
        "categories": list(resource.categories),
    }
    if not resource.has_status:
        return [entry]
    verbs = ["get", "patch", "update"]
    status = {"name": f"{resource.plural}/status", "singularName": "", "verbs": verbs}
    return [entry, {"namespaced": resource.namespaced, "kind": resource.kind, **status}]


def _openapi(resources: Sequence[APIResource]) -> Object:
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": SERVER_VERSION["gitVersion"]},
        "paths": {_path(resource): {"patch": _operation(resource)} for resource in resources},
        "components": {"schemas": {_definition(r): _schema(r) for r in resources}},
    }


def _path(resource: APIResource) -> str:
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    return f"{_root(resource.api_version)}{scope}/{resource.plural}/{{name}}"


def _operation(resource: APIResource) -> Object:
    field_validation = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    return {
        "operationId": f"patch{resource.kind}",
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": _gvk(resource),
        "parameters": [field_validation],
        "responses": {"200": {"description": "OK"}},
    }


def _schema(resource: APIResource) -> Object:
    schema = resource.schema or {"type": "object"}
    meta = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "description": "Standard object's metadata."},
    }
    return {
        **schema,
        "properties": meta | schema.get("properties", {}),
        "x-kubernetes-group-version-kind": [_gvk(resource)],
    }


def _definition(resource: APIResource) -> str:
    return ".".join([*reversed(resource.group.split(".")), resource.version, resource.kind])


def _gvk(resource: APIResource) -> Object:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}
