"""Label and field selectors: `a=b`, `a==b`, `a!=b`; for labels also `a` and `!a`."""

from collections.abc import Callable

from ollama_op.base.json import Object
from ollama_op.sandbox.http import SandboxRequest
from ollama_op.sandbox.kube.resources import APIResource
from ollama_op.sandbox.status import bad_request

Predicate = Callable[[Object], bool]

_FIELDS = ("metadata.name", "metadata.namespace")


def selector(resource: APIResource, namespace: str | None, request: SandboxRequest) -> Predicate:
    """Return the test for the objects that a list, a watch or a deletecollection is about.

    Raises: ApiError 400 for a selector that cannot be read, set-based ones among them.
    """
    tests = [_label(term) for term in _terms(request.query.get("labelSelector", ""))]
    tests += [_field(resource, term) for term in _terms(request.query.get("fieldSelector", ""))]
    if namespace is not None:
        tests.append(lambda obj: obj["metadata"].get("namespace") == namespace)
    return lambda obj: all(test(obj) for test in tests)


def _terms(text: str) -> list[str]:
    return [term.strip() for term in text.split(",") if term.strip()]


def _label(term: str) -> Predicate:
    if "(" in term or " " in term:
        raise bad_request(f'unable to parse requirement: "{term}" is not an equality')
    name, equal, value = _split(term)
    if equal is None:
        wanted = not name.startswith("!")
        return lambda obj: (name.lstrip("!") in _labels(obj)) is wanted
    return lambda obj: (_labels(obj).get(name) == value) is equal


def _field(resource: APIResource, term: str) -> Predicate:
    name, equal, value = _split(term)
    if equal is None or name not in (*_FIELDS, *resource.fields):
        raise bad_request(f"field label not supported: {name}")
    return lambda obj: (_at(obj, name) == value) is equal


def _split(term: str) -> tuple[str, bool | None, str]:
    """Take `a!=b` apart: name, whether it must be equal (None: there is no operator), value."""
    for operator, equal in (("!=", False), ("==", True), ("=", True)):
        name, found, value = term.partition(operator)
        if found:
            return name.strip(), equal, value.strip()
    return term, None, ""


def _labels(obj: Object) -> dict[str, str]:
    labels: dict[str, str] = obj["metadata"].get("labels", {})
    return labels


def _at(obj: object, path: str) -> str:
    for name in path.split("."):
        obj = obj.get(name, "") if isinstance(obj, dict) else ""
    return obj if isinstance(obj, str) else ""
